"""Detections as results files, and their average precision."""

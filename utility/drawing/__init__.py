"""Drawings of detections on images, and of precision-recall curves."""

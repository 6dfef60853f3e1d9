"""Scores of a checkpoint, by itself or in the course of a training."""

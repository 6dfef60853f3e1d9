"""Checkpoints: finding, checking and copying them, and starting from one."""

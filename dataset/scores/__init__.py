"""Results files of detections, and their average precision."""

"""Pictures of detections and of curves."""

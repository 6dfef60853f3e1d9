"""What detections get wrong: kinds of error, thresholds, confusions and sizes, from detections and annotations alone."""

"""What detections get wrong, and at which scores and sizes: from detections and annotations alone."""

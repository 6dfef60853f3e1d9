"""Box geometry, default boxes, matching and encoding."""

"""Box geometry, default boxes, matching, encoding and decoding."""

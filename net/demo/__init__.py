"""The demo: detections in pictures, videos and before a camera, drawn and written."""

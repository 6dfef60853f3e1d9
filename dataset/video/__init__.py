"""Videos and cameras: what the demo is given, frames in and out."""

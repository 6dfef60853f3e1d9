"""Data sets: reading VOC, writing and reading TFRecords."""

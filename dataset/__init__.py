"""Data sets: label formats, TFRecords, input functions and scores."""

"""TFRecords: their schema, files and contents."""

"""TFRecords: schema, files, and what they contain."""

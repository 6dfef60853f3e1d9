"""Conversion of annotations and pictures to TFRecords."""

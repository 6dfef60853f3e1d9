"""From sources to records."""

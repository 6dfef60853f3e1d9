"""Label formats, class names and picture files: what a data set is before it is converted."""

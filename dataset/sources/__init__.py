"""Label formats, class names and picture files of data sets that are to be converted."""

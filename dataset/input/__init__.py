"""Input functions of training and evaluation, from records to batches."""

"""From records to batches: the input functions of training and evaluation."""

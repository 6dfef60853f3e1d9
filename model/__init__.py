"""Pre-trained weights, and the importer that converts weight files to this project's checkpoints."""

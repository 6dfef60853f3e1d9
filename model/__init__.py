"""Pre-trained weights, and the importer that turns other projects' files into this project's checkpoints."""

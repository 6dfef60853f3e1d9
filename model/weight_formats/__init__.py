"""What the weight importer knows: file formats, their layouts, and how VGG-16 is reduced for SSD."""

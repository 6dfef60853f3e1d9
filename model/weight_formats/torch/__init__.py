"""PyTorch: state dicts, and VGG-16 in them."""

"""PyTorch: state dicts in files of torch.save, read without PyTorch, and the VGG-16 in them."""

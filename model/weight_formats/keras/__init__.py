"""Keras: HDF5 files of VGG-16, ResNet50 and MobileNet."""

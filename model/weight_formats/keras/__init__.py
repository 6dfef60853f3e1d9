"""Keras: HDF5 files of VGG16, ResNet50 and MobileNet, and where Keras publishes them."""

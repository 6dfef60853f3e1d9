"""Weight files: readers for Caffe, Keras, PyTorch and TensorFlow, and the conversion of VGG-16 for SSD."""

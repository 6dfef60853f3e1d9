"""Caffe: caffemodel files, and the VGG-16 or whole SSD300 in them."""

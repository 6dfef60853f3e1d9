"""Caffe: caffemodels, VGG-16 and whole SSD detectors in them."""

"""The ground floor: configuration, flags, boxes, checkpoints, running a process, and drawing.

Importing this package sets the process environment that TensorFlow reads once, when it is imported; every
script of the project imports it before TensorFlow. A value that the user has set is left alone, but for Keras.
"""

import os

# `tf.layers` comes from Keras 2, the package tf_keras; Keras 3 does not have it.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# oneDNN's convolutions are about 8 % faster for SSD300, but off by default on CPUs without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The C++ side logs start-up facts (CPU features, missing CUDA) at level INFO; warnings and errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

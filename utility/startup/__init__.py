"""TensorFlow on this machine: its start, `tf.estimator`, and CUDA libraries."""

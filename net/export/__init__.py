"""The detector as SavedModel, TensorFlow Lite and ONNX."""

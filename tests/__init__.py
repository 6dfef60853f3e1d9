"""Tests. TensorFlow starts here as in a script, before any of the project's modules that builds on it is imported."""

from utility.startup.start import start_tensorflow

start_tensorflow()

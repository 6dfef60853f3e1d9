"""Flags that several command lines have in common."""

from __future__ import annotations

from absl import flags

from utility.flags import numbers, scopes


def define_data() -> None:
    """Define the flags of a command line that reads records."""
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records and labels.txt")
    numbers.define_integer("num_classes", None, "classes with background; only to be checked against labels.txt")
    numbers.define_integer("num_readers", 8, "record files read at once in training")
    numbers.define_integer("num_preprocessing_threads", 24, "images preprocessed at once")


def define_device() -> None:
    """Define the flags of a command line that runs the network."""
    numbers.define_integer("num_cpu_threads", 0, "threads TensorFlow computes with; 0: as many as there are cores")
    numbers.define_float("gpu_memory_fraction", 1.0, "part of a GPU's memory to take")
    define_network()


def define_network() -> None:
    """Define how the network is computed."""
    half = "compute in float16 on a GPU, in bfloat16 on a processor that can; variables stay float32"
    flags.DEFINE_boolean("mixed_precision", False, half)
    flags.DEFINE_enum(
        "data_format",
        None,
        ["channels_first", "channels_last"],
        "layout of the network's maps; default: what the device runs best",
    )


def define_model_dir() -> None:
    """Define --model_dir."""
    flags.DEFINE_string("model_dir", "./logs/", "folder of checkpoints, logs, config.json and results")


def define_checkpoint() -> None:
    """Define the flags of a command line that takes a trained network."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    define_model_scope()


def define_model_scope() -> None:
    """Define --model_scope."""
    scopes.define_scope("model_scope", "ssd300", "scope of the network's variables")

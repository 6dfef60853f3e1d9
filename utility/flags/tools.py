"""The flags of the smaller command lines: importing weights, looking into a checkpoint, curves, benchmarks."""

from __future__ import annotations

from absl import flags

from utility.config import presets
from utility.config.settings import BACKBONES, Config
from utility.flags import config_flags, groups, numbers

FLAGS = flags.FLAGS


def define_import() -> None:
    """Define the flags of model/import_weights.py."""
    flags.DEFINE_string("source", None, "file with the weights; default: Keras' ImageNet weights, downloaded")
    flags.DEFINE_enum("backbone", "vgg16", [*BACKBONES], "which to download")
    width = "which width of mobilenet_v1 to download: 1, 0.75, 0.5 or 0.25"
    numbers.define_float("depth_multiplier", 1.0, width, "network.depth_multiplier")
    flags.DEFINE_string(
        "output",
        None,
        "checkpoint to write; default: model/vgg16_reducedfc.ckpt, of other backbones model/BACKBONE/model.ckpt,"
        " of a detector model/ssd300_caffe/model.ckpt",
    )


def define_checkpoint_inspect() -> None:
    """Define the flags of utility/checkpoint_inspect.py."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_boolean("slots", False, "list the optimizer's variables too")


def define_draw_curves() -> None:
    """Define the flags of utility/draw_curves.py."""
    flags.DEFINE_multi_string("model_dir", ["./logs"], "folder of a training; several times for several trainings")
    where = "PNG to write; default: curves.png in the folder of a single training, else in the folder here"
    flags.DEFINE_string("output", None, where)


def define_benchmark() -> None:
    """Define the flags of utility/benchmark.py."""
    flags.DEFINE_enum("measure", "input", ["input", "train", "eval", "metric"], "what to time")
    flags.DEFINE_string("data_dir", None, "folder with the records; default: a sample set made for the run")
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    config_flags.define(config_flags.NETWORK)
    numbers.define_integer("batch_size", 8, "images a batch", "schedule.batch_size")
    numbers.define_integer("batches", 10, "batches of a turn")
    numbers.define_integer("turns", 5, "turns that each part takes; their median counts")
    groups.define_network()

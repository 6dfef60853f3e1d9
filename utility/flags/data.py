"""The flags of the command lines that make and inspect data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from utility.config import checks, presets
from utility.config.settings import Config, ViewConfig
from utility.flags import config_flags, numbers

FLAGS = flags.FLAGS

_SETTINGS = (config_flags.NETWORK, config_flags.SIZE, config_flags.OBJECTS)  # of the network that is to find objects


class SourceFlag(NamedTuple):
    """A flag of one label format; it has no effect with the others, and is refused there."""

    name: str
    text: str
    default: str | None = None
    is_list: bool = False
    must_be: str = ""  # what to give, where the format cannot do without the flag


def define_convert(formats: Mapping[str, Sequence[SourceFlag]]) -> None:
    """Define the flags of dataset/convert_tfrecords.py, those of each label format by its name; the first is default.

    A flag that several formats have is the same for all of them.
    """
    flags.DEFINE_enum("format", next(iter(formats)), [*formats], "what the annotations are")
    flags.DEFINE_string("output_directory", "./dataset/tfrecords", "folder for the records")
    for flag in {flag.name: flag for of_format in formats.values() for flag in of_format}.values():
        (flags.DEFINE_list if flag.is_list else flags.DEFINE_string)(flag.name, flag.default, flag.text)
    numbers.define_float(
        "validation_fraction",
        None,
        "part of the training pictures to take for validation, where these are the only ones; the same each time",
    )
    numbers.define_integer("train_shards", 16, "number of training record files")
    numbers.define_integer("validation_shards", 16, "number of validation record files")
    numbers.define_integer("num_threads", 8, "threads that read and check pictures")
    numbers.define_integer(
        "max_side",
        640,
        "pixels to which the longer side of larger pictures is reduced, also in use",
        "views.max_side",
    )
    numbers.define_integer(
        "tile_size", None, "side in pixels of tiles that pictures are cut into, also in use", "views.tile_size"
    )
    numbers.define_float(
        "tile_overlap",
        ViewConfig.tile_overlap,
        "least part of a tile's side that its neighbour shares",
        "views.tile_overlap",
    )
    flags.DEFINE_boolean("strict", False, "take a bad annotation as an error instead of mending or dropping it")
    flags.DEFINE_boolean("skip_bad_images", False, "leave out pictures that cannot be read, instead of stopping")
    flags.register_validator("format", lambda chosen: _check_format(chosen, formats))


def views() -> ViewConfig:
    """Return the flags that say what the network is shown of a picture."""
    return ViewConfig(FLAGS.max_side, FLAGS.tile_size, FLAGS.tile_overlap)


def _check_format(chosen: str, formats: Mapping[str, Sequence[SourceFlag]]) -> bool:
    own = {flag.name for flag in formats[chosen]}
    for name, others in formats.items():
        foreign = [flag.name for flag in others if flag.name not in own and FLAGS[flag.name].present]
        if foreign:
            raise flags.ValidationError(f"--{foreign[0]} is for --format={name}; leave one of the two out")
    for flag in formats[chosen]:
        if flag.must_be and not FLAGS[flag.name].value:
            raise flags.ValidationError(f"--{flag.name} is missing: give {flag.must_be}")
    return True


def define_sample() -> None:
    """Define the flags of dataset/make_sample_voc.py."""
    flags.DEFINE_string("output_directory", "./quickstart/VOC", "folder for the sample set")
    numbers.define_integer("num_train", 200, "training pictures")
    numbers.define_integer("num_test", 50, "test pictures")
    numbers.define_integer("seed", 0, "another seed draws other pictures")


def define_inspect() -> None:
    """Define the flags of dataset/dataset_inspect.py."""
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    for settings in _SETTINGS:
        config_flags.define(settings)
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records")
    flags.DEFINE_enum("split", "train", ["train", "val"], "which records")
    flags.DEFINE_string("output", None, "folder for pictures with their boxes drawn")
    numbers.define_integer("count", 16, "how many pictures to draw")


def inspected_config(class_names: tuple[str, ...]) -> Config:
    """Return the preset for these classes with the settings given; a UserError names one that cannot work."""
    config = presets.preset(FLAGS.preset).replace({"class_names": class_names})
    return checks.check(config_flags.with_flags(config, *_SETTINGS))

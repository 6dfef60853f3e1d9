"""Flags that several command lines share, above all those that set a hyper-parameter.

A flag of a setting takes its type, range and default from the dataclasses of utility/config/settings.py. It replaces
the preset's value only where it is given, so the other presets keep theirs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from absl import flags
from msgspec import Meta

from utility.config import checks, presets
from utility.config.settings import BACKBONES, Config, Count
from utility.errors import UserError
from utility.files.json_files import converted
from utility.files.text_files import shortened

FLAGS = flags.FLAGS
_SCOPE = r"[A-Za-z0-9_.>-]+(/[A-Za-z0-9_.>-]+)*"  # of characters that TensorFlow allows in a name

Settings = Mapping[str, tuple[str, str]]  # flag -> (setting of the config, what it is)

TRAINING: Settings = {
    "batch_size": ("schedule.batch_size", "images a step, over all devices"),
    "max_number_of_steps": ("schedule.max_number_of_steps", "train until this step"),
    "learning_rate": ("schedule.learning_rate", "learning rate that lr_decay_factors scale"),
    "end_learning_rate": ("schedule.end_learning_rate", "lower limit of the learning rate"),
    "decay_boundaries": ("schedule.decay_boundaries", "steps at which the learning rate changes"),
    "lr_decay_factors": ("schedule.lr_decay_factors", "factors of the learning rate, one more than boundaries"),
    "momentum": ("schedule.momentum", "momentum of the optimizer"),
    "clip_gradient_norm": ("schedule.clip_gradient_norm", "largest norm of all gradients together; 0: no limit"),
    "weight_decay": ("loss.weight_decay", "weight decay of all variables"),
    "localization_weight": ("loss.localization_weight", "factor of the location loss, which the log gives with it"),
    "negative_ratio": ("loss.negative_ratio", "mined background boxes for each positive"),
}
BACKBONE: Settings = {
    "backbone": ("network.backbone", "network whose maps the boxes are found in"),
    "depth_multiplier": ("network.depth_multiplier", "factor of the number of filters in backbone and extra layers"),
}
# the network, and which objects it can learn and find
NETWORK: Settings = {
    **BACKBONE,
    "train_image_size": ("network.image_size", "side of the network's input, or HEIGHTxWIDTH, pixels"),
    "anchor_scales": ("anchors.scales", "sizes of the default boxes, fractions of the input, one a map and one more"),
    "match_threshold": ("targets.match_threshold", "IoU from which a default box is positive; not below neg_threshold"),
    "neg_threshold": ("targets.neg_threshold", "IoU below which a default box is background; in between it is ignored"),
    "min_size": ("detection.min_size", "fraction of the image's sides above which those of a detection must be"),
}


def define_number(
    name: str, kind: Any, default: float | None, text: str, error: type[Exception] = flags.ValidationError
) -> None:
    """Define a flag with a number in the range of its type, such as Annotated[int, Meta(ge=1)]; `error` refuses it."""
    meta = kind.__metadata__[0]
    limits = [(">", meta.gt), (">=", meta.ge), ("<", meta.lt), ("<=", meta.le)]
    shown = ", ".join(f"{sign} {limit}" for sign, limit in limits if limit is not None)
    define: Any = flags.DEFINE_integer if kind.__origin__ is int else flags.DEFINE_float
    define(name, default, f"{text} ({shown})")

    def is_in_range(value: float | None) -> bool:
        try:
            return value is None or converted(value, kind) is not None
        except UserError as fault:
            raise error(f"--{name}={value}: {fault}" if error is UserError else str(fault)) from None

    flags.register_validator(name, is_in_range)


def type_of(setting: str) -> Any:
    """Return the type of a setting with its range, by its dotted name."""
    kind: Any = Config
    for part in setting.split("."):
        kind = get_type_hints(kind, include_extras=True)[part]
    return kind


def define_settings(settings: Settings, defaults: Config) -> None:
    """Define a flag for each setting; a value out of its range is a UserError as soon as the flags are parsed."""
    for name, (setting, text) in settings.items():
        kind, default = type_of(setting), attrgetter(setting)(defaults)
        if name == "backbone":
            flags.DEFINE_enum(name, default, [*BACKBONES], text)
        elif get_origin(kind) is tuple:
            define_numbers(name, setting, ",".join(map(str, default)), f"{text} (comma-separated)")
        else:
            define_number(name, kind, default, text, UserError)


def define_numbers(name: str, setting: str, default: str | None, text: str) -> None:
    """Define a flag for a setting of several numbers; a wrong one is a UserError."""
    kind = type_of(setting)
    flags.DEFINE_string(name, default, text)
    flags.register_validator(name, lambda given: given is None or _numbers(name, kind, given) is not None)


def _numbers(name: str, kind: Any, text: Any) -> tuple[float, ...]:
    """Return the numbers of a flag that holds several, of --train_image_size also if it is given as one side."""
    is_size = name == "train_image_size"
    parts = [part for part in (text.replace("x", ",") if is_size else text).split(",") if part.strip()]
    try:
        numbers = [*map(get_args(kind)[0].__origin__, parts)]
        return converted(numbers * 2 if is_size and len(parts) == 1 else numbers, kind)
    except ValueError as error:  # of int() or float(), or a UserError
        must_be = "a number of pixels, or HEIGHTxWIDTH such as 300x300" if is_size else "numbers, separated by commas"
        raise UserError(f"--{name}={shortened(text)}: must be {must_be} ({error})") from None


def with_flags(base: Config, *groups: Settings) -> Config:
    """Return the config with those settings of some groups whose flags are given on the command line."""
    changes = {}
    for name, (setting, _) in (flag for group in groups for flag in group.items()):
        if FLAGS[name].present:
            kind, value = type_of(setting), FLAGS[name].value
            changes[setting] = _numbers(name, kind, value) if get_origin(kind) is tuple else value
    return base.replace(changes)


def as_typed(*names: str) -> list[str]:
    """Return those of some flags that are given, as they would be typed."""
    return [shlex.quote(f"--{name}={FLAGS[name].value}") for name in names if FLAGS[name].present]


def define_preset(settings: Settings) -> None:
    """Define --preset and flags that replace its settings."""
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    define_settings(settings, Config())


def asked_config(class_names: tuple[str, ...], *groups: Settings) -> Config:
    """Return --preset for these classes with the settings given; a UserError names one that cannot work."""
    return checks.check(with_flags(presets.preset(FLAGS.preset).replace({"class_names": class_names}), *groups))


def define_data() -> None:
    """Define the flags of a command line that reads records."""
    threads = Annotated[int, Meta(ge=1, le=1024)]
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records and labels.txt")
    define_number("num_classes", Count, None, "classes with background; only to be checked against labels.txt")
    define_number("num_readers", threads, 8, "record files read at once in training")
    define_number("num_preprocessing_threads", threads, 24, "images preprocessed at once")
    skipped = "leave out broken records; reads and decodes all once, copies go to TMPDIR"
    flags.DEFINE_boolean("skip_bad_records", False, skipped)


def define_device() -> None:
    """Define the flags of a command line that runs the network."""
    cores = "threads TensorFlow computes with; 0: as many as there are cores"
    define_number("num_cpu_threads", Annotated[int, Meta(ge=0, le=1024)], 0, cores)
    define_number("gpu_memory_fraction", Annotated[float, Meta(ge=0.01, le=1)], 1.0, "part of a GPU's memory to take")
    define_computation()


def define_computation() -> None:
    """Define how the network is computed."""
    half = "compute in float16 on a GPU, in bfloat16 on a processor that can; variables stay float32"
    flags.DEFINE_boolean("mixed_precision", False, half)
    layout = "layout of the network's maps; default: what the device runs best"
    flags.DEFINE_enum("data_format", None, ["channels_first", "channels_last"], layout)


def define_model_dir() -> None:
    """Define --model_dir and --model_scope."""
    flags.DEFINE_string("model_dir", "./logs/", "folder of checkpoints, logs, config.json and results")
    define_model_scope()


def define_model_scope() -> None:
    """Define --model_scope."""
    define_scope("model_scope", "ssd300", "scope of the network's variables", rf"(?!_){_SCOPE}")


def define_scope(name: str, default: str | None, text: str, pattern: str = f"({_SCOPE})?") -> None:
    """Define a flag with a scope of variables; that of a checkpoint, which is only looked up, may be empty."""
    flags.DEFINE_string(name, default, text)
    must_be = "must be a scope such as ssd300 or a/ssd300: letters, digits and . _ - without a slash at its end"
    flags.register_validator(name, lambda scope: scope is None or bool(re.fullmatch(pattern, scope)), must_be)

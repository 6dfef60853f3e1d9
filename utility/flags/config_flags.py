"""Flags that set a hyper-parameter.

Such a flag takes its type and default from the dataclasses of utility/config/settings.py. It replaces the preset's
value only where it is given, so the other presets keep theirs.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from typing import Any

from absl import flags

from utility.config import checks, memory
from utility.config.settings import BACKBONES, Config
from utility.errors import UserError
from utility.files.text_files import shortened, whole_number
from utility.flags import numbers

FLAGS = flags.FLAGS

Settings = Mapping[str, tuple[str, str]]  # flag -> (setting of the config, what it is)

TRAINING: Settings = {
    "batch_size": ("schedule.batch_size", "images a step, over all devices"),
    "max_number_of_steps": ("schedule.max_number_of_steps", "train until this step"),
    "learning_rate": ("schedule.learning_rate", "learning rate that lr_decay_factors scale"),
    "end_learning_rate": ("schedule.end_learning_rate", "floor of the learning rate"),
    "decay_boundaries": ("schedule.decay_boundaries", "steps at which the learning rate changes"),
    "lr_decay_factors": ("schedule.lr_decay_factors", "factors of the learning rate, one more than boundaries"),
    "momentum": ("schedule.momentum", "momentum of the optimizer"),
    "clip_gradient_norm": ("schedule.clip_gradient_norm", "largest norm of all gradients together; 0: no limit"),
    "weight_decay": ("loss.weight_decay", "weight decay of all variables"),
    "localization_weight": ("loss.localization_weight", "factor of the location loss, which the log gives with it"),
    "negative_ratio": ("loss.negative_ratio", "mined background boxes for each positive"),
}
NETWORK: Settings = {
    "backbone": ("network.backbone", f"one of {', '.join(BACKBONES)}"),
    "depth_multiplier": ("network.depth_multiplier", "factor of the number of filters in backbone and extra layers"),
}
DETECTION: Settings = {
    "select_threshold": ("detection.select_threshold", "class probability above which a box is a detection"),
    "min_size": ("detection.min_size", "fraction of the image's sides above which those of a detection must be"),
    "keep_topk": ("detection.keep_topk", "boxes of a class that enter non-maximum suppression"),
    "nms_topk": ("detection.nms_topk", "boxes of a class that leave non-maximum suppression"),
    "nms_threshold": ("detection.nms_threshold", "IoU above which the box with the lower score is suppressed"),
}
# which objects a training can learn and find
OBJECTS: Settings = {
    "anchor_scales": ("anchors.scales", "sizes of the default boxes, fractions of the input, one a map and one more"),
    "match_threshold": ("targets.match_threshold", "IoU from which a default box is positive; not below neg_threshold"),
    "neg_threshold": ("targets.neg_threshold", "IoU below which a default box is background; in between it is ignored"),
    "min_size": DETECTION["min_size"],
}
SIZE: Settings = {"train_image_size": ("network.image_size", "side of the network's input, or HEIGHTxWIDTH, pixels")}


def define(settings: Settings, defaults: Config | None = None) -> None:
    """Define a flag for each setting; `defaults` gives the default values, without it those of the dataclasses.

    A value that the setting must not have is a UserError as soon as the flags are parsed.
    """
    for name, (setting, text) in settings.items():
        default = value_at(defaults or Config(), setting)
        if isinstance(default, tuple):
            flags.DEFINE_string(name, ",".join(map(str, default)), f"{text} (comma-separated)")
        elif isinstance(default, str):
            flags.DEFINE_string(name, default, text)
        else:
            numbers.define_unchecked(name, default, text)
        flags.register_validator(name, functools.partial(_check, name, setting))


def define_checked_size() -> None:
    """Define --train_image_size for a command line that takes the size from a checkpoint's config."""
    flags.DEFINE_string("train_image_size", None, "side of the input; only to be checked against the checkpoint's")
    flags.register_validator("train_image_size", lambda size: size is None or bool(_image_size(size)))


def with_flags(base: Config, *groups: Settings) -> Config:
    """Return the config with those settings of some groups whose flags are given on the command line."""
    given = {name: setting for settings in groups for name, (setting, _) in settings.items() if FLAGS[name].present}
    return base.replace({setting: _parsed(name, setting, FLAGS[name].value) for name, setting in given.items()})


def given(*groups: Settings) -> list[str]:
    """Return those flags of some groups that the command line has, as it would be typed."""
    names = [name for settings in groups for name in settings if FLAGS[name].present]
    return [shlex.quote(f"--{name}={FLAGS[name].value}") for name in names]


def with_detection_flags(base: Config) -> Config:
    """Return a checkpoint's config with the detection settings given.

    Raises:
      UserError: its input has another size than the flag, or this machine has no memory for a batch.
    """
    size = FLAGS["train_image_size"].value
    if size is not None and _image_size(size) != base.network.image_size:
        height, width = base.network.image_size
        raise UserError(
            f"--train_image_size={size}: the checkpoint was trained at {height}x{width}; leave the flag out"
        )
    if "batch_size" in FLAGS:
        memory.check_detection(base, FLAGS.batch_size, "take a smaller --batch_size")
    else:
        memory.check_detection(base, 1, "take a larger machine, or train a network with a smaller input")
    return with_flags(base, DETECTION)


def _check(name: str, setting: str, given: Any) -> bool:
    """Raise a UserError with the name of a flag if its setting must not have the value."""
    requirement = checks.requirement(setting, _parsed(name, setting, given))
    if requirement:
        raise UserError(f"--{name}={shortened(given)}: must be {requirement}")
    return True


def value_at(config: Config, setting: str) -> Any:
    """Return a setting by its dotted name."""
    value: Any = config
    for part in setting.split("."):
        value = getattr(value, part)
    return value


def _parsed(name: str, setting: str, value: Any) -> Any:
    """Return the value of a flag as the config holds it, a comma-separated one as a tuple."""
    if name in SIZE:
        return _image_size(value)
    default = value_at(Config(), setting)
    if not isinstance(default, tuple):
        return value
    kind = type(default[0])
    parts = [numbers.read(kind, part) for part in value.split(",") if part.strip()]
    if None in parts:
        raise UserError(
            f"--{name}={shortened(value)}: must be {numbers.kind_name(kind)} or several, separated by commas"
        )
    return tuple(parts)


def _image_size(value: str) -> tuple[int, int]:
    sides = [whole_number(part) for part in value.replace(",", "x").split("x")]
    if len(sides) > 2 or not all(side and side > 0 for side in sides):
        raise UserError(
            f"--train_image_size={shortened(value)}: must be a number of pixels, or HEIGHTxWIDTH such as 300x300"
        )
    return sides[0] or 0, sides[-1] or 0

"""The flags of a command line that detects with a trained network, and the config that they give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from utility.config import checks, config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.flags import FLAGS, NETWORK, Settings, define_model_scope, define_numbers, define_settings, with_flags

_SIZE = "train_image_size"
_DETECTION: Settings = {
    "select_threshold": ("detection.select_threshold", "class probability above which a box is a detection"),
    "min_size": NETWORK["min_size"],
    "keep_topk": ("detection.keep_topk", "boxes of a class that enter non-maximum suppression"),
    "nms_topk": ("detection.nms_topk", "boxes of a class that leave non-maximum suppression"),
    "nms_threshold": ("detection.nms_threshold", "IoU above which the box with the lower score is suppressed"),
}


def define_checkpoint() -> None:
    """Define --checkpoint_path and --model_scope."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    define_model_scope()


def define_detection(changes: Mapping[str, Any] = {}) -> None:
    """Define the flags of detection; their defaults are those of the config with some changes."""
    define_settings(_DETECTION, Config().replace(changes))
    text = "side of the input; only to be checked against the checkpoint's"
    define_numbers(_SIZE, "network.image_size", None, text)


def config_beside(checkpoint: str) -> Config | None:
    """Return the config of a checkpoint, given by its folder, prefix or file; None if there is no config.json."""
    return config_file.load(checkpoint if Path(checkpoint).is_dir() else str(Path(checkpoint).parent))


def trained_config(checkpoint: str, class_names: tuple[str, ...], changes: Mapping[str, Any] = {}) -> Config:
    """Return the config beside a checkpoint with some changes, and then with the flags of detection.

    Without a config.json it is the default one for `class_names`. A UserError if --train_image_size is not its size.
    """
    trained = config_beside(checkpoint) or Config(class_names=class_names)
    config = with_flags(trained.replace(changes), {**_DETECTION, _SIZE: NETWORK[_SIZE]})
    if config.network.image_size != trained.network.image_size:
        height, width = trained.network.image_size
        raise UserError(f"--{_SIZE}={FLAGS[_SIZE].value}: the checkpoint was trained at {height}x{width}; leave it out")
    return checks.check(config)

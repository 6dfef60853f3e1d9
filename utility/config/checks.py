"""Validation of a config: the range of each setting, and the consistency of settings with each other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from utility.config import ranges
from utility.config.feature_maps import feature_maps
from utility.config.settings import BACKBONES, Config, ScheduleConfig
from utility.files.text_files import shortened

_TEXTS: dict[str, tuple[Callable[[Any], bool], str]] = {  # whether a value is valid, and what it must be
    "preset": (lambda name: name.splitlines() == [name], "one line of text"),
    "class_names": (
        lambda names: len(set(names)) == len(names) and all(name.splitlines() == [name.strip()] for name in names),
        "different from each other, each one line without space around it",
    ),
    "network.backbone": (lambda name: name in BACKBONES, f"in {[*BACKBONES]}"),
    "targets.coordinates": (lambda name: name in ("normalized", "absolute"), "normalized or absolute"),
}
_INTERVALS = ("augment.contrast", "augment.saturation", "augment.crop_scale", "augment.crop_ratio")
_LAYERS = "network.extra_layers"


def check(config: Config) -> Config:
    """Return the config if it is valid; otherwise raise a ValueError with the name and value of an invalid setting."""
    for name in settings_with_range():
        check_setting(name, attrgetter(name)(config))
    _check_extra_layers(config)
    _check_order(config)
    _check_layers(config)
    _check_schedule(config.schedule)
    return config


def settings_with_range() -> list[str]:
    """Return the dotted names of the settings that `check_setting` knows."""
    parts = {field.name for field in dataclasses.fields(Config)}
    numbers = [name for name in ranges.RANGES if name.split(".")[0] in parts and not name.startswith(_LAYERS)]
    return [*_TEXTS, *numbers]


def check_setting(name: str, value: Any) -> None:
    """Raise a ValueError with the name of a setting, its value, and what it must be, if the value is not valid."""
    unmet = requirement(name, value)
    _require(not unmet, name, value, unmet)


def requirement(name: str, value: Any) -> str:
    """Return what a setting must be, '' if its value is valid."""
    if name in _TEXTS:
        is_valid, text = _TEXTS[name]
        return "" if is_valid(value) else text
    return ranges.fault(name, value) or ""


def _check_extra_layers(config: Config) -> None:
    for layer in config.network.extra_layers:
        for field, value in dataclasses.asdict(layer).items():
            name = f"{_LAYERS}.{field}"
            if isinstance(value, str):
                _require(value in ("same", "valid"), name, value, "same, valid or a number of pixels")
            else:
                check_setting(name, value)


def _check_order(config: Config) -> None:
    """Check settings that must not be above or below another one."""
    for name in _INTERVALS:
        low, high = attrgetter(name)(config)
        _require(low <= high, name, (low, high), "in increasing order")
    for name, limit in (
        ("targets.neg_threshold", "targets.match_threshold"),
        ("schedule.end_learning_rate", "schedule.learning_rate"),
    ):
        value, highest = attrgetter(name)(config), attrgetter(limit)(config)
        _require(value <= highest, name, value, f"at most {limit}, {highest:g}")


def _check_layers(config: Config) -> None:
    maps = len(feature_maps(config.network))
    ratios, scales = config.anchors.ratios, config.anchors.scales
    _require(len(ratios) == maps and all(ratios), "anchors.ratios", ratios, f"{maps} tuples, one per feature map")
    number = f"{maps + 1} numbers (--anchor_scales), one for each of the {maps} feature maps and one more"
    _require(len(scales) == maps + 1, "anchors.scales", scales, number)
    _require(list(scales) == sorted(scales), "anchors.scales", scales, "in increasing order")


def _check_schedule(schedule: ScheduleConfig) -> None:
    boundaries, factors = schedule.decay_boundaries, schedule.lr_decay_factors
    _require(
        len(factors) == len(boundaries) + 1,
        "schedule.lr_decay_factors",
        factors,
        f"{len(boundaries) + 1} numbers, one more than decay_boundaries",
    )
    _require(
        list(boundaries) == sorted(set(boundaries)), "schedule.decay_boundaries", boundaries, "in increasing order"
    )
    for factor, of_bias in itertools.product(factors, (1.0, schedule.bias_lr_factor)):
        product = " x ".join(f"{value:g}" for value in (schedule.learning_rate, factor, of_bias))
        _require(
            ranges.is_float32(schedule.learning_rate * factor * of_bias),
            "schedule.learning_rate x lr_decay_factors x bias_lr_factor",
            product,
            "a number that float32 holds (1.2e-38 to 3.4e+38)",
        )


def _require(condition: bool, name: str, value: Any, requirement: str) -> None:
    if not condition:
        raise ValueError(f"{name}={shortened(value)}: must be {requirement}")

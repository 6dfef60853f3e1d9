"""Validation of a config: the range of each setting, and the consistency of settings with each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from utility.config.feature_maps import feature_maps
from utility.config.settings import BACKBONES, Config, ScheduleConfig


def check(config: Config) -> Config:
    """Return the config if it is valid; otherwise raise a ValueError with the name and value of an invalid setting."""
    _check_ranges(config)
    _check_layers(config)
    _check_schedule(config.schedule)
    return config


_Range = tuple[Callable[[Any], bool], str]  # whether a value is valid, and the requirement as error messages word it
_ABOVE_0: _Range = (lambda value: value > 0, "above 0")
_AT_LEAST_0: _Range = (lambda value: value >= 0, "0 or more")
_AT_LEAST_1: _Range = (lambda value: value >= 1, "1 or more")
_FRACTION: _Range = (lambda value: 0 <= value <= 1, "in [0, 1]")
_FRACTION_BELOW_1: _Range = (lambda value: 0 <= value < 1, "in [0, 1)")
_FRACTION_ABOVE_0: _Range = (lambda value: 0 < value <= 1, "in (0, 1]")
_INTERVAL_ABOVE_0: _Range = (
    lambda value: 0 < value[0] <= value[1] < math.inf,
    "above 0, the second not below the first",
)
_RANGES: dict[str, _Range] = {
    "class_names": (lambda names: len(set(names)) == len(names), "different from each other"),
    "network.backbone": (lambda name: name in BACKBONES, f"in {[*BACKBONES]}"),
    "network.depth_multiplier": (lambda value: 0 < value <= 2, "above 0, at most 2"),
    "network.image_size": (lambda sides: min(sides) >= 1, "1 pixel or more"),
    "network.l2_norm_scale": _ABOVE_0,
    "targets.match_threshold": _FRACTION_ABOVE_0,
    "targets.coordinates": (lambda name: name in ("normalized", "absolute"), "normalized or absolute"),
    "targets.prior_variances": (lambda variances: 0 < min(variances) <= max(variances) < math.inf, "above 0"),
    "loss.negative_ratio": _ABOVE_0,
    "loss.negatives_without_positive": _AT_LEAST_0,
    "loss.weight_decay": _AT_LEAST_0,
    "loss.scale_decay_factor": _AT_LEAST_0,
    "schedule.batch_size": _AT_LEAST_1,
    "schedule.max_number_of_steps": _AT_LEAST_1,
    "schedule.learning_rate": _ABOVE_0,
    "schedule.decay_boundaries": (lambda steps: all(0 <= step < math.inf for step in steps), "0 or more"),
    "schedule.lr_decay_factors": (lambda factors: all(0 < factor < math.inf for factor in factors), "above 0"),
    "schedule.momentum": _FRACTION_BELOW_1,
    "schedule.bias_lr_factor": _ABOVE_0,
    "schedule.clip_gradient_norm": _AT_LEAST_0,
    "augment.probability": _FRACTION,
    "augment.brightness": _AT_LEAST_0,
    "augment.contrast": _INTERVAL_ABOVE_0,
    "augment.saturation": _INTERVAL_ABOVE_0,
    # preprocessing/colours.py shifts the hue by one sector of 60 degrees at most
    "augment.hue_degrees": (lambda value: 0 <= value <= 60, "between 0 and 60"),
    "augment.max_zoom_out": _AT_LEAST_1,
    "augment.min_ious": (lambda values: all(0 <= value <= 1 for value in values), "in [0, 1]"),
    "augment.crop_trials": _AT_LEAST_1,
    "augment.crop_scale": (
        lambda value: 0 < value[0] <= value[1] <= 1,
        "above 0, at most 1, the second not below the first",
    ),
    "augment.crop_ratio": _INTERVAL_ABOVE_0,
    "detection.select_threshold": _FRACTION_BELOW_1,
    "detection.min_size": _FRACTION_BELOW_1,
    "detection.nms_threshold": _FRACTION_ABOVE_0,
    "detection.keep_topk": _AT_LEAST_1,
    "detection.nms_topk": _AT_LEAST_1,
    "detection.max_detections": (lambda value: value is None or value >= 1, "1 or more"),
}


def _check_ranges(config: Config) -> None:
    for name, (is_valid, requirement) in _RANGES.items():
        value = attrgetter(name)(config)
        _require(is_valid(value), name, value, requirement)
    targets, schedule = config.targets, config.schedule
    _require(
        0 <= targets.neg_threshold <= targets.match_threshold,
        "targets.neg_threshold",
        targets.neg_threshold,
        "between 0 and match_threshold",
    )
    _require(
        0 <= schedule.end_learning_rate <= schedule.learning_rate,
        "schedule.end_learning_rate",
        schedule.end_learning_rate,
        "between 0 and learning_rate",
    )


def _check_layers(config: Config) -> None:
    maps = len(feature_maps(config.network))
    _require(
        len(config.anchors.ratios) == maps,
        "anchors.ratios",
        config.anchors.ratios,
        f"{maps} tuples, one per feature map",
    )
    scales = config.anchors.scales
    _require(
        len(scales) == maps + 1,
        "anchors.scales",
        scales,
        f"{maps + 1} numbers, one per feature map and one more",
    )
    _require(
        list(scales) == sorted(scales) and 0 < scales[0] <= scales[-1] < math.inf,
        "anchors.scales",
        scales,
        "positive and in increasing order",
    )


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


def _require(condition: bool, name: str, value: Any, requirement: str) -> None:
    if not condition or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name}={value}: must be {requirement}")

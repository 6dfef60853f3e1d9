"""Validation of a config: each setting's type and range, and the consistency of settings with each other."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import Any

from utility.config.feature_maps import feature_maps
from utility.config.settings import BACKBONES, Config
from utility.errors import UserError
from utility.files.json_files import converted
from utility.files.text_files import shortened


def check(config: Config) -> Config:
    """Return the config if it is valid; otherwise raise a UserError with the name and value of an invalid setting."""
    converted(dataclasses.asdict(config), Config)  # compares each setting with the type and range of its field

    names, backbone = config.class_names, config.network.backbone
    one_line_each = all(name.splitlines() == [name.strip()] for name in names)
    different = "different from each other, each one line without space around it"
    _require(len(set(names)) == len(names) and one_line_each, "class_names", names, different)
    _require(backbone in BACKBONES, "network.backbone", backbone, f"one of {', '.join(BACKBONES)}")

    for name in ("augment.contrast", "augment.saturation", "augment.crop_scale", "augment.crop_ratio"):
        low, high = attrgetter(name)(config)
        _require(low <= high, name, (low, high), "in increasing order")
    for name, limit in (
        ("targets.neg_threshold", "targets.match_threshold"),
        ("schedule.end_learning_rate", "schedule.learning_rate"),
    ):
        value, highest = attrgetter(name)(config), attrgetter(limit)(config)
        _require(value <= highest, name, value, f"at most {limit}, {highest:g}")

    maps = len(feature_maps(config.network))
    ratios, scales = config.anchors.ratios, config.anchors.scales
    _require(len(ratios) == maps and all(ratios), "anchors.ratios", ratios, f"{maps} tuples, one per feature map")
    number = f"{maps + 1} numbers (--anchor_scales), one for each of the {maps} feature maps and one more"
    _require(len(scales) == maps + 1, "anchors.scales", scales, number)
    _require(list(scales) == sorted(scales), "anchors.scales", scales, "in increasing order")

    boundaries, factors = config.schedule.decay_boundaries, config.schedule.lr_decay_factors
    number = f"{len(boundaries) + 1} numbers, one more than decay_boundaries"
    _require(len(factors) == len(boundaries) + 1, "schedule.lr_decay_factors", factors, number)
    _require([*boundaries] == sorted({*boundaries}), "schedule.decay_boundaries", boundaries, "in increasing order")
    return config


def _require(condition: bool, name: str, value: Any, requirement: str) -> None:
    if not condition:
        raise UserError(f"{name}={shortened(value)}: must be {requirement}")

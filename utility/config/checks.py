"""Validation of a config: the range of each setting, and the consistency of settings with each other."""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from utility.config.feature_maps import feature_maps
from utility.config.settings import BACKBONES, Config, ScheduleConfig
from utility.errors import UserError
from utility.files.text_files import shortened

# The range of every number that a flag or config.json may set, in one table for both.

FLOAT32_MAX = 3.4028234663852886e38
_FLOAT32_MIN = 1.1754943508222875e-38  # TensorFlow computes with a smaller one as with 0
_INT32_MAX, _MOST_STEPS = 2**31 - 1, 10**12
_MOST_NUMBERS = 1000  # in a setting that holds several


class Range(NamedTuple):
    """The numbers from `low` to `high`; without `low` itself if `above`, without `high` if `below`."""

    low: float
    high: float = FLOAT32_MAX
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a number is in the range; of a float, whether the float32 that it becomes is."""
        if not isinstance(value, float):
            return self.spans(value)
        rounded = self._replace(low=as_float32(self.low), high=as_float32(self.high))
        return is_float32(value) and rounded.spans(as_float32(value))

    def spans(self, value: float) -> bool:
        """Tell whether a number is in the range as it is."""
        is_end = (self.above and value == self.low) or (self.below and value == self.high)
        return self.low <= value <= self.high and not is_end

    def __str__(self) -> str:
        """Return the range as an error words it: `must be ...`."""
        if not (self.above or self.below or self.high == FLOAT32_MAX):
            return f"from {_text(self.low)} to {_text(self.high)}"
        low = f"above {_text(self.low)}" if self.above else f"{_text(self.low)} or more"
        if self.high == FLOAT32_MAX:
            return f"{low}, and a number that float32 holds (1.2e-38 to 3.4e+38)"
        return f"{low}, and {'below' if self.below else 'at most'} {_text(self.high)}"


def as_float32(value: float) -> float:
    """Return the float32 nearest to a number, infinity if it is too large."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def is_float32(value: float) -> bool:
    """Tell whether a number stays finite as float32, and does not become 0 if it is not."""
    return value == 0 or _FLOAT32_MIN <= abs(as_float32(value)) <= FLOAT32_MAX


def numbers_in(value: Any) -> Iterator[float]:
    """Give the numbers of a setting: itself, or those of a tuple, which may hold tuples; none of None."""
    if isinstance(value, tuple):
        for item in value:
            yield from numbers_in(item)
    elif value is not None:
        yield value


def fault(name: str, value: Any) -> str | None:
    """Return what a number or a tuple of numbers must be to be in the range of its setting or flag, None if it is."""
    numbers = list(numbers_in(value))
    if len(numbers) > _MOST_NUMBERS:
        return f"{_MOST_NUMBERS} numbers at most"
    wrong = next((number for number in numbers if not RANGES[name].holds(number)), None)
    if wrong is None:
        return None
    counted = as_float32(wrong) if is_float32(wrong) else 0.0
    return f"{RANGES[name]}{f'; as float32 it is {counted:g}' if RANGES[name].spans(wrong) else ''}"


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


_ABOVE_0 = Range(0, above=True)
_AT_LEAST_0 = Range(0)
_COUNT = Range(1, _INT32_MAX)
_STEPS = Range(1, _MOST_STEPS)
_STEPS_OR_0 = Range(0, _MOST_STEPS)
_THREADS = Range(1, 1024)
_FRACTION = Range(0, 1)
_FRACTION_ABOVE_0 = Range(0, 1, above=True)
_FRACTION_BELOW_1 = Range(0, 1, below=True)
_FACTOR = Range(0.001, 1000)

RANGES: dict[str, Range] = {
    "views.max_side": Range(32, 16384),
    "views.tile_size": Range(32, 16384),
    "views.tile_overlap": Range(0, 0.75),
    "network.depth_multiplier": Range(0.01, 2),
    "network.image_size": Range(1, 16384),
    "network.l2_norm_scale": Range(0, 10**6, above=True),
    "network.channel_means_rgb": Range(0, 255),
    "network.extra_layers.bottleneck": Range(1, 4096),
    "network.extra_layers.filters": Range(1, 4096),
    "network.extra_layers.kernel": Range(1, 15),
    "network.extra_layers.stride": Range(1, 16),
    "network.extra_layers.padding": Range(0, 15),
    "anchors.scales": Range(0, 100, above=True),
    "anchors.ratios": _FACTOR,
    "anchors.offset": _FRACTION,
    "targets.match_threshold": _FRACTION_ABOVE_0,
    "targets.neg_threshold": _FRACTION,
    "targets.prior_variances": Range(1e-6, 1000),
    # times the default boxes of an image, it must stay an int32 (net/multibox_loss.py)
    "loss.negative_ratio": Range(0, 1000, above=True),
    "loss.localization_weight": _AT_LEAST_0,
    "loss.negatives_without_positive": Range(0, _INT32_MAX),
    "loss.weight_decay": Range(0, 1000),
    "loss.scale_decay_factor": Range(0, 10**6),
    "schedule.batch_size": _COUNT,
    "schedule.max_number_of_steps": _STEPS,
    "schedule.learning_rate": _ABOVE_0,
    "schedule.end_learning_rate": _AT_LEAST_0,
    "schedule.decay_boundaries": _STEPS_OR_0,
    "schedule.lr_decay_factors": _ABOVE_0,
    "schedule.momentum": _FRACTION_BELOW_1,
    "schedule.bias_lr_factor": _ABOVE_0,
    "schedule.clip_gradient_norm": _AT_LEAST_0,
    "augment.probability": _FRACTION,
    "augment.brightness": Range(0, 255),
    "augment.contrast": _FACTOR,
    "augment.saturation": _FACTOR,
    "augment.hue_degrees": Range(0, 60),  # preprocessing/colours.py shifts by one sector of 60 degrees at most
    "augment.max_zoom_out": Range(1, 1000),
    "augment.min_ious": _FRACTION,
    "augment.crop_trials": Range(1, 1000),
    "augment.crop_scale": _FRACTION_ABOVE_0,
    "augment.crop_ratio": _FACTOR,
    "detection.select_threshold": _FRACTION_BELOW_1,
    "detection.min_size": _FRACTION_BELOW_1,
    "detection.nms_threshold": _FRACTION_ABOVE_0,
    "detection.keep_topk": _COUNT,
    "detection.nms_topk": Range(1, 100_000),  # detections are padded to so many boxes of each class
    "detection.max_detections": _COUNT,
    # from here on flags that are no setting of the config
    "num_classes": _COUNT,
    "num_readers": _THREADS,
    "num_preprocessing_threads": _THREADS,
    "num_threads": _THREADS,
    "num_cpu_threads": Range(0, 1024),
    "gpu_memory_fraction": Range(0.01, 1),
    "train_epochs": Range(1, 10**6),
    "eval_every_steps": _STEPS_OR_0,
    "early_stop_evals": _STEPS_OR_0,
    "log_every_n_steps": _STEPS,
    "save_summary_steps": _STEPS,
    "save_checkpoints_secs": Range(1, 10**9),
    "save_checkpoints_steps": _STEPS,
    "tf_random_seed": Range(-(2**63), 2**63 - 1),
    "accumulate_steps": _COUNT,
    "validation_fraction": Range(0, 1, above=True, below=True),
    "train_shards": Range(1, 99999),  # a shard's name has five digits
    "validation_shards": Range(1, 99999),
    "num_train": Range(1, 99999),  # and the sample's image ids five after the split's
    "num_test": Range(1, 99999),
    "seed": Range(0, _INT32_MAX),
    "count": _COUNT,
    "iou_threshold": _FRACTION_ABOVE_0,
    "batches": Range(1, 10**6),
    "turns": Range(1, 10**6),
}


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
    """Return the config if it is valid; otherwise raise a UserError with the name and value of an invalid setting."""
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
    numbers = [name for name in RANGES if name.split(".")[0] in parts and not name.startswith(_LAYERS)]
    return [*_TEXTS, *numbers]


def check_setting(name: str, value: Any) -> None:
    """Raise a UserError with the name of a setting, its value, and what it must be, if the value is not valid."""
    unmet = requirement(name, value)
    _require(not unmet, name, value, unmet)


def requirement(name: str, value: Any) -> str:
    """Return what a setting must be, '' if its value is valid."""
    if name in _TEXTS:
        is_valid, text = _TEXTS[name]
        return "" if is_valid(value) else text
    return fault(name, value) or ""


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
            is_float32(schedule.learning_rate * factor * of_bias),
            "schedule.learning_rate x lr_decay_factors x bias_lr_factor",
            product,
            "a number that float32 holds (1.2e-38 to 3.4e+38)",
        )


def _require(condition: bool, name: str, value: Any, requirement: str) -> None:
    if not condition:
        raise UserError(f"{name}={shortened(value)}: must be {requirement}")

"""Every hyper-parameter of the project, with its unit and its source.

A `Config` is a tree of frozen dataclasses. A preset (utility/presets.py) gives the values, flags and a model
directory's `config.json` replace some, `check` refuses what cannot work; from then on nothing changes it. What can be
derived (grids, steps, the number of default boxes) is derived, here and nowhere else.

This module needs neither TensorFlow nor numpy, so that `--help` is quick.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class ExtraLayer:
    """One stage after the backbone: a 1x1 bottleneck, then the convolution that gives a feature map.

    padding: "same" and "valid" as TensorFlow means them, or a number of pixels on each side as in Caffe.
    The two differ where the map's side is even: TensorFlow pads conv9_2 (10 -> 5) by 0 and 1, Caffe by 1 and 1.
    """

    bottleneck: int
    filters: int
    kernel: int = 3
    stride: int = 1
    padding: str | int = "valid"


@dataclass(frozen=True)
class Backbone:
    """What the rest of the network must know about a backbone."""

    steps: tuple[int, ...]  # of the maps that it gives, pixels: 8, 16, and whether it goes on to 32
    weights: str  # folder of its ImageNet weights, as model/import_weights.py writes them
    weights_scope: str  # of their variables
    batch_norm: bool = False  # in it, and in the extra layers after it


# A new backbone is one line here and one function in net/backbones.py.
BACKBONES = {
    "vgg16": Backbone((8, 16), "./model", "vgg_16"),
    "resnet50": Backbone((8, 16), "./model/resnet50", "resnet50", batch_norm=True),
    "mobilenet_v1": Backbone((8, 16, 32), "./model/mobilenet_v1", "mobilenet_v1", batch_norm=True),
}


@dataclass(frozen=True)
class NetworkConfig:
    """Images -> feature maps. Sizes after SSD, arXiv 1512.02325, section 2.1 and figure 2."""

    backbone: str = "vgg16"
    depth_multiplier: float = 1.0  # of the filters of backbone and extra layers; MobileNet, section 3.3
    image_size: tuple[int, int] = (300, 300)  # height, width of the input, pixels
    extra_layers: tuple[ExtraLayer, ...] = (
        ExtraLayer(256, 512, stride=2, padding="same"),  # conv8: 19 -> 10
        ExtraLayer(128, 256, stride=2, padding="same"),  # conv9: 10 -> 5
        ExtraLayer(128, 256),  # conv10: 5 -> 3
        ExtraLayer(128, 256),  # conv11: 3 -> 1
    )
    l2_norm_scale: float = 20.0  # start of conv4_3's learned scale; section 3.1
    channel_means_rgb: tuple[float, float, float] = (
        123.68,
        116.78,
        103.94,
    )  # grey levels, VGG's training set


@dataclass(frozen=True)
class AnchorConfig:
    """Default boxes, section 2.2; scales as Caffe's conv4_3 setting for VOC has them.

    scales: one a feature map, and the one after the last, as parts of the input's side. Each map has one
    square of scale s_k, one extra square of sqrt(s_k s_k+1), and a box s_k sqrt(r) x s_k / sqrt(r) for each r.
    """

    scales: tuple[float, ...] = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075)
    ratios: tuple[tuple[float, ...], ...] = (  # width / height, the square first
        (1, 2, 1 / 2),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 1 / 2),
        (1, 2, 1 / 2),
    )
    offset: float = 0.5  # of the centre in its cell, cells


@dataclass(frozen=True)
class TargetConfig:
    """Matching and encoding, section 2.2."""

    match_threshold: float = 0.5  # IoU from which a default box is positive
    neg_threshold: float = 0.5  # IoU below which it is background; in between it is ignored
    prior_variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)  # cy cx h w; Caffe's PriorBox
    coordinates: str = "normalized"  # or "absolute": inclusive pixels of the network input
    use_difficult: bool = False  # learn from objects marked difficult


@dataclass(frozen=True)
class LossConfig:
    """Multibox loss, section 2.2, and weight decay."""

    negative_ratio: float = 3.0  # mined negatives for each positive
    negatives_without_positive: int = 3  # mined in an image that has no positive: as if it had one
    weight_decay: float = 5e-4  # x l2_loss of each variable
    scale_decay_factor: float = 0.1  # of the weight decay, on conv4_3's scale; the reference's
    decay_biases: bool = True  # the reference's; Caffe does not


@dataclass(frozen=True)
class ScheduleConfig:
    """Momentum SGD with a piecewise constant rate, section 3.1; the warm-up (against NaN) is the reference's."""

    batch_size: int = 32  # images a step, over all devices
    max_number_of_steps: int = 120_000
    learning_rate: float = 1e-3
    end_learning_rate: float = 1e-6  # floor
    decay_boundaries: tuple[int, ...] = (500, 80_000, 100_000)  # steps
    lr_decay_factors: tuple[float, ...] = (0.1, 1.0, 0.1, 0.01)  # of learning_rate, one more than boundaries
    momentum: float = 0.9
    bias_lr_factor: float = 1.0  # Caffe: 2
    clip_gradient_norm: float = 0.0  # largest norm of all gradients together; 0: whatever it is


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation, section 2.2 "data augmentation" and 3.6; numbers of Caffe's SSD script."""

    probability: float = 0.5  # of each photometric distortion, of the zoom-out and of the flip
    brightness: float = 32.0  # grey levels, +-
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue_degrees: float = 36.0  # +-; Caffe's 18 counts OpenCV's half degrees
    max_zoom_out: float = 4.0  # canvas side / image side
    min_ious: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # one crop sampler each; 0: any crop
    crop_trials: int = 50  # of each sampler
    crop_scale: tuple[float, float] = (0.3, 1.0)  # sqrt(area of crop / area of image)
    crop_ratio: tuple[float, float] = (0.5, 2.0)  # width / height, relative to the image's


# Every image as it is, for a check that a set can be learnt by heart.
NO_AUGMENTATION = AugmentConfig(probability=0.0, min_ious=())


@dataclass(frozen=True)
class DetectionConfig:
    """From network output to detections, section 2.2 "inference"; numbers of the reference."""

    select_threshold: float = 0.01  # class probability
    min_size: float = 0.03  # of the image's side; smaller boxes are dropped
    keep_topk: int = 400  # boxes of a class that enter NMS
    nms_topk: int = 200  # boxes of a class that leave it
    nms_threshold: float = 0.45  # IoU
    max_detections: int | None = None  # of all classes of an image; None: no limit beyond nms_topk


@dataclass(frozen=True)
class Config:
    """All of it. `class_names` leaves out the background, so class id i is class_names[i - 1]."""

    preset: str = "ssd300_voc"
    class_names: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    @property
    def num_classes(self) -> int:
        """Number of classes C, background included."""
        return len(self.class_names) + 1

    def replace(self, values: dict[str, Any]) -> Config:
        """Return a copy with dotted settings replaced, as in {"schedule.momentum": 0.8}."""
        changed = self
        for name, value in values.items():
            changed = _replace(changed, name.split("."), value)
        return changed


def _replace(node: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _replace(getattr(node, head), rest, value)
    return dataclasses.replace(node, **{head: value})


@dataclass(frozen=True)
class FeatureMap:
    """Grid (rows, columns) of a feature map, and its step (y, x): pixels of the input between two cells."""

    grid: tuple[int, int]
    step: tuple[float, float]


def feature_maps(network: NetworkConfig) -> tuple[FeatureMap, ...]:
    """Derive the feature maps that a network gives, the backbone's first.

    A convolution with padding keeps cells over the pixels that they stand for, so the step is the product of
    the strides. One without padding gives the map of the middle of its input; its step is chosen so that the
    cells spread over the whole image, as in Caffe's script (100 and 300 pixels for SSD300).
    """
    maps = []
    for step in BACKBONES[network.backbone].steps:
        maps.append(FeatureMap(_ceil_div(network.image_size, step), (step, step)))
    for number, layer in extra_layers(network):
        maps.append(_after(maps[-1], layer, network.image_size, number))
    return tuple(maps)


def extra_layers(network: NetworkConfig) -> list[tuple[int, ExtraLayer]]:
    """Return the layers after the backbone with their numbers: 8 after a map of step 16, as in the paper.

    A backbone that goes on to step 32 gives the map in place of conv8 itself.
    """
    given = len(BACKBONES[network.backbone].steps) - 2
    return list(enumerate(network.extra_layers, start=8))[given:]


def _ceil_div(size: tuple[int, int], step: int) -> tuple[int, int]:
    return -(-size[0] // step), -(-size[1] // step)


def _after(before: FeatureMap, layer: ExtraLayer, size: tuple[int, int], number: int) -> FeatureMap:
    rows, columns = (_convolved(cells, layer) for cells in before.grid)
    if rows < 1 or columns < 1:
        raise ValueError(
            f"network.image_size={size[0]}x{size[1]}: the map of {before.grid[0]}x{before.grid[1]} cells is too"
            f" small for the extra layer conv{number} (kernel {layer.kernel}, padding {layer.padding});"
            " take a larger input or fewer extra layers"
        )
    if layer.stride > 1:
        return FeatureMap((rows, columns), (before.step[0] * layer.stride, before.step[1] * layer.stride))
    return FeatureMap((rows, columns), (size[0] / rows, size[1] / columns))


def _convolved(cells: int, layer: ExtraLayer) -> int:
    if layer.padding == "same":
        return -(-cells // layer.stride)
    padding = 0 if layer.padding == "valid" else int(layer.padding)
    return (cells + 2 * padding - layer.kernel) // layer.stride + 1


def boxes_per_cell(anchors: AnchorConfig) -> tuple[int, ...]:
    """Return the number of default boxes of a cell, for each feature map."""
    return tuple(len(ratios) + 1 for ratios in anchors.ratios)


def check(config: Config) -> Config:
    """Return the config if all of its settings can work together, else raise a ValueError that names one."""
    _check_ranges(config)
    _check_layers(config)
    _check_schedule(config.schedule)
    return config


_Range = tuple[Callable[[Any], bool], str]  # what holds of a value, and how a message says so
_ABOVE_0: _Range = (lambda value: value > 0, "above 0")
_AT_LEAST_0: _Range = (lambda value: value >= 0, "0 or more")
_AT_LEAST_1: _Range = (lambda value: value >= 1, "1 or more")
_PART: _Range = (lambda value: 0 <= value <= 1, "in [0, 1]")
_PART_BELOW_1: _Range = (lambda value: 0 <= value < 1, "in [0, 1)")
_PART_ABOVE_0: _Range = (lambda value: 0 < value <= 1, "in (0, 1]")
_RISING_ABOVE_0: _Range = (lambda value: 0 < value[0] <= value[1] < math.inf, "above 0, the second not below the first")
_RANGES: dict[str, _Range] = {
    "class_names": (lambda names: len(set(names)) == len(names), "each once"),
    "network.backbone": (lambda name: name in BACKBONES, f"in {[*BACKBONES]}"),
    "network.depth_multiplier": (lambda value: 0 < value <= 2, "above 0, at most 2"),
    "network.image_size": (lambda sides: min(sides) >= 1, "1 pixel or more"),
    "network.l2_norm_scale": _ABOVE_0,
    "targets.match_threshold": _PART_ABOVE_0,
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
    "schedule.momentum": _PART_BELOW_1,
    "schedule.bias_lr_factor": _ABOVE_0,
    "schedule.clip_gradient_norm": _AT_LEAST_0,
    "augment.probability": _PART,
    "augment.brightness": _AT_LEAST_0,
    "augment.contrast": _RISING_ABOVE_0,
    "augment.saturation": _RISING_ABOVE_0,
    "augment.hue_degrees": (lambda value: 0 <= value <= 60, "between 0 and 60"),  # as far as colours.py can turn
    "augment.max_zoom_out": _AT_LEAST_1,
    "augment.min_ious": (lambda values: all(0 <= value <= 1 for value in values), "in [0, 1]"),
    "augment.crop_trials": _AT_LEAST_1,
    "augment.crop_scale": (lambda value: 0 < value[0] <= value[1] <= 1, "above 0, rising, at most 1"),
    "augment.crop_ratio": _RISING_ABOVE_0,
    "detection.select_threshold": _PART_BELOW_1,
    "detection.min_size": _PART_BELOW_1,
    "detection.nms_threshold": _PART_ABOVE_0,
    "detection.keep_topk": _AT_LEAST_1,
    "detection.nms_topk": _AT_LEAST_1,
    "detection.max_detections": (lambda value: value is None or value >= 1, "1 or more"),
}


def _check_ranges(config: Config) -> None:
    for name, (holds, wanted) in _RANGES.items():
        value = attrgetter(name)(config)
        _require(holds(value), name, value, wanted)
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
        f"{maps} tuples, one a feature map",
    )
    scales = config.anchors.scales
    _require(
        len(scales) == maps + 1,
        "anchors.scales",
        scales,
        f"{maps + 1} numbers, one a feature map and the next one",
    )
    _require(
        list(scales) == sorted(scales) and 0 < scales[0] <= scales[-1] < math.inf,
        "anchors.scales",
        scales,
        "positive and rising",
    )


def _check_schedule(schedule: ScheduleConfig) -> None:
    boundaries, factors = schedule.decay_boundaries, schedule.lr_decay_factors
    _require(
        len(factors) == len(boundaries) + 1,
        "schedule.lr_decay_factors",
        factors,
        f"{len(boundaries) + 1} numbers, one more than decay_boundaries",
    )
    _require(list(boundaries) == sorted(set(boundaries)), "schedule.decay_boundaries", boundaries, "rising")


def _require(condition: bool, name: str, value: Any, wanted: str) -> None:
    if not condition or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name}={value}: must be {wanted}")

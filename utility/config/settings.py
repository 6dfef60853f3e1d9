"""Every hyper-parameter of the project, with its unit and its source.

A `Config` is a tree of frozen dataclasses. A preset (presets.py) gives the values, flags and a model directory's
`config.json` replace some, and `checks.check` refuses what cannot work; from then on nothing changes it.

This package needs neither TensorFlow nor numpy, so that `--help` is quick.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
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

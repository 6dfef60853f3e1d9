"""All hyper-parameters of the project, with unit, range and source.

A `Config` is a tree of frozen dataclasses. Its values come from a preset (presets.py); flags and the `config.json` of
a model directory override some of them. `checks.check` then validates the config, which stays unchanged from there on.
msgspec compares each value, from a flag as from config.json, with the type and range of its field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

LABELS_FILE = "labels.txt"
_FLOAT32_MAX = 3.4e38  # an upper limit refuses infinity, and any limit NaN

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
CountOr0 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Meta(ge=1, le=10**12)]
StepsOr0 = Annotated[int, Meta(ge=0, le=10**12)]
Pixels = Annotated[int, Meta(ge=1, le=16384)]
Side = Annotated[int, Meta(ge=32, le=16384)]  # of a picture or tile, pixels
Channels = Annotated[int, Meta(ge=1, le=4096)]
Positive = Annotated[float, Meta(gt=0, le=_FLOAT32_MAX)]
AtLeast0 = Annotated[float, Meta(ge=0, le=_FLOAT32_MAX)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
FractionAbove0 = Annotated[float, Meta(gt=0, le=1)]
FractionBelow1 = Annotated[float, Meta(ge=0, lt=1)]
Factor = Annotated[float, Meta(ge=0.001, le=1000)]
PixelValue = Annotated[float, Meta(ge=0, le=255)]
Variance = Annotated[float, Meta(ge=1e-6, le=1000)]
Scale = Annotated[float, Meta(gt=0, le=100)]


@dataclass(frozen=True)
class ExtraLayer:
    """An extra layer after the backbone: a 1x1 bottleneck, then the convolution whose output is a feature map.

    padding: "same" or "valid" as in TensorFlow, or a number of pixels on each side as in Caffe. "same" and 1 differ
    for maps of even size: for conv9_2 (10 -> 5) TensorFlow pads by 0 and 1 pixels, Caffe by 1 and 1.
    """

    bottleneck: Channels  # filters of the 1x1 convolution
    filters: Channels  # of the second convolution
    kernel: Annotated[int, Meta(ge=1, le=15)] = 3
    stride: Annotated[int, Meta(ge=1, le=16)] = 1
    padding: Annotated[str, Meta(pattern="^(same|valid)$")] | Annotated[int, Meta(ge=0, le=15)] = "valid"


@dataclass(frozen=True)
class Recipe:
    """What suits a backbone and its start where no preset fits."""

    learning_rate: float  # for a batch of 32
    clip_gradient_norm: float = 0.0  # upper limit of the global norm; 0: no clipping
    localization_weight: float = 1.0


@dataclass(frozen=True)
class Backbone:
    """The properties of a backbone on which the rest of the network depends."""

    steps: tuple[int, ...]  # of its feature maps, pixels: (8, 16) or (8, 16, 32)
    weights: str  # folder of its ImageNet checkpoint, as written by model/import_weights.py
    weights_scope: str  # of the variables in that checkpoint
    pretrained: Recipe  # for a start from a checkpoint, such as that one
    random: Recipe  # for one from random weights
    batch_norm: bool = False  # in the backbone and in the extra layers


# To add a backbone, add a line here and a function in net/backbones.py.
BACKBONES = {
    "vgg16": Backbone(
        (8, 16),
        "./model",
        "vgg_16",
        pretrained=Recipe(1e-3),  # arXiv 1512.02325, section 3.1
        random=Recipe(2.5e-4),  # 1e-3 ends in a loss that is not a number
    ),
    "resnet50": Backbone(
        (8, 16),
        "./model/resnet50",
        "resnet50",
        # TensorFlow's Object Detection API, ssd_resnet50_v1_fpn: 0.04 for 64
        pretrained=Recipe(0.02, clip_gradient_norm=20.0),
        random=Recipe(0.02, clip_gradient_norm=20.0),
        batch_norm=True,
    ),
    "mobilenet_v1": Backbone(
        (8, 16, 32),
        "./model/mobilenet_v1",
        "mobilenet_v1",
        # a larger rate forgets what the weights knew; with half the location loss more of it stays
        pretrained=Recipe(0.01, clip_gradient_norm=20.0, localization_weight=0.5),
        # the gradients are large in the first tenth of a training, and a lower limit steadies it
        random=Recipe(0.04, clip_gradient_norm=5.0),
        batch_norm=True,
    ),
}


@dataclass(frozen=True)
class ViewConfig:
    """What the network is shown of a picture (preprocessing/views.py); dataset.json has it of the records."""

    max_side: Side | None = None  # to which the longer side of a larger picture or tile is reduced, pixels; None: never
    tile_size: Side | None = None  # side of tiles, pixels of the picture as it came; None: whole pictures
    tile_overlap: Annotated[float, Meta(ge=0, le=0.75)] = 0.2  # least part of its side that a tile shares with the next


@dataclass(frozen=True)
class NetworkConfig:
    """The network from the images to the feature maps: SSD300, arXiv 1512.02325, section 2.1 and figure 2."""

    backbone: str = "vgg16"
    depth_multiplier: Annotated[float, Meta(ge=0.01, le=2)] = 1.0  # of all filters; arXiv 1704.04861, section 3.3
    image_size: tuple[Pixels, Pixels] = (300, 300)  # height, width of the input, pixels
    extra_layers: tuple[ExtraLayer, ...] = (
        ExtraLayer(256, 512, stride=2, padding="same"),  # conv8: 19 -> 10
        ExtraLayer(128, 256, stride=2, padding="same"),  # conv9: 10 -> 5
        ExtraLayer(128, 256),  # conv10: 5 -> 3
        ExtraLayer(128, 256),  # conv11: 3 -> 1
    )
    l2_norm_scale: Annotated[float, Meta(gt=0, le=10**6)] = 20.0  # first learned scale of conv4_3; section 3.1
    channel_means_rgb: tuple[PixelValue, PixelValue, PixelValue] = (123.68, 116.78, 103.94)  # of VGG's training set


@dataclass(frozen=True)
class AnchorConfig:
    """Default boxes, section 2.2: scales of equation 4 from .2 to .9, and .1 for conv4_3 (section 3.1).

    scales: s_k for each feature map k, and one more, as fractions of the input's shorter side. Feature map k has a
    default box of width s_k sqrt(r) and height s_k / sqrt(r) for each ratio r, and a square of side sqrt(s_k s_k+1).
    """

    scales: tuple[Scale, ...] = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075)
    ratios: tuple[tuple[Factor, ...], ...] = (  # width / height for each feature map, the square first
        (1, 2, 1 / 2),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 1 / 2),
        (1, 2, 1 / 2),
    )
    offset: Fraction = 0.5  # of the centre of the default boxes from the cell's corner, in cells


@dataclass(frozen=True)
class TargetConfig:
    """Matching and encoding, section 2.2."""

    match_threshold: FractionAbove0 = 0.5  # IoU from which a default box is positive, as each object's best one is
    neg_threshold: Fraction = 0.5  # one with an IoU below this is negative, in between ignored; at most match_threshold
    prior_variances: tuple[Variance, Variance, Variance, Variance] = (0.1, 0.1, 0.2, 0.2)  # of cy, cx, h, w; Caffe's
    # normalized: to [0, 1]; absolute: inclusive pixels of the network input
    coordinates: Annotated[str, Meta(pattern="^(normalized|absolute)$")] = "normalized"
    use_difficult: bool = False  # train on objects marked difficult


@dataclass(frozen=True)
class LossConfig:
    """Multibox loss, section 2.2, and weight decay."""

    negative_ratio: Annotated[float, Meta(gt=0, le=1000)] = 3.0  # mined negatives per positive
    localization_weight: AtLeast0 = 1.0  # of the localization loss: alpha of equation 1
    negatives_without_positive: CountOr0 = 3  # mined in an image without positives: as many as for one positive
    weight_decay: Annotated[float, Meta(ge=0, le=1000)] = 5e-4  # factor of the sum of squares / 2
    scale_decay_factor: Annotated[float, Meta(ge=0, le=10**6)] = 0.1  # of the decay of conv4_3's scale; the reference's
    decay_biases: bool = True  # as in the reference; Caffe: False


@dataclass(frozen=True)
class ScheduleConfig:
    """Momentum SGD with a piecewise constant learning rate, section 3.1; warm-up, against NaN, as in the reference."""

    batch_size: Count = 32  # images per step, on all devices together
    max_number_of_steps: Steps = 120_000
    learning_rate: Positive = 1e-3
    end_learning_rate: AtLeast0 = 1e-6  # lower limit of the learning rate
    decay_boundaries: tuple[StepsOr0, ...] = (500, 80_000, 100_000)  # steps
    lr_decay_factors: tuple[Positive, ...] = (0.1, 1.0, 0.1, 0.01)  # before, between and after the boundaries
    momentum: FractionBelow1 = 0.9
    bias_lr_factor: Positive = 1.0  # factor of the learning rate of biases; Caffe: 2
    clip_gradient_norm: AtLeast0 = 0.0  # upper limit of the global norm; 0: no clipping

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates before, between and after `decay_boundaries`."""
        return tuple(max(self.learning_rate * factor, self.end_learning_rate) for factor in self.lr_decay_factors)


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation, section 2.2 "data augmentation" and section 3.6; numbers of Caffe's SSD script."""

    probability: Fraction = 0.5  # of each photometric distortion, of the zoom-out and of the flip
    brightness: PixelValue = 32.0  # largest change up or down
    contrast: tuple[Factor, Factor] = (0.5, 1.5)  # lowest and highest factor
    saturation: tuple[Factor, Factor] = (0.5, 1.5)  # lowest and highest factor
    # largest change up or down, at most a sector of preprocessing/colours.py; Caffe's 18 is in OpenCV's 2 degrees
    hue_degrees: Annotated[float, Meta(ge=0, le=60)] = 36.0
    max_zoom_out: Annotated[float, Meta(ge=1, le=1000)] = 4.0  # canvas side / image side
    min_ious: tuple[Fraction, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # one crop sampler each; 0 accepts any crop
    crop_trials: Annotated[int, Meta(ge=1, le=1000)] = 50  # per sampler
    crop_scale: tuple[FractionAbove0, FractionAbove0] = (
        0.3,
        1.0,
    )  # sqrt(area of crop / area of the canvas after the zoom-out)
    crop_ratio: tuple[Factor, Factor] = (0.5, 2.0)  # width / height, relative to the image's


# No distortion, zoom-out, crop or flip: to test whether the network can overfit a small training set.
NO_AUGMENTATION = AugmentConfig(probability=0.0, min_ious=())


@dataclass(frozen=True)
class DetectionConfig:
    """Selection of detections and non-maximum suppression, section 2.2 "inference"; numbers of the reference."""

    select_threshold: FractionBelow1 = 0.01  # a detection has a class probability above this
    min_size: FractionBelow1 = 0.03  # its height and width are above this fraction of the image's
    keep_topk: Count = 400  # boxes per class before NMS; Caffe: nms_param.top_k
    nms_topk: Annotated[int, Meta(ge=1, le=100_000)] = 200  # boxes per class after NMS; Caffe has no such limit
    nms_threshold: FractionAbove0 = 0.45  # IoU above which the box with the lower score is suppressed
    max_detections: Count | None = None  # per image, all classes together; None: no limit; Caffe: keep_top_k


@dataclass(frozen=True)
class Config:
    """All settings. `class_names` does not include the background: class id i is class_names[i - 1]."""

    preset: str = "ssd300_voc"
    class_names: tuple[str, ...] = ()
    pixel_extent: Fraction = 1.0  # of boxes in pixels: max - min + 1 is a side in VOC, max - min in COCO and YOLO
    views: ViewConfig = ViewConfig()
    network: NetworkConfig = NetworkConfig()
    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augment: AugmentConfig = AugmentConfig()
    detection: DetectionConfig = DetectionConfig()

    @property
    def num_classes(self) -> int:
        """The number of classes C, background included."""
        return len(self.class_names) + 1

    def replace(self, values: Mapping[str, Any]) -> Config:
        """Return a copy with dotted settings replaced, as in {"schedule.momentum": 0.8}."""
        changed = self
        for name, value in values.items():
            changed = _replace(changed, name, value)
        return changed


def _replace(node: Any, name: str, value: Any) -> Any:
    part, _, rest = name.partition(".")
    return dataclasses.replace(node, **{part: _replace(getattr(node, part), rest, value) if rest else value})

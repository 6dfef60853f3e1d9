"""All hyper-parameters of the project, with unit and source.

A `Config` is a tree of frozen dataclasses. Its values come from a preset (presets.py); flags and the `config.json` of
a model directory override some of them. `checks.check` then validates the config, which stays unchanged from there on.

This package imports neither TensorFlow nor numpy, so that `--help` is fast.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class ExtraLayer:
    """An extra layer after the backbone: a 1x1 bottleneck, then the convolution whose output is a feature map.

    padding: "same" or "valid" as in TensorFlow, or a number of pixels on each side as in Caffe. "same" and 1 differ
    for maps of even size: for conv9_2 (10 -> 5) TensorFlow pads by 0 and 1 pixels, Caffe by 1 and 1.
    """

    bottleneck: int  # filters of the 1x1 convolution
    filters: int  # of the second convolution
    kernel: int = 3
    stride: int = 1
    padding: str | int = "valid"


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
    # numbers for each pixel of the input, 0 if unknown: 64 features at half the resolution are 16
    largest_per_pixel: float = 0.0  # in the largest feature map
    kept_per_pixel: float = 0.0  # at least, in all maps that a training step keeps for the gradient


# To add a backbone, add a line here and a function in net/backbones.py.
BACKBONES = {
    "vgg16": Backbone(
        (8, 16),
        "./model",
        "vgg_16",
        pretrained=Recipe(1e-3),  # arXiv 1512.02325, section 3.1
        random=Recipe(2.5e-4),  # 1e-3 ends in a loss that is not a number
        largest_per_pixel=64,
        kept_per_pixel=310,
    ),
    "resnet50": Backbone(
        (8, 16),
        "./model/resnet50",
        "resnet50",
        # TensorFlow's Object Detection API, ssd_resnet50_v1_fpn: 0.04 for 64
        pretrained=Recipe(0.02, clip_gradient_norm=20.0),
        random=Recipe(0.02, clip_gradient_norm=20.0),
        batch_norm=True,
        largest_per_pixel=16,
        kept_per_pixel=480,
    ),
    "mobilenet_v1": Backbone(
        (8, 16, 32),
        "./model/mobilenet_v1",
        "mobilenet_v1",
        # mAP after 3 x 2000 photographs: .016 with a rate of 0.04, which forgets what the weights knew, .114 with this
        # one; .068 with twice the location loss, .107 to .114 with the whole, .129 and .133 with half. After 40 x 2000:
        # .541 with the whole, .557 with half
        pretrained=Recipe(0.01, clip_gradient_norm=20.0, localization_weight=0.5),
        # BCCD, 126 epochs in batches of 16: mAP .838 and .850, .823 with clipping at 20. The gradients' norm is up to
        # 250 in the first tenth of a training and 2 to 4 after it; with ImageNet weights it stays at 6 to 15. The
        # quickstart of 600 pictures, means of four seeds: .81 with clipping at 20, .85 at 5, .81 at 2
        random=Recipe(0.04, clip_gradient_norm=5.0),
        batch_norm=True,
        largest_per_pixel=16,
        kept_per_pixel=200,
    ),
}


@dataclass(frozen=True)
class ViewConfig:
    """What the network is shown of a picture (preprocessing/views.py); dataset.json has it of the records."""

    max_side: int | None = None  # to which the longer side of a larger picture or tile is reduced, pixels; None: never
    tile_size: int | None = None  # side of tiles, pixels of the picture as it came; None: whole pictures
    tile_overlap: float = 0.2  # least part of a tile's side that it shares with its neighbour


@dataclass(frozen=True)
class NetworkConfig:
    """The network from the images to the feature maps: SSD300, arXiv 1512.02325, section 2.1 and figure 2."""

    backbone: str = "vgg16"
    depth_multiplier: float = 1.0  # factor of the filters of backbone and extra layers; arXiv 1704.04861, section 3.3
    image_size: tuple[int, int] = (300, 300)  # height, width of the input, pixels
    extra_layers: tuple[ExtraLayer, ...] = (
        ExtraLayer(256, 512, stride=2, padding="same"),  # conv8: 19 -> 10
        ExtraLayer(128, 256, stride=2, padding="same"),  # conv9: 10 -> 5
        ExtraLayer(128, 256),  # conv10: 5 -> 3
        ExtraLayer(128, 256),  # conv11: 3 -> 1
    )
    l2_norm_scale: float = 20.0  # initial value of the learned scale of conv4_3; section 3.1
    channel_means_rgb: tuple[float, float, float] = (123.68, 116.78, 103.94)  # of VGG's training set, in [0, 255]


@dataclass(frozen=True)
class AnchorConfig:
    """Default boxes, section 2.2: scales of equation 4 from .2 to .9, and .1 for conv4_3 (section 3.1).

    scales: s_k for each feature map k, and one more, as fractions of the input's shorter side. Feature map k has a
    default box of width s_k sqrt(r) and height s_k / sqrt(r) for each ratio r, and a square of side sqrt(s_k s_k+1).
    """

    scales: tuple[float, ...] = (0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075)
    ratios: tuple[tuple[float, ...], ...] = (  # width / height for each feature map, the square first
        (1, 2, 1 / 2),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 3, 1 / 2, 1 / 3),
        (1, 2, 1 / 2),
        (1, 2, 1 / 2),
    )
    offset: float = 0.5  # of the centre of the default boxes from the cell's corner, in cells


@dataclass(frozen=True)
class TargetConfig:
    """Matching and encoding, section 2.2."""

    match_threshold: float = 0.5  # a default box with at least this IoU is positive, and each ground truth's best one
    neg_threshold: float = 0.5  # one with an IoU below this is negative, in between ignored; at most match_threshold
    prior_variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)  # of cy, cx, h, w; Caffe's PriorBox
    coordinates: str = "normalized"  # to [0, 1]; or "absolute": inclusive pixels of the network input
    use_difficult: bool = False  # train on objects marked difficult


@dataclass(frozen=True)
class LossConfig:
    """Multibox loss, section 2.2, and weight decay."""

    negative_ratio: float = 3.0  # mined negatives per positive
    localization_weight: float = 1.0  # of the localization loss: alpha of equation 1
    negatives_without_positive: int = 3  # mined in an image without positives: as many as for one positive
    weight_decay: float = 5e-4  # factor of the sum of squares / 2
    scale_decay_factor: float = 0.1  # factor of the weight decay of conv4_3's scale; as in the reference
    decay_biases: bool = True  # as in the reference; Caffe: False


@dataclass(frozen=True)
class ScheduleConfig:
    """Momentum SGD with a piecewise constant learning rate, section 3.1; warm-up, against NaN, as in the reference."""

    batch_size: int = 32  # images per step, on all devices together
    max_number_of_steps: int = 120_000
    learning_rate: float = 1e-3
    end_learning_rate: float = 1e-6  # lower limit of the learning rate
    decay_boundaries: tuple[int, ...] = (500, 80_000, 100_000)  # steps
    lr_decay_factors: tuple[float, ...] = (0.1, 1.0, 0.1, 0.01)  # of learning_rate: before, between, after boundaries
    momentum: float = 0.9
    bias_lr_factor: float = 1.0  # factor of the learning rate of biases; Caffe: 2
    clip_gradient_norm: float = 0.0  # upper limit of the global norm; 0: no clipping

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates before, between and after `decay_boundaries`."""
        return tuple(max(self.learning_rate * factor, self.end_learning_rate) for factor in self.lr_decay_factors)


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation, section 2.2 "data augmentation" and section 3.6; numbers of Caffe's SSD script."""

    probability: float = 0.5  # of each photometric distortion, of the zoom-out and of the flip
    brightness: float = 32.0  # largest change up or down, for pixel values in [0, 255]
    contrast: tuple[float, float] = (0.5, 1.5)  # lowest and highest factor
    saturation: tuple[float, float] = (0.5, 1.5)  # lowest and highest factor
    hue_degrees: float = 36.0  # largest change up or down; Caffe's 18 is in OpenCV's units of two degrees
    max_zoom_out: float = 4.0  # canvas side / image side
    min_ious: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # one crop sampler each; 0 accepts any crop
    crop_trials: int = 50  # per sampler
    crop_scale: tuple[float, float] = (0.3, 1.0)  # sqrt(area of crop / area of image)
    crop_ratio: tuple[float, float] = (0.5, 2.0)  # width / height, relative to the image's


# No distortion, zoom-out, crop or flip: to test whether the network can overfit a small training set.
NO_AUGMENTATION = AugmentConfig(probability=0.0, min_ious=())


@dataclass(frozen=True)
class DetectionConfig:
    """Selection of detections and non-maximum suppression, section 2.2 "inference"; numbers of the reference."""

    select_threshold: float = 0.01  # a detection has a class probability above this
    min_size: float = 0.03  # its height and width are above this fraction of the image's
    keep_topk: int = 400  # boxes per class before NMS; Caffe: nms_param.top_k
    nms_topk: int = 200  # boxes per class after NMS; Caffe has no such limit
    nms_threshold: float = 0.45  # IoU above which the box with the lower score is suppressed
    max_detections: int | None = None  # per image, all classes together; None: no limit; Caffe: keep_top_k


@dataclass(frozen=True)
class Config:
    """All settings. `class_names` does not include the background: class id i is class_names[i - 1]."""

    preset: str = "ssd300_voc"
    class_names: tuple[str, ...] = ()
    views: ViewConfig = field(default_factory=ViewConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    @property
    def num_classes(self) -> int:
        """The number of classes C, background included."""
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

"""Keras' ResNet50 and MobileNet from HDF5 files, as convolutions each followed by a batch norm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from model.weight_formats.inputs import CAFFE_BGR, InputConvention, fold
from model.weight_formats.keras import hdf5
from net.backbones import BACKBONE_FUNCTIONS
from net.layers import Layers
from utility.config.settings import NetworkConfig
from utility.errors import UserError
from utility.files.text_files import shortened

_EPSILON = 1.001e-5  # of the batch norm in net/layers.py
_SUFFIX = re.compile(r"_(conv|bn)$")  # conv2_block1_1_conv and conv2_block1_1_bn are one layer here
_KINDS = ("kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
_CLASSIFIER = ("conv_preds", "predictions", "probs")

_WIDEST = 2  # depth multiplier, as in utility/config/settings.py

Datasets = dict[tuple[str, str], hdf5.Dataset]  # layer, kind
Parameters = dict[str, dict[str, np.ndarray]]  # layer -> kind -> values


class Family(NamedTuple):
    """One of Keras' networks: how a file of it is recognised, and how Keras built and trained it."""

    backbone: str  # as in --backbone
    marker: str  # a layer that no other network has
    filters: int  # of conv1 at depth multiplier 1
    epsilon: float  # of its batch norm
    inputs: InputConvention
    weights: str  # URL; {alpha} stands for the depth multiplier


_BASE = "https://storage.googleapis.com/tensorflow/keras-applications"
FAMILIES = (
    Family(
        "resnet50",
        "conv2_block1_0",
        64,
        1.001e-5,
        CAFFE_BGR,
        f"{_BASE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Family(
        "mobilenet_v1",
        "conv_pw_1",
        32,
        1e-3,
        InputConvention("RGB / 127.5 - 1", "rgb", (127.5,) * 3, (1 / 127.5,) * 3),
        f"{_BASE}/mobilenet/mobilenet_{{alpha}}_224_tf_no_top.h5",
    ),
)


class Backbone(NamedTuple):
    """A backbone's variables, float32, under this project's names, and notes for the log on what was converted."""

    family: Family
    depth_multiplier: float
    variables: dict[str, np.ndarray]
    notes: list[str]


def url(backbone: str, depth_multiplier: float) -> str:
    """Return the URL of Keras' ImageNet weights; a UserError if Keras has none for the depth multiplier."""
    family = next(family for family in FAMILIES if family.backbone == backbone)
    alphas = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"} if "{alpha}" in family.weights else {1.0: ""}
    if depth_multiplier not in alphas:
        raise UserError(
            f"--depth_multiplier={depth_multiplier}: Keras has weights of {backbone} for"
            f" {', '.join(map(str, alphas))} only"
        )
    return family.weights.format(alpha=alphas[depth_multiplier])


def family_of(path: str) -> Family | None:
    """Return the network of `FAMILIES` that an HDF5 file holds, or None."""
    layers = {layer for layer, _ in _datasets(path)}
    return next((family for family in FAMILIES if family.marker in layers), None)


def read(path: str, family: Family, means_rgb: tuple[float, float, float]) -> Backbone:
    """Return a backbone from an HDF5 file of Keras 2.

    The feature maps stay the same: convolution biases are subtracted from the moving means, the difference of the
    epsilons is added to the moving variances, and the preprocessing is folded into the first layer.

    Raises:
      UserError: the file is damaged, or a layer is missing, has another shape, or is not finite.
    """
    datasets = _datasets(path)
    width = _width(datasets, family)
    _check_shapes(datasets, _expected(family.backbone, width), family.backbone)
    layers = _values(path, datasets)
    variables: dict[str, np.ndarray] = {}
    for layer, kinds in layers.items():
        converted = _converted(layer, kinds, family, means_rgb)
        for kind, values in converted.items():
            variables[f"{family.backbone}/{layer}/{kind}"] = values.astype(np.float32)
    note = f"conv1 expected {family.inputs.description}; now BGR minus {', '.join(f'{m:g}' for m in means_rgb[::-1])}"
    return Backbone(family, width, variables, [note, "biases and epsilons folded into batch norm"])


def _datasets(path: str) -> Datasets:
    """Return (layer, kind) -> dataset of the values of convolutions and batch norms."""
    found: Datasets = {}
    for dataset in hdf5.datasets(path):
        folders, leaf = dataset.path.split("/")[:-1], dataset.path.rpartition("/")[2].split(":")[0]
        if leaf in _KINDS and folders and "optimizer_weights" not in folders and folders[-1] not in _CLASSIFIER:
            found[_SUFFIX.sub("", folders[-1]), leaf] = dataset
    return found


def _width(datasets: Datasets, family: Family) -> float:
    """Return the depth multiplier, by which conv1's filters are more or fewer than the published network's."""
    conv1 = datasets.get(("conv1", "kernel"))
    if conv1 is None:
        raise UserError(f"no {family.backbone} of Keras: it has no conv1")
    most = _WIDEST * family.filters
    if len(conv1.shape) != 4 or not 0 < conv1.shape[-1] <= most:
        raise UserError(
            f"its conv1/kernel has the shape {shortened(conv1.shape)}, but {family.backbone}'s has four sides, the last"
            f" from 1 to {most}"
        )
    return conv1.shape[-1] / family.filters


def _values(path: str, datasets: Datasets) -> Parameters:
    layers: Parameters = {}
    for (layer, kind), dataset in datasets.items():
        values = hdf5.read(path, dataset.path, np.float64)
        if not np.isfinite(values).all():
            raise UserError(f"{layer}/{kind} holds values that are infinite or not a number")
        layers.setdefault(layer, {})[kind] = values
    return layers


def _expected(backbone: str, width: float) -> dict[str, tuple[int, ...]]:
    """Return layer/kind -> shape of this project's network, built for that purpose."""
    with tf.Graph().as_default():
        image = tf.placeholder(tf.float32, [1, 64, 64, 3])
        BACKBONE_FUNCTIONS[backbone](image, Layers("channels_last", depth_multiplier=width), NetworkConfig())
        return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}


def _check_shapes(datasets: Datasets, expected: Mapping[str, tuple[int, ...]], backbone: str) -> None:
    """Raise a UserError unless the file has the network's layers; a convolution may have a bias."""
    biases = {f"{layer}/bias": expected[f"{layer}/gamma"] for layer, _ in datasets if f"{layer}/gamma" in expected}
    shapes = {f"{layer}/{kind}": dataset.shape for (layer, kind), dataset in datasets.items()}
    missing = sorted(set(expected) - set(shapes))
    if missing:
        raise UserError(f"{backbone}'s {missing[0]} is not in it")
    for name, shape in sorted(shapes.items()):
        wanted = expected.get(name, biases.get(name))
        if wanted is None:
            raise UserError(f"it has a {shortened(name)}, which {backbone} has not")
        if shape != wanted:
            raise UserError(f"its {name} has the shape {shortened(shape)}, but {backbone}'s is {wanted}")


def _converted(layer: str, kinds: Mapping[str, np.ndarray], family: Family, means_rgb) -> dict[str, np.ndarray]:
    values = dict(kinds)
    bias = values.pop("bias", np.zeros_like(values["gamma"]))
    if layer == "conv1":
        values["kernel"], bias = fold(values["kernel"], bias, family.inputs, means_rgb)
    values["moving_mean"] = values["moving_mean"] - bias
    values["moving_variance"] = values["moving_variance"] + (family.epsilon - _EPSILON)
    return values

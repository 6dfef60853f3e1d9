"""Keras' ResNet50 and MobileNet, as convolutions each followed by a batch norm, and where Keras publishes weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from model.weight_formats.vgg import CAFFE_BGR, Arrays, Imported, InputConvention, VggSizes, check, fold
from net.backbones import BACKBONE_FUNCTIONS
from net.layers import Layers
from utility.config.settings import NetworkConfig
from utility.errors import UserError
from utility.files.text_files import shortened

_EPSILON = 1.001e-5  # of the batch norm in net/layers.py
_SUFFIX = re.compile(r"_(conv|bn)$")  # conv2_block1_1_conv and conv2_block1_1_bn are one layer here
_CLASSIFIER = ("conv_preds", "predictions", "probs")
_WIDEST = 2  # depth multiplier, as in utility/config/checks.py


class Family(NamedTuple):
    """One of Keras' networks: how a file of it is recognised, and how Keras built and trained it."""

    backbone: str  # as in --backbone
    marker: str  # a layer that no other network has
    filters: int  # of conv1 at depth multiplier 1
    epsilon: float  # of its batch norm
    inputs: InputConvention
    weights: str  # where Keras publishes them; {alpha} stands for the depth multiplier


_BASE = "https://storage.googleapis.com/tensorflow/keras-applications"
_RESNET50 = f"{_BASE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
_MOBILENET = f"{_BASE}/mobilenet/mobilenet_{{alpha}}_224_tf_no_top.h5"
# VGG16: tf.keras.applications.vgg16 of TensorFlow 2.15, WEIGHTS_PATH and its MD5
_VGG16 = f"{_BASE}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_VGG16_MD5 = "64373286793e3c8b2b4e3219cbf3544b"
_UNIT_RGB = InputConvention("RGB / 127.5 - 1", "rgb", (127.5,) * 3, (1 / 127.5,) * 3)
FAMILIES = (
    Family("resnet50", "conv2_block1_0", 64, 1.001e-5, CAFFE_BGR, _RESNET50),
    Family("mobilenet_v1", "conv_pw_1", 32, 1e-3, _UNIT_RGB, _MOBILENET),
)


def without_paths(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return layer/kind -> array of an HDF5 file of Keras; where a layer lies in it differs between Keras' versions.

    block1_conv1/block1_conv1_W_1:0 and model_weights/block1_conv1/block1_conv1/kernel:0 are block1_conv1/kernel, and so
    is layers/conv2d/vars/0 of a .weights.h5 or .keras file of Keras 3, which keeps no names (`_named_by_order`).
    A UserError if the file holds several networks, or layers without names whose network is not known here.
    """
    if any(path.rpartition("/")[0].endswith("/vars") for path in arrays):
        return _named_by_order(arrays)
    found: dict[str, np.ndarray] = {}
    for path, array in arrays.items():
        folder, _, leaf = path.rpartition("/")
        layer, kind = folder.rpartition("/")[2], leaf.split(":")[0]
        if kind.startswith(f"{layer}_"):  # of Keras 1
            kind = {"W": "kernel", "b": "bias"}.get(kind.removeprefix(f"{layer}_")[:1], kind)
        if kind == "kernel" and layer.startswith("conv_dw_"):  # of Keras 3
            kind = "depthwise_kernel"
        if f"{layer}/{kind}" in found:
            raise UserError(f"it has two networks: {shortened(layer)}/{shortened(kind)} is in it twice")
        found[f"{layer}/{kind}"] = array
    return found


# of Keras 3's layers without names: the kinds of the arrays 0, 1, ... of each class
_KINDS = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_UNNAMED = re.compile(rf"(?:(.*)/)?layers/({'|'.join(_KINDS)})(?:_(\d+))?/vars/([0-3])")


def _named_by_order(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return layer/kind -> array of a .weights.h5 of Keras 3: its layers of a class are numbered in the model's order.

    The network is the model itself or nested in it (layers/functional/layers/conv2d/vars/0); what stands around it,
    such as a classifier of one's own, is left out.
    """
    found: dict[str, dict[tuple[str, int], dict[str, np.ndarray]]] = {}  # by the path of the model that has the layer
    for path, array in arrays.items():
        if match := _UNNAMED.fullmatch(path):
            outer, kind, number, index = match.groups(default="")
            if int(index) < len(_KINDS[kind]):
                layer = found.setdefault(outer, {}).setdefault((kind, int(number or 0)), {})
                layer[_KINDS[kind][int(index)]] = array
    models = [layers for layers in found.values() if any(kind == "conv2d" for kind, _ in layers)]
    if len(models) > 1:
        raise UserError("it has two networks: save the one alone")
    layers = models[0] if models else {}
    names = _names_by_class(Counter(kind for kind, _ in layers))
    ordered = {kind: [layers[each] for each in sorted(layers) if each[0] == kind] for kind in names}
    return {
        f"{name}/{part}": array
        for kind, listed in names.items()
        for name, parts in zip(listed, ordered[kind], strict=False)  # without a classifier there are fewer
        for part, array in parts.items()
    }


def _names_by_class(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the names of the layers of one of Keras' networks in its order, given how many of each class it has."""
    if counts["depthwise_conv2d"] == 13:  # MobileNet
        parts = [f"conv_{part}_{number}" for number in range(1, 14) for part in ("dw", "pw")]
        return {
            "conv2d": ["conv1", *parts[1::2], "conv_preds"],
            "depthwise_conv2d": parts[::2],
            "batch_normalization": [f"{name}_bn" for name in ("conv1", *parts)],
        }
    if counts["conv2d"] == 53:  # ResNet50
        blocks = [
            (stage, block)
            for stage, last in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True)
            for block in range(1, last + 1)
        ]
        order = {True: (1, 2, 0, 3), False: (1, 2, 3)}  # the first block of a stage has a shortcut, 0
        parts = ["conv1", *(f"conv{s}_block{b}_{part}" for s, b in blocks for part in order[b == 1])]
        return {"conv2d": [f"{name}_conv" for name in parts], "batch_normalization": [f"{name}_bn" for name in parts]}
    if counts["conv2d"] == 13:  # VGG16
        convs = [f"block{block}_conv{n}" for block, last in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, last + 1)]
        return {"conv2d": convs, "dense": ["fc1", "fc2", "predictions"]}
    raise UserError("it was saved by Keras 3, keeps no names of layers, and is none of its networks: save it as .h5")


def convert(arrays: Arrays, _: VggSizes | None = None) -> Imported | None:
    """Return a backbone from layer/kind -> array, for this project's input; None for another network.

    The feature maps stay the same: convolution biases are subtracted from the moving means, the difference of the
    epsilons is added to the moving variances, and the preprocessing is folded into the first layer. A UserError if a
    layer is missing or too many, or has another shape or type.
    """
    found: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        layer, kind = name.rpartition("/")[::2]
        is_dense = arrays.get(f"{layer}/kernel", np.zeros(())).ndim == 2  # of a classifier of one's own
        if layer not in _CLASSIFIER and not is_dense:
            found[f"{_SUFFIX.sub('', layer)}/{kind}"] = values
    layers = {name.rpartition("/")[0] for name in found}
    family = next((family for family in FAMILIES if family.marker in layers), None)
    if family is None:
        return None

    shape, most = found["conv1/kernel"].shape if "conv1/kernel" in found else None, _WIDEST * family.filters
    if shape is None or len(shape) != 4 or not 0 < shape[-1] <= most:
        what = "it has no conv1/kernel" if shape is None else f"its conv1/kernel has the shape {shortened(shape)}"
        raise UserError(f"{what}, but {family.backbone}'s has four sides, the last from 1 to {most}")
    width = shape[-1] / family.filters
    expected = {name: [shape] for name, shape in shapes_of(family.backbone, width).items()}
    for layer in layers:
        if f"{layer}/bias" in found and f"{layer}/gamma" in expected:
            expected[f"{layer}/bias"] = expected[f"{layer}/gamma"]
    check(found, expected, family.backbone)

    variables = {name: array.astype(np.float64) for name, array in found.items()}
    for layer in layers:
        bias = variables.pop(f"{layer}/bias", np.zeros(()))
        if layer == "conv1":
            variables["conv1/kernel"], bias = fold(variables["conv1/kernel"], bias, family.inputs)
        variables[f"{layer}/moving_mean"] -= bias
        variables[f"{layer}/moving_variance"] += family.epsilon - _EPSILON
    variables = {f"{family.backbone}/{name}": array for name, array in variables.items()}
    notes = [family.inputs.note("conv1"), "biases and epsilons folded into batch norm"]
    description = f"Keras' {family.backbone}, depth multiplier {width:g}"
    return Imported(description, variables, notes, backbone=family.backbone, depth_multiplier=width)


def shapes_of(backbone: str, width: float) -> dict[str, tuple[int, ...]]:
    """Return layer/kind -> shape of this project's network at a depth multiplier, built for that purpose."""
    with tf.Graph().as_default():
        image = tf.placeholder(tf.float32, [1, 64, 64, 3])
        BACKBONE_FUNCTIONS[backbone](image, Layers("channels_last", depth_multiplier=width), NetworkConfig())
        return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}


def download(backbone: str = "vgg16", depth_multiplier: float = 1.0) -> str:
    """Return the path of Keras' ImageNet weights of a backbone, which Keras downloads unless they are in its cache.

    A UserError if Keras has none for the depth multiplier, a ConnectionError if the download fails.
    """
    address = {"vgg16": _VGG16, **{family.backbone: family.weights for family in FAMILIES}}[backbone]
    alphas = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"} if "{alpha}" in address else {1.0: ""}
    if depth_multiplier not in alphas:
        widths = ", ".join(map(str, alphas))
        raise UserError(f"--depth_multiplier={depth_multiplier}: Keras has weights of {backbone} for {widths} only")
    address = address.format(alpha=alphas[depth_multiplier])
    checksum = _VGG16_MD5 if backbone == "vgg16" else None
    try:
        return tf.keras.utils.get_file(Path(address).name, address, cache_subdir="models", file_hash=checksum)
    except Exception as error:  # Keras raises nothing more specific
        raise ConnectionError(
            f"without --source, Keras' ImageNet weights are downloaded, and that failed: {error}. Give a"
            " file downloaded elsewhere with --source; model/README.md lists the formats"
        ) from error

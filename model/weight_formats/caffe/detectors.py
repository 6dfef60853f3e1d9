"""VGG-16 and whole SSD300 detectors from the blobs of a caffemodel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from dataset.sources.labels import VOC_CLASSES
from model.weight_formats.inputs import CAFFE_BGR
from model.weight_formats.vgg import VGG16, Layer, VggSizes, VggSource, from_oihw
from utility.config.feature_maps import boxes_per_cell
from utility.config.presets import preset
from utility.config.settings import Config
from utility.errors import UserError
from utility.files.text_files import shortened

Blobs = Mapping[str, Sequence[np.ndarray]]  # layer -> weights and bias

_CONVOLUTION = re.compile(r"conv[1-5]_\d")
_HEADS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")  # in the order of the feature maps
_SCOPE = "ssd300"


def is_detector(blobs: Blobs) -> bool:
    """Tell whether the layers are a whole SSD rather than VGG-16 alone."""
    return f"{_HEADS[0]}_mbox_loc" in blobs


def vgg(blobs: Blobs, sizes: VggSizes = VGG16) -> VggSource:
    """Return a full or reduced VGG-16 from a caffemodel's layers; a UserError says what does not fit."""
    expected = [*sizes.convolutions(), "fc6", "fc7"]
    unknown = sorted(name for name in blobs if _CONVOLUTION.fullmatch(name) and name not in expected)
    if "conv1_1" not in blobs or unknown:
        reason = f"it has {unknown[0] if unknown else shortened(', '.join(list(blobs)[:3]))}"
        raise UserError(f"no VGG-16 of Caffe: {reason}")
    layers = {
        name: partial(_layer, blobs, name, sizes.last_filters if name == "fc6" else None)
        for name in expected
        if name in blobs
    }
    return VggSource("Caffe's VGG-16", layers, lambda kernel: CAFFE_BGR)


def _layer(blobs: Blobs, name: str, channels: int | None = None) -> Layer:
    """Return the weights of a convolution or of a fully connected layer, which is [1, 1, O, I] in V1 files."""
    if len(blobs.get(name, ())) != 2:
        raise UserError(f"its layer {name} has {len(blobs.get(name, ()))} blobs instead of weights and a bias")
    kernel, bias = blobs[name]
    if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    if kernel.ndim not in (2, 4):
        raise UserError(f"the weights of its layer {name} have the shape {shortened(kernel.shape)}")
    return Layer(from_oihw(kernel, channels or kernel.shape[1]), bias.reshape(-1))


def detector(blobs: Blobs, sizes: VggSizes = VGG16) -> tuple[dict[str, np.ndarray], Config]:
    """Return the variables of Caffe's SSD300 and the config that they need.

    Variables are float32 under this project's names, with a global step of 0. The outputs of the heads are reordered
    from Caffe's order of boxes and coordinates to this project's.

    Raises:
      UserError: it is not the SSD300 with VGG-16 for the classes of VOC.
    """
    config = preset("ssd300_caffe").replace({"class_names": VOC_CLASSES})
    _check_heads(blobs, config)
    layers = {**_backbone(blobs, sizes), **_extras(blobs), **_heads(blobs, config)}
    for name, shape in _shapes(config, sizes).items():
        if layers[name].kernel.shape != shape or layers[name].bias.shape != shape[-1:]:
            raise UserError(f"{name} would be {shortened(layers[name].kernel.shape)}, but SSD300's is {shape}")
    variables = {f"{_SCOPE}/{name}/kernel": layer.kernel for name, layer in layers.items()}
    variables |= {f"{_SCOPE}/{name}/bias": layer.bias for name, layer in layers.items()}
    variables[f"{_SCOPE}/conv4_3_scale/weights"] = _scale(blobs, sizes.stages[3][1])
    for name, values in variables.items():
        if not np.isfinite(values).all():
            raise UserError(f"{name} holds values that are infinite or not a number")
    variables = {name: np.ascontiguousarray(values, np.float32) for name, values in variables.items()}
    return {**variables, "global_step": np.array(0, np.int64)}, config


def _check_heads(blobs: Blobs, config: Config) -> None:
    heads = [f"{name}_mbox_{kind}" for name in _HEADS for kind in ("loc", "conf")]
    missing = [name for name in heads if name not in blobs]
    if missing or "conv10_2_mbox_loc" in blobs:
        raise UserError(f"no SSD300: it has {f'no {missing[0]}' if missing else 'a conv10_2_mbox_loc'}")
    outputs, boxes = blobs[f"{_HEADS[0]}_mbox_conf"][-1].size, boxes_per_cell(config.anchors)[0]
    if outputs != boxes * config.num_classes:
        raise UserError(
            f"an SSD300 for {outputs / boxes:g} classes, background included; only the models for VOC, with"
            f" {config.num_classes}, can be imported, because the default boxes of others differ"
        )


def _backbone(blobs: Blobs, sizes: VggSizes) -> dict[str, Layer]:
    layers = {f"{name.split('_')[0]}/{name}": _layer(blobs, name) for name in sizes.convolutions()}
    return {**layers, "fc6": _layer(blobs, "fc6", sizes.last_filters), "fc7": _layer(blobs, "fc7")}


def _extras(blobs: Blobs) -> dict[str, Layer]:
    """Return conv8 to conv11, which Caffe calls conv6 to conv9."""
    names = {f"conv{n + 2}/conv{n + 2}_{part}": f"conv{n}_{part}" for n in range(6, 10) for part in (1, 2)}
    return {f"additional_layers/{name}": _layer(blobs, caffe_name) for name, caffe_name in names.items()}


def _heads(blobs: Blobs, config: Config) -> dict[str, Layer]:
    layers = {}
    for index, (name, ratios) in enumerate(zip(_HEADS, config.anchors.ratios, strict=True)):
        order = box_order(ratios)
        # Caffe's CENTER_SIZE offsets are x, y, width, height; this project's are y, x, height, width
        layers[f"multibox_head/loc_{index}"] = _reordered(_layer(blobs, f"{name}_mbox_loc"), order, [1, 0, 3, 2])
        classes = list(range(config.num_classes))
        layers[f"multibox_head/cls_{index}"] = _reordered(_layer(blobs, f"{name}_mbox_conf"), order, classes)
    return layers


def box_order(ratios: Sequence[float]) -> list[int]:
    """Return, for each default box of a cell in this project's order, its index in Caffe's order.

    Caffe's PriorBoxLayer: the square of side min_size, the extra square of side sqrt(min_size * max_size), then each
    ratio above 1 followed by its inverse (flip). This project: the extra square, then the ratios in their order.
    """
    caffe: list[float | str] = [1, "extra"]
    for ratio in ratios:
        if ratio > 1:
            caffe += [ratio, 1 / ratio]
    project: list[float | str] = ["extra", *ratios]
    return [caffe.index(box) for box in project]


def _reordered(layer: Layer, boxes: Sequence[int], parts: Sequence[int]) -> Layer:
    """Reorder a head's outputs [boxes * parts]; the parts of a box are its coordinates or its classes."""
    count = len(boxes) * len(parts)
    if layer.bias.shape != (count,) or layer.kernel.shape[-1] != count:
        raise UserError(f"a head has {layer.bias.size} outputs instead of {count}")
    outputs = np.arange(count).reshape(len(boxes), len(parts))[boxes][:, parts].reshape(-1)
    return Layer(layer.kernel[..., outputs], layer.bias[outputs])


def _scale(blobs: Blobs, channels: int) -> np.ndarray:
    values = np.concatenate([blob.reshape(-1) for blob in blobs.get("conv4_3_norm", ())] or [np.zeros(0)])
    if values.shape != (channels,):
        raise UserError(f"its conv4_3_norm has {values.size} numbers instead of one for each of {channels} channels")
    return values


def _shapes(config: Config, sizes: VggSizes) -> dict[str, tuple[int, ...]]:
    """Return this project's layer name -> kernel shape [H, W, I, O] of a whole detector."""
    convolutions = {f"{name.split('_')[0]}/{name}": shape for name, shape in sizes.convolutions().items()}
    shapes = {**convolutions, **sizes.reduced()}
    channels = [sizes.stages[3][1], sizes.reduced_fc]  # of the feature maps
    for number, layer in enumerate(config.network.extra_layers, start=8):
        name = f"additional_layers/conv{number}/conv{number}"
        shapes[f"{name}_1"] = (1, 1, channels[-1], layer.bottleneck)
        shapes[f"{name}_2"] = (layer.kernel, layer.kernel, layer.bottleneck, layer.filters)
        channels.append(layer.filters)
    for index, (inputs, boxes) in enumerate(zip(channels, boxes_per_cell(config.anchors), strict=True)):
        shapes[f"multibox_head/loc_{index}"] = (3, 3, inputs, boxes * 4)
        shapes[f"multibox_head/cls_{index}"] = (3, 3, inputs, boxes * config.num_classes)
    return shapes

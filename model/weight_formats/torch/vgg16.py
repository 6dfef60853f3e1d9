"""VGG-16 in PyTorch state dicts: torchvision's, and the reduced one of the PyTorch SSD ports."""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from model.weight_formats.inputs import CAFFE_BGR, CAFFE_RGB, TORCHVISION, InputConvention, original_vgg_order
from model.weight_formats.torch import state_dict
from model.weight_formats.torch.state_dict import StateDict
from model.weight_formats.vgg import VGG16, Layer, VggSizes, VggSource, from_oihw
from utility.errors import UserError
from utility.files.text_files import shortened

_WEIGHT = re.compile(r"((?:features\.|classifier\.)?\d+)\.weight")


def read(path: str, sizes: VggSizes = VGG16) -> VggSource:
    """Return VGG-16 from a file of torch.save; a UserError says what does not fit."""
    state = state_dict.read(path)
    in_file = {match[1] for match in map(_WEIGHT.fullmatch, state.names()) if match}
    if "features.0" in in_file:
        modules = _torchvision_modules(sizes)
        description, inputs = "torchvision's VGG-16", _torchvision_inputs
    elif "0" in in_file:
        modules = _ports_modules(sizes)
        description, inputs = "the reduced VGG-16 of PyTorch's SSD ports", _ports_inputs
    else:
        raise UserError(
            f"no VGG-16: it holds {shortened(', '.join(state.names()[:3]))}, ...; expected features.0.weight, ..."
        )
    unknown = sorted(in_file - set(modules.values()) - {"classifier.6"})
    if unknown:
        raise UserError(f"no VGG-16 without batch normalization: it has a {shortened(unknown[0])}.weight")
    layers = {
        layer: partial(_layer, state, layer, module, sizes) for layer, module in modules.items() if module in in_file
    }
    return VggSource(description, layers, inputs)


def _convolutions(sizes: VggSizes) -> dict[str, int]:
    """Return layer -> index in nn.Sequential; each layer is followed by a ReLU, each stage by a pooling."""
    indices, index = {}, 0
    for stage, (convs, _) in enumerate(sizes.stages, start=1):
        for number in range(1, convs + 1):
            indices[f"conv{stage}_{number}"] = index
            index += 2
        index += 1
    return indices


def _torchvision_modules(sizes: VggSizes) -> dict[str, str]:
    """Return layer -> module; the classifier is Linear, ReLU, Dropout, Linear, ReLU, Dropout, Linear."""
    features = {layer: f"features.{index}" for layer, index in _convolutions(sizes).items()}
    return {**features, "fc6": "classifier.0", "fc7": "classifier.3"}


def _ports_modules(sizes: VggSizes) -> dict[str, str]:
    """Return layer -> module; after conv5_3 and its ReLU come pool5, fc6, a ReLU and fc7."""
    indices = _convolutions(sizes)
    pool5 = max(indices.values()) + 2
    return {layer: str(index) for layer, index in {**indices, "fc6": pool5 + 1, "fc7": pool5 + 3}.items()}


def _torchvision_inputs(kernel: np.ndarray) -> InputConvention:
    """Return torchvision's preprocessing, or that of the original VGG-16 if conv1_1 is the original's.

    Files such as torchvision's IMAGENET1K_FEATURES hold the original weights, which take unscaled grey levels.
    """
    return {"bgr": CAFFE_BGR, "rgb": CAFFE_RGB}.get(original_vgg_order(kernel) or "", TORCHVISION)


def _ports_inputs(kernel: np.ndarray) -> InputConvention:
    """Return the original VGG-16's preprocessing, in the channel order that conv1_1's first filter has.

    Any other filter is taken as RGB: ssd.pytorch and its descendants convert OpenCV's BGR to RGB.
    """
    return CAFFE_BGR if original_vgg_order(kernel) == "bgr" else CAFFE_RGB


def _layer(state: StateDict, layer: str, module: str, sizes: VggSizes) -> Layer:
    names = f"{module}.weight", f"{module}.bias"
    if names[1] not in state.names():
        raise UserError(f"its {module} has no bias")
    sizes.check(layer, *map(state.shape, names))
    kernel, bias = map(state.array, names)
    channels = sizes.last_filters if layer == "fc6" else kernel.shape[1] if kernel.ndim > 1 else 1
    return Layer(from_oihw(kernel, channels), bias)

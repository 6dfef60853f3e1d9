"""Keras' VGG16 from an HDF5 file of weights or of a whole model, with or without its top."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from model.weight_formats.inputs import CAFFE_BGR
from model.weight_formats.keras import hdf5
from model.weight_formats.keras.hdf5 import Dataset
from model.weight_formats.vgg import VGG16, Layer, VggSizes, VggSource, from_keras_dense
from utility.errors import UserError
from utility.files.text_files import shortened

_CONVOLUTION = re.compile(r"block(\d)_conv(\d)")
_DENSE = {"fc1": "fc6", "fc2": "fc7"}


def read(path: str, sizes: VggSizes = VGG16) -> VggSource:
    """Return VGG-16 from an HDF5 file of Keras 2, channels last; a UserError says what does not fit."""
    found = _layers(hdf5.datasets(path))
    names = {layer for layer, _ in found}
    unknown = sorted(names - {*sizes.convolutions(), *_DENSE.values()})
    if not names or unknown:
        reason = f"it has a {unknown[0]}, which VGG-16 has not" if unknown else "it has no layer block1_conv1"
        raise UserError(f"no VGG16 of Keras: {reason}")
    layers = {layer: partial(_layer, path, layer, found, sizes) for layer in sorted(names)}
    top = "with" if "fc6" in layers else "without"
    return VggSource(f"Keras' VGG16 {top} top", layers, lambda kernel: CAFFE_BGR)


def _layers(datasets: Iterable[Dataset]) -> dict[tuple[str, bool], Dataset]:
    """Return (VGG's layer name, is bias) -> dataset; where it lies in the file differs between versions of Keras.

    The layer's name is part of the path; a bias has one axis.
    """
    found: dict[tuple[str, bool], Dataset] = {}
    for dataset in datasets:
        layer = _layer_of(dataset.path)
        if layer is None:
            continue
        key = (layer, len(dataset.shape) == 1)
        if key in found:
            raise UserError(f"it has two VGG16 networks: {shortened(found[key].path)} and {shortened(dataset.path)}")
        found[key] = dataset
    return found


def _layer_of(path: str) -> str | None:
    """Return VGG's name of the layer that a dataset belongs to, or None, as for the optimizer's variables."""
    folders = path.split("/")[:-1]
    if "optimizer_weights" in folders:
        return None
    for folder in folders:
        if match := _CONVOLUTION.fullmatch(folder):
            return f"conv{match[1]}_{match[2]}"
        if folder in _DENSE:
            return _DENSE[folder]
    return None


def _layer(path: str, layer: str, found: Mapping[tuple[str, bool], Dataset], sizes: VggSizes) -> Layer:
    missing = [kind for is_bias, kind in ((False, "kernel"), (True, "bias")) if (layer, is_bias) not in found]
    if missing:
        raise UserError(f"its {layer} has no {missing[0]}")
    parts = found[layer, False], found[layer, True]
    sizes.check(layer, *(part.shape for part in parts))
    kernel, bias = (hdf5.read(path, part.path, np.float32) for part in parts)
    if kernel.ndim == 2:
        kernel = from_keras_dense(kernel, sizes.last_filters if layer == "fc6" else kernel.shape[0])
    return Layer(kernel, bias)

"""Keras' VGG16 from an HDF5 file of weights or of a whole model, with or without its top."""

from __future__ import annotations

import re
from functools import partial

import h5py
import numpy as np

from model.weight_formats.inputs import CAFFE_BGR
from model.weight_formats.keras import hdf5
from model.weight_formats.vgg import VGG16, Layer, VggSizes, VggSource, from_keras_dense

_CONVOLUTION = re.compile(r"block(\d)_conv(\d)")
_DENSE = {"fc1": "fc6", "fc2": "fc7"}


def read(path: str, sizes: VggSizes = VGG16) -> VggSource:
    """Return VGG-16 from an HDF5 file of Keras 2, channels last; a ValueError says what does not fit."""
    with hdf5.opened(path) as file:
        paths = _paths(file)
    names = {layer for layer, _ in paths}
    unknown = sorted(names - {*sizes.convolutions(), *_DENSE.values()})
    if not names or unknown:
        reason = f"it has a {unknown[0]}, which VGG-16 has not" if unknown else "it has no layer block1_conv1"
        raise ValueError(f"no VGG16 of Keras: {reason}")
    layers = {layer: partial(_layer, path, layer, paths, sizes.last_filters) for layer in sorted(names)}
    top = "with" if "fc6" in layers else "without"
    return VggSource(f"Keras' VGG16 {top} top", layers, lambda kernel: CAFFE_BGR)


def _paths(file: h5py.File) -> dict[tuple[str, bool], str]:
    """Return (VGG's layer name, is bias) -> path in the file, which differs between versions of Keras.

    The layer's name is part of the path; a bias has one axis. `visititems` follows no links to other files.
    """
    paths: dict[tuple[str, bool], str] = {}

    def visit(path: str, node: h5py.Dataset | h5py.Group) -> None:
        layer = _layer_of(path)
        if layer is None or not isinstance(node, h5py.Dataset):
            return
        hdf5.check_inside(path, node)
        key = (layer, node.ndim == 1)
        if key in paths:
            raise ValueError(f"it has two VGG16 networks: {paths[key]} and {path}")
        paths[key] = path

    file.visititems(visit)
    return paths


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


def _layer(path: str, layer: str, paths: dict[tuple[str, bool], str], channels: int) -> Layer:
    missing = [kind for is_bias, kind in ((False, "kernel"), (True, "bias")) if (layer, is_bias) not in paths]
    if missing:
        raise ValueError(f"its {layer} has no {missing[0]}")
    with hdf5.opened(path, f"its {layer}") as file:
        kernel, bias = (np.asarray(file[paths[layer, is_bias]][...]) for is_bias in (False, True))
    if kernel.ndim == 2:
        kernel = from_keras_dense(kernel, channels if layer == "fc6" else kernel.shape[0])
    return Layer(kernel, bias)

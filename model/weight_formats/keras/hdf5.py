"""Keras' VGG16 from an HDF5 file: with and without its top, bare weights or a whole saved model."""

from __future__ import annotations

import re
from functools import partial

import h5py
import numpy as np

from model.weight_formats.inputs import CAFFE_BGR
from model.weight_formats.vgg import VGG16, Layer, VggSizes, VggSource, from_keras_dense

_CONVOLUTION = re.compile(r"block(\d)_conv(\d)")
_DENSE = {"fc1": "fc6", "fc2": "fc7"}


def read(path: str, sizes: VggSizes = VGG16) -> VggSource:
    """Return VGG-16 from an HDF5 file of Keras 2, channels last; a ValueError says why another one will not do."""
    try:
        with h5py.File(path, "r") as file:
            found = _parameters(file)
    except (OSError, RuntimeError) as error:  # h5py's words for a file that is cut off or damaged
        raise ValueError(f"cannot be read as HDF5: {error}") from error
    wanted = {*sizes.convolutions(), *_DENSE.values()}
    surplus = sorted({layer for layer, _ in found} - wanted)
    if not found or surplus:
        reason = f"it has a {surplus[0]}, which VGG-16 has not" if surplus else "it has no layer block1_conv1"
        raise ValueError(f"no VGG16 of Keras: {reason}")
    layers = {
        layer: partial(_layer, path, layer, found, sizes.last_filters)
        for layer in sorted({layer for layer, _ in found})
    }
    top = "with" if "fc6" in layers else "without"
    return VggSource(f"Keras' VGG16 {top} top", layers, lambda kernel: CAFFE_BGR)


def _parameters(file: h5py.File) -> dict[tuple[str, bool], str]:
    """Return (VGG's layer, is the bias) -> path in the file, wherever Keras' version has put it.

    A layer is found by its name in a dataset's path, and kernel and bias by their number of axes. Links to other
    files are not followed by `visititems`, and data that lies outside of the file is refused.
    """
    found: dict[tuple[str, bool], str] = {}

    def visit(path: str, node: h5py.Dataset | h5py.Group) -> None:
        layer = _layer_of(path)
        if layer is None or not isinstance(node, h5py.Dataset):
            return
        if node.external or node.is_virtual:
            raise ValueError(f"{path} is kept in another file, which is not read")
        key = (layer, node.ndim == 1)
        if key in found:
            raise ValueError(f"it has two VGG16 networks: {found[key]} and {path}")
        found[key] = path

    file.visititems(visit)
    return found


def _layer_of(path: str) -> str | None:
    """Return VGG's name of the layer that a dataset belongs to; the optimizer's variables belong to none."""
    folders = path.split("/")[:-1]
    if "optimizer_weights" in folders:
        return None
    for folder in folders:
        if match := _CONVOLUTION.fullmatch(folder):
            return f"conv{match[1]}_{match[2]}"
        if folder in _DENSE:
            return _DENSE[folder]
    return None


def _layer(path: str, layer: str, found: dict[tuple[str, bool], str], channels: int) -> Layer:
    missing = [kind for is_bias, kind in ((False, "kernel"), (True, "bias")) if (layer, is_bias) not in found]
    if missing:
        raise ValueError(f"its {layer} has no {missing[0]}")
    try:
        with h5py.File(path, "r") as file:
            kernel, bias = (np.asarray(file[found[layer, is_bias]][...]) for is_bias in (False, True))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{layer} cannot be read: {error}") from error
    if kernel.ndim == 2:
        kernel = from_keras_dense(kernel, channels if layer == "fc6" else kernel.shape[0])
    return Layer(kernel, bias)

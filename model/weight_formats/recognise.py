"""Recognises a file of weights by its content, never by its name, and reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from model.weight_formats import tf_checkpoint
from model.weight_formats.caffe import caffemodel, detectors
from model.weight_formats.keras import backbones
from model.weight_formats.keras import vgg16 as keras_vgg16
from model.weight_formats.torch import state_dict
from model.weight_formats.torch import vgg16 as torch_vgg16
from model.weight_formats.vgg import VGG16, VggSizes, VggSource, convert
from utility.checkpoints import checkpoint_files
from utility.config.settings import Config, NetworkConfig
from utility.errors import UserError
from utility.files.text_files import one_line

_FORMATS = "a VGG-16 of Keras (.h5), TF-slim, PyTorch (.pth) or Caffe, Caffe's SSD300, or Keras' ResNet50 or MobileNet"
# First bytes of common wrong files, and what to do about each
_NO_WEIGHTS = (
    (b"\x1f\x8b", "it is compressed (gzip): unpack it first"),
    (b"<!doctype", "it is a web page, as failed downloads leave it: download it again"),
    (b"<html", "it is a web page, as failed downloads leave it: download it again"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: run 'git lfs pull'"),
)


class Imported(NamedTuple):
    """Variables of a file, float32 under the reference's names, and what the log says about their conversion."""

    description: str
    variables: dict[str, np.ndarray]
    notes: list[str]
    config: Config | None = None  # for a whole detector
    backbone: str = "vgg16"
    depth_multiplier: float = 1.0


def read(path: str, sizes: VggSizes = VGG16) -> Imported:
    """Recognise, read and convert a file of weights.

    Args:
      path: a file, or the prefix, the .index or the folder of a TensorFlow checkpoint.
      sizes: channels of VGG-16.

    Raises:
      FileNotFoundError: there is no such file; the message lists similar files.
      UserError: the file is of no known format, holds another network, or is damaged.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers beyond float32; what they become is refused
            imported = _reader(path)(path, sizes)
        for name, values in imported.variables.items():
            if not np.isfinite(values).all():
                raise UserError(f"{name} would hold values that are infinite or not a number in float32")
        return imported
    except ValueError as error:
        raise UserError(f"--source={path}: {one_line(str(error))}") from error


def _reader(path: str) -> Callable[[str, VggSizes], Imported]:
    """Return the function that reads the file's format."""
    if Path(path).is_dir() or checkpoint_files.is_checkpoint(path):
        return _tensorflow
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}{checkpoint_files.what_is_there(path)}")
    with Path(path).open("rb") as file:
        head = file.read(512)
    for start, advice in _NO_WEIGHTS:
        if head.lower().lstrip().startswith(start):
            raise UserError(advice)
    if h5py.is_hdf5(path):
        return _keras
    if state_dict.is_torch_file(head):
        return _torch
    if head.startswith(caffemodel.FIRST_BYTES):
        return _caffe
    problem = "it is empty" if not head else "it is none of the kinds of file that this importer reads"
    raise UserError(f"{problem}: give {_FORMATS}")


def _keras(path: str, sizes: VggSizes) -> Imported:
    family = backbones.family_of(path)
    if not family:
        return _converted(keras_vgg16.read(path, sizes), sizes)
    network = backbones.read(path, family, NetworkConfig().channel_means_rgb)
    return Imported(
        f"Keras' {family.backbone}, depth multiplier {network.depth_multiplier:g}",
        network.variables,
        network.notes,
        backbone=family.backbone,
        depth_multiplier=network.depth_multiplier,
    )


def _torch(path: str, sizes: VggSizes) -> Imported:
    return _converted(torch_vgg16.read(path, sizes), sizes)


def _tensorflow(path: str, sizes: VggSizes) -> Imported:
    return _converted(tf_checkpoint.read(checkpoint_files.resolve(path), sizes), sizes)


def _caffe(path: str, sizes: VggSizes) -> Imported:
    blobs = caffemodel.read(path)
    if not detectors.is_detector(blobs):
        return _converted(detectors.vgg(blobs, sizes), sizes)
    variables, config = detectors.detector(blobs, sizes)
    notes = [
        "boxes and their coordinates reordered to this project's order",
        "its config.json has Caffe's padding, default boxes and means: keep it beside the checkpoint",
    ]
    return Imported("Caffe's SSD300 for VOC", variables, notes, config)


def _converted(source: VggSource, sizes: VggSizes) -> Imported:
    layers, notes = convert(source, NetworkConfig().channel_means_rgb, sizes)
    return Imported(source.description, tf_checkpoint.vgg_variables(layers), notes)

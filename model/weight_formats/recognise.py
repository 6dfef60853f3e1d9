"""Telling by a file's content, never by its name, what it holds, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.weight_formats import tf_checkpoint
from model.weight_formats.caffe import caffemodel, detectors
from model.weight_formats.keras import backbones, hdf5
from model.weight_formats.torch import state_dict, vgg16
from model.weight_formats.vgg import VGG16, VggSizes, VggSource, convert
from utility.checkpoints import checkpoint_files
from utility.config.settings import Config, NetworkConfig

_FORMATS = "a VGG-16 of Keras (.h5), TF-slim, PyTorch (.pth) or Caffe, Caffe's SSD300, or Keras' ResNet50 or MobileNet"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What is often there instead of weights -> what to do about it
_NO_WEIGHTS = (
    (b"\x1f\x8b", "it is compressed (gzip): unpack it first"),
    (b"<!doctype", "it is a web page, as failed downloads leave it: fetch it again"),
    (b"<html", "it is a web page, as failed downloads leave it: fetch it again"),
    (b"version https://git-lfs", "it is Git LFS's note of where the file is: run 'git lfs pull'"),
)


class Imported(NamedTuple):
    """What was in a file: float32 variables under the reference's names, and how they came about."""

    description: str
    variables: dict[str, np.ndarray]
    notes: list[str]
    config: Config | None = None  # of a whole detector
    backbone: str = "vgg16"
    depth_multiplier: float = 1.0


def read(path: str, sizes: VggSizes = VGG16) -> Imported:
    """Recognise, read and convert a file of weights.

    Args:
      path: a file, or the prefix, the .index or the folder of a TensorFlow checkpoint.
      sizes: channels of VGG-16.

    Raises:
      FileNotFoundError: there is no such file; the message tells what is there instead.
      ValueError: it holds no weights of a known kind, or damaged ones; the message tells which and why.
    """
    try:
        return _reader(path)(path, sizes)
    except ValueError as error:
        raise ValueError(f"--source={path}: {_one_line(str(error))}") from error


def _one_line(message: str) -> str:
    """Return a message without what a file's names could do to a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in message)


def _reader(path: str) -> Callable[[str, VggSizes], Imported]:
    """Return what reads a file, by what it begins or ends with."""
    if Path(path).is_dir() or checkpoint_files.is_checkpoint(path):
        return _tensorflow
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}{checkpoint_files.what_is_there(path)}")
    with Path(path).open("rb") as file:
        head = file.read(512)
    for start, advice in _NO_WEIGHTS:
        if head.lower().lstrip().startswith(start):
            raise ValueError(advice)
    if head.startswith(_HDF5):
        return _keras
    if head.startswith(state_dict.ZIP_BYTES) or state_dict.MAGIC_BYTES in head[:32]:
        return _torch
    if head.startswith(caffemodel.FIRST_BYTES):
        return _caffe
    what = "it is empty" if not head else "it is none of the kinds of file that this importer reads"
    raise ValueError(f"{what}: give {_FORMATS}")


def _keras(path: str, sizes: VggSizes) -> Imported:
    try:
        family = backbones.family_of(path)
    except (OSError, RuntimeError) as error:  # h5py's words for a file that is cut off or damaged
        raise ValueError(f"cannot be read as HDF5: {error}") from error
    if family:
        found = backbones.read(path, family, NetworkConfig().channel_means_rgb)
        description = f"Keras' {family.backbone}, depth multiplier {found.depth_multiplier:g}"
        return Imported(
            description,
            found.variables,
            found.notes,
            backbone=family.backbone,
            depth_multiplier=found.depth_multiplier,
        )
    return _converted(hdf5.read(path, sizes), sizes)


def _torch(path: str, sizes: VggSizes) -> Imported:
    return _converted(vgg16.read(path, sizes), sizes)


def _tensorflow(path: str, sizes: VggSizes) -> Imported:
    return _converted(tf_checkpoint.read(checkpoint_files.resolve(path), sizes), sizes)


def _caffe(path: str, sizes: VggSizes) -> Imported:
    blobs = caffemodel.read(path)
    if not detectors.is_detector(blobs):
        return _converted(detectors.vgg(blobs, sizes), sizes)
    variables, config = detectors.detector(blobs, sizes)
    notes = [
        "boxes and their coordinates brought into this project's order",
        "its config.json has Caffe's padding, default boxes and means: keep it beside the checkpoint",
    ]
    return Imported("Caffe's SSD300 for VOC", variables, notes, config)


def _converted(source: VggSource, sizes: VggSizes) -> Imported:
    layers, notes = convert(source, NetworkConfig().channel_means_rgb, sizes)
    return Imported(source.description, tf_checkpoint.vgg_variables(layers), notes)

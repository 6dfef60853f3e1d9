"""From a file of weights to a checkpoint: recognises by its content which network it holds, and converts that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from model.weight_formats import caffe_detector, keras_backbones, reader, vgg
from model.weight_formats.vgg import VGG16, Arrays, Imported, VggSizes
from utility.checkpoints import checkpoint_files
from utility.errors import UserError
from utility.files.text_files import one_line, shortened

_FORMATS = (
    "a VGG-16 of Keras (.h5, .keras), TF-slim, PyTorch (.pth) or Caffe, Caffe's SSD300, or Keras' ResNet50 or MobileNet"
)
# First bytes of common wrong files, and what to do about each
_NO_WEIGHTS = (
    (b"\x1f\x8b", "it is compressed (gzip): unpack it first"),
    ((b"<!doctype", b"<html"), "it is a web page, as failed downloads leave it: download it again"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: run 'git lfs pull'"),
)


def read(path: str, sizes: VggSizes = VGG16) -> Imported:
    """Recognise, read and convert a file of weights.

    `path` is a file, or the prefix, the .index or the folder of a TensorFlow checkpoint. A FileNotFoundError lists
    similar files; a UserError says that the file is of no known format, holds another network, or is damaged.
    """
    try:
        return convert(_arrays(path), sizes)
    except UserError as error:
        raise UserError(f"--source={path}: {one_line(str(error))}") from error


def _arrays(path: str) -> Arrays:
    if Path(path).is_dir() or checkpoint_files.is_checkpoint(path):
        checkpoint = checkpoint_files.open_checkpoint(checkpoint_files.resolve(path))
        return {name: checkpoint.get_tensor(name) for name in sorted(checkpoint.get_variable_to_shape_map())}
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}{checkpoint_files.what_is_there(path)}")
    with Path(path).open("rb") as file:
        head = file.read(512)
    for start, advice in _NO_WEIGHTS:
        if head.lower().lstrip().startswith(start):
            raise UserError(advice)
    kind = reader.format_of(head)
    if kind is None:
        problem = "it is none of the kinds of file that this importer reads" if head else "it is empty"
        raise UserError(f"{problem}: give {_FORMATS}")
    arrays = reader.arrays_in(path, kind)
    return keras_backbones.without_paths(arrays) if kind in (reader.HDF5, reader.KERAS) else arrays


def convert(arrays: Arrays, sizes: VggSizes = VGG16) -> Imported:
    """Recognise a network by the names and shapes of its arrays, and return its variables, float32.

    A UserError says what does not fit.
    """
    for of_network in (keras_backbones.convert, caffe_detector.convert, vgg.convert):
        imported = of_network(arrays, sizes)
        if imported:
            break
    else:
        if "ssd300/conv1/conv1_1/kernel" in arrays:
            raise UserError("it is a whole detector, which needs no import: give it to --checkpoint_path")
        names = shortened(", ".join(list(arrays)[:3]))
        raise UserError(f"it holds no network that is known here, but {names}, ...: give {_FORMATS}")
    for name, values in imported.variables.items():
        if values.dtype.kind == "f":  # not the step of a detector
            with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond float32 become infinite
                imported.variables[name] = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(imported.variables[name]).all():
            raise UserError(f"{name} would hold values that are infinite or not a number in float32")
    return imported


def write(prefix: str, variables: Mapping[str, np.ndarray]) -> None:
    """Write a V2 checkpoint, and name it as the latest in the folder's `checkpoint` file.

    SaveV2 writes temporary files and renames them at the end, so an interrupted run leaves no partial checkpoint.
    """
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    names = sorted(variables)
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.placeholder(variables[name].dtype, variables[name].shape) for name in names]
        save = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
        session.run(save, {tensor: variables[name] for tensor, name in zip(tensors, names, strict=True)})
    state = tf.train.generate_checkpoint_state_proto(".", Path(prefix).name)  # relative: the folder can be moved
    (Path(prefix).parent / "checkpoint").write_text(str(state), encoding="utf-8")

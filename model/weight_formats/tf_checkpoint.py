"""TensorFlow checkpoints: reads TF-slim's VGG-16, and writes the imported variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from model.weight_formats.inputs import CAFFE_BGR, CAFFE_RGB
from model.weight_formats.vgg import FULLY_CONNECTED, VGG16, Layer, VggSizes, VggSource
from utility.checkpoints import checkpoint_files
from utility.errors import UserError
from utility.files.text_files import shortened

_SCOPE = "vgg_16"
_CONVOLUTION = re.compile(rf"{_SCOPE}/conv[0-9]/(conv[0-9]_[0-9])/weights")


def read(prefix: str, sizes: VggSizes = VGG16) -> VggSource:
    """Return VGG-16 from a checkpoint with TF-slim's variable names; a UserError says what does not fit.

    The shape of fc6 gives the channel order: a full fc6 is TF-slim's own, trained on RGB; a reduced one comes from
    this importer or from HiKapok/SSD.TensorFlow, and takes BGR.
    """
    reader = checkpoint_files.open_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    names = {match[1]: match[0] for match in map(_CONVOLUTION.fullmatch, sorted(shapes)) if match}
    if not names:
        raise UserError(f"no VGG-16 of TF-slim: it has no {_SCOPE}/conv1/conv1_1/weights{_hint(shapes)}")
    unknown = sorted(set(names) - set(sizes.convolutions()))
    if unknown:
        raise UserError(f"no VGG-16: it has a {unknown[0]}")
    names |= {name: f"{_SCOPE}/{name}/weights" for name in FULLY_CONNECTED if f"{_SCOPE}/{name}/weights" in shapes}
    if "fc6" not in names:
        raise UserError(
            f"it has no {_SCOPE}/fc6, whose shape distinguishes TF-slim's RGB weights from BGR weights; a checkpoint"
            " that this importer wrote needs no import"
        )
    layers = {layer: partial(_layer, reader, layer, name, sizes) for layer, name in names.items()}
    if tuple(shapes[names["fc6"]]) == sizes.full()["fc6"]:
        return VggSource("TF-slim's VGG-16", layers, lambda kernel: CAFFE_RGB)
    return VggSource("a reduced VGG-16 with the reference's names", layers, lambda kernel: CAFFE_BGR)


def _hint(shapes: Mapping[str, list[int]]) -> str:
    if "ssd300/conv1/conv1_1/kernel" in shapes:
        return ", but a whole detector, which needs no import: give it to --checkpoint_path"
    return f", but {shortened(', '.join(sorted(shapes)[:3]))}, ..."


def _layer(reader: tf.train.NewCheckpointReader, layer: str, weights: str, sizes: VggSizes) -> Layer:
    names = weights, weights.removesuffix("weights") + "biases"
    shapes = reader.get_variable_to_shape_map()
    if names[1] not in shapes:
        raise UserError(f"its {layer} has no bias, {names[1]}")
    sizes.check(layer, *(tuple(shapes[name]) for name in names))
    return Layer(*map(reader.get_tensor, names))


def vgg_variables(layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """Return VGG-16's layers under the variable names of the reference's checkpoint, vgg_16/conv1/conv1_1/weights."""
    variables: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        scope = f"{_SCOPE}/{name}" if name in FULLY_CONNECTED else f"{_SCOPE}/{name.split('_')[0]}/{name}"
        variables |= {f"{scope}/weights": layer.kernel, f"{scope}/biases": layer.bias}
    return variables


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

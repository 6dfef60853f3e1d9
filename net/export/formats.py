"""Export of a trained detector as SavedModel, TensorFlow Lite or ONNX model.

The graphs use the functions of evaluation, and the data format channels_last, which CPUs and GPUs support.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.sources import labels
from net.export.detector import (
    Signature,
    batch_signature,
    restored_session,
    single_image_signature,
    temporary_saved_model,
)
from preprocessing.ssd_preprocessing import decode
from utility.config.settings import LABELS_FILE, Config
from utility.run.log import first_line
from utility.startup.start import filtered_stderr

_ONNX_OPSET = 17  # supported by onnxruntime from 1.12 on; tf2onnx supports up to 18


def export(kind: str, output: Path, checkpoint: str, config: Config, model_scope: str) -> None:
    """Write a detector to a folder, which is created only once it is complete.

    Args:
      kind: "saved_model"; or "tflite" or "onnx": then the folder contains model.tflite or model.onnx, and labels.txt.
      output: path of the folder, which must be empty or not exist.
      checkpoint: prefix of the checkpoint.
      config: the config of the training, with the detection settings to export.
      model_scope: scope of the network's variables.

    Raises:
      ValueError: as `write_saved_model`, `tflite_model` and `onnx_model`.
    """
    with whole_folder(output) as folder:
        if kind == "saved_model":
            write_saved_model(str(folder), checkpoint, config, model_scope)
        else:
            convert = {"tflite": tflite_model, "onnx": onnx_model}[kind]
            folder.mkdir()
            (folder / f"model.{kind}").write_bytes(convert(checkpoint, config, model_scope))
            labels.write_labels(folder / LABELS_FILE, config.class_names)


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Yield the path at which to create a folder; rename it to `output` at the end, or delete it after an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as partial:
        yield Path(partial) / "model"
        (Path(partial) / "model").rename(output)


def write_saved_model(folder: str, checkpoint: str, config: Config, model_scope: str) -> None:
    """Write a SavedModel with two signatures, which `tf.saved_model.load` can load without this project.

    The input of `serving_default` is `encoded`, string [B]: JPEG, PNG, GIF or BMP files of any size, in colour, grey or
    CMYK. The input of `images` is `images`, uint8 RGB [B, H, W, 3]. The outputs of both are the detections in order of
    decreasing score, D being the largest number of detections in an image of the batch:

      boxes_yxyx_px: float32 [B, D, 4], pixels of the input image
      scores: float32 [B, D] in (select_threshold, 1], 0 for padding
      classes: int32 [B, D] from 1, 0 for padding
      class_names: string [B, D], empty for padding
      count: int32 [B], number of detections without padding

    A picture without rows or columns has none; a file that cannot be decoded is an InvalidArgumentError for its batch.

    Args:
      folder: path of the SavedModel; must not exist.
      checkpoint: prefix of the checkpoint.
      config: the config of the training, with the detection settings to export.
      model_scope: scope of the network's variables.

    Raises:
      ValueError: the checkpoint is of another network.
    """

    def build() -> dict[str, Signature]:
        encoded = tf.placeholder(tf.string, [None], "encoded")
        images = tf.placeholder(tf.uint8, [None, None, None, 3], "images")
        return {
            "serving_default": batch_signature(encoded, decode, config, model_scope),
            "images": batch_signature(images, tf.identity, config, model_scope),
        }

    with temporary_saved_model(checkpoint, build) as path:
        # saved again by TensorFlow 2: the signatures of a session's SavedModel accept tensors only, not arrays
        detector = tf.compat.v2.saved_model.load(path)
        tf.compat.v2.saved_model.save(detector, folder, signatures=dict(detector.signatures))


def tflite_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a float32 TensorFlow Lite model that needs built-in operators only.

    The input of its signature `serving_default` is `image`, uint8 RGB [1, h, w, 3], of any size. The outputs are those
    of `write_saved_model` without `class_names`; D is the largest number that the detection settings allow. A picture
    without rows or columns has none; another number of pictures than one is an error of the interpreter.

    Raises:
      ValueError: the checkpoint is of another network.
    """

    def build() -> dict[str, Signature]:
        return {"serving_default": single_image_signature(config, model_scope)}

    # the converter prints debugging output only; it raises its errors
    with temporary_saved_model(checkpoint, build) as path, filtered_stderr(noise=("",)):
        return tf.compat.v2.lite.TFLiteConverter.from_saved_model(path).convert()


def onnx_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a float32 ONNX model that needs ONNX's own operators only.

    Input and outputs are those of `tflite_model`.

    Raises:
      ValueError: tf2onnx is not installed, an operator of the network has no counterpart in ONNX, or the checkpoint is
        of another network.
    """
    try:
        import onnx  # noqa: PLC0415 (optional)
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(f"--format=onnx: {error}; pip install -r requirements-export.txt") from error
    with restored_session(checkpoint, lambda: single_image_signature(config, model_scope)) as (session, signature):
        outputs = [tensor.op.name for tensor in signature.outputs.values()]
        constants = tf.graph_util.convert_variables_to_constants(session, session.graph_def, outputs)
    tf2onnx.logging.set_level(tf2onnx.logging.ERROR)
    model, _ = tf2onnx.convert.from_graph_def(
        constants,
        name="ssd",
        opset=_ONNX_OPSET,
        input_names=[tensor.name for tensor in signature.inputs.values()],
        output_names=[tensor.name for tensor in signature.outputs.values()],
        tensors_to_rename={tensor.name: name for part in signature for name, tensor in part.items()},
    )
    try:
        onnx.checker.check_model(model, full_check=True)  # tf2onnx leaves operators that it cannot convert in the model
    except onnx.checker.ValidationError as error:
        raise ValueError(f"--format=onnx: the model cannot be written: {first_line(error)}") from error
    return model.SerializeToString()

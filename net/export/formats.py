"""The detector as a file of its own: SavedModel, TensorFlow Lite and ONNX.

All are built of the functions that evaluation uses, channels last, so that they run on CPUs and GPUs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.sources import labels
from net.export.detector import Signature, named, picture_batch, restored_session, single_picture, temporary_saved_model
from preprocessing.ssd_preprocessing import decode
from utility.config.settings import LABELS_FILE, Config
from utility.platform.start import filtered_stderr
from utility.run.log import first_line

_ONNX_OPSET = 17  # the newest that tf2onnx writes is 18; onnxruntime knows 17 from 1.12 on


def export(kind: str, output: Path, checkpoint: str, config: Config, model_scope: str) -> None:
    """Write a detector as a folder; it appears under its name only when it is whole.

    Args:
      kind: "saved_model", or "tflite" or "onnx" for a folder with model.tflite or model.onnx and labels.txt.
      output: the folder; new or empty.
      checkpoint: its prefix.
      config: what it was trained with, and the settings of detection.
      model_scope: scope of the network's variables.
    """
    tf.config.set_visible_devices([], "GPU")  # its memory may be another's, and there is nothing to compute
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
    """Yield the path of a folder to make, and rename it to `output` once it is finished."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as partial:
        yield Path(partial) / "model"
        (Path(partial) / "model").rename(output)


def write_saved_model(folder: str, checkpoint: str, config: Config, model_scope: str) -> None:
    """Write a SavedModel with two signatures; `tf.saved_model.load` needs nothing of this project.

    `serving_default` takes `encoded`, string [B]: JPEG, PNG, GIF or BMP files of any sizes, in colour, grey or
    CMYK. `images` takes `images`, uint8 [B, H, W, 3]: RGB pictures of one size. Both give, D being the most
    detections in an image of the batch and the highest score first:

      boxes_yxyx_px: float32 [B, D, 4], pixels of the picture as it came in
      scores: float32 [B, D] in (select_threshold, 1], 0 for padding
      classes: int32 [B, D] from 1, 0 for padding
      class_names: string [B, D], empty for padding
      count: int32 [B], how many of the D are real

    Args:
      folder: does not exist yet.
      checkpoint: its prefix.
      config: what it was trained with, and the settings of detection.
      model_scope: scope of the network's variables.

    Raises:
      ValueError: the checkpoint is of another network.
    """

    def build() -> dict[str, Signature]:
        encoded = tf.placeholder(tf.string, [None], "encoded")
        images = tf.placeholder(tf.uint8, [None, None, None, 3], "images")
        return {
            "serving_default": named(
                Signature({"encoded": encoded}, picture_batch(encoded, decode, config, model_scope))
            ),
            "images": named(Signature({"images": images}, picture_batch(images, tf.identity, config, model_scope))),
        }

    with temporary_saved_model(checkpoint, build) as graph:
        # written again, for a SavedModel of a session takes tensors only, and no arrays
        detector = tf.compat.v2.saved_model.load(graph)
        tf.compat.v2.saved_model.save(detector, folder, signatures=dict(detector.signatures))


def tflite_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a TensorFlow Lite model, float32, of operators that every interpreter has.

    Its one signature `serving_default` takes `image`, uint8 [1, h, w, 3]: an RGB picture of any size. It gives
    the tensors that `write_saved_model` lists but `class_names`; D is all that the settings of detection allow.
    """

    def build() -> dict[str, Signature]:
        return {"serving_default": single_picture(config, model_scope)}

    with temporary_saved_model(checkpoint, build) as graph, filtered_stderr(noise=("",)):
        # what the converter prints is of its own workings; what goes wrong, it raises
        return tf.compat.v2.lite.TFLiteConverter.from_saved_model(graph).convert()


def onnx_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as an ONNX model, float32, of ONNX's own operators.

    Its input and outputs are those of `tflite_model`.

    Raises:
      ValueError: tf2onnx is not installed, or an operator of the network has no counterpart in ONNX.
    """
    try:
        import onnx  # noqa: PLC0415 (optional)
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(f"--format=onnx: {error}; pip install -r requirements-export.txt") from error
    with restored_session(checkpoint, lambda: single_picture(config, model_scope)) as (session, signature):
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
        onnx.checker.check_model(model, full_check=True)  # the converter leaves in what it cannot convert
    except onnx.checker.ValidationError as error:
        raise ValueError(f"--format=onnx: the model cannot be written: {first_line(error)}") from error
    return model.SerializeToString()

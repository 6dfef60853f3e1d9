"""The detector as a file of its own, from pictures to boxes in pixels: SavedModel, TensorFlow Lite and ONNX.

All are built of the functions that evaluation uses, channels last, so that they run on CPUs and GPUs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import tensorflow.compat.v1 as tf

from net.detections import Detections, Suppression, detect, suppress_at_once, suppress_by_class
from net.ssd_net import ssd_network
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from utility import runtime, scaffolds
from utility.anchor_manipulator import default_boxes
from utility.config import Config

_ONNX_OPSET = 17  # the newest that tf2onnx writes is 18; onnxruntime knows 17 from 1.12 on

Built = TypeVar("Built")


class Signature(NamedTuple):
    """What a model takes and gives, by the names of the tensors."""

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


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
            "serving_default": _named(Signature({"encoded": encoded}, _batch(encoded, decode, config, model_scope))),
            "images": _named(Signature({"images": images}, _batch(images, tf.identity, config, model_scope))),
        }

    with _graph_of_session(checkpoint, build) as graph:
        # written again, for a SavedModel of a session takes tensors only, and no arrays
        detector = tf.compat.v2.saved_model.load(graph)
        tf.compat.v2.saved_model.save(detector, folder, signatures=dict(detector.signatures))


def tflite_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a TensorFlow Lite model, float32, of operators that every interpreter has.

    Its one signature `serving_default` takes `image`, uint8 [1, h, w, 3]: an RGB picture of any size. It gives
    the tensors that `write_saved_model` lists but `class_names`; D is all that the settings of detection allow.
    """

    def build() -> dict[str, Signature]:
        return {"serving_default": _one_picture(config, model_scope)}

    with _graph_of_session(checkpoint, build) as graph, runtime.filtered_stderr(noise=("",)):
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
    with _session(checkpoint, lambda: _one_picture(config, model_scope)) as (session, signature):
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
        raise ValueError(f"--format=onnx: the model cannot be written: {runtime.first_line(error)}") from error
    return model.SerializeToString()


def _one_picture(config: Config, model_scope: str) -> Signature:
    """Detect in one picture of any size, with operators that other formats have too."""
    image = tf.placeholder(tf.uint8, [1, None, None, 3], "image")
    # made float first: TensorFlow Lite resizes integers to integers
    resized, size = _prepare(tf.cast(image[0], tf.float32), config)
    found = _detect(resized[tf.newaxis], config, model_scope, suppress_by_class)
    return _named(Signature({"image": image}, _outputs(found, size[tf.newaxis])))


def _batch(
    batch: tf.Tensor, read: Callable[[tf.Tensor], tf.Tensor], config: Config, model_scope: str
) -> dict[str, tf.Tensor]:
    """Detect in a batch, each of whose elements `read` makes a picture."""
    dtypes = (tf.float32, tf.float32)
    images, sizes = tf.map_fn(lambda item: _prepare(read(item), config), batch, fn_output_signature=dtypes)
    found = _detect(images, config, model_scope, suppress_at_once)
    most = tf.reduce_max(found.count)  # what follows is padding in every image
    boxes, scores, classes = (values[:, :most] for values in found[:3])
    outputs = _outputs(Detections(boxes, scores, classes, found.count), sizes)
    names = tf.constant(["", *config.class_names])
    return {**outputs, "class_names": tf.gather(names, outputs["classes"])}


def _prepare(picture: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the network's input for a picture [h, w, 3], and the picture's height and width, float32 [2]."""
    network = config.network
    image = preprocess_for_eval(picture, network.image_size, network.channel_means_rgb)
    return image, tf.cast(tf.shape(picture)[:2], tf.float32)


def _detect(images: tf.Tensor, config: Config, model_scope: str, suppression: Suppression) -> Detections:
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):  # signatures share the variables
        output = ssd_network(images, config, "channels_last", model_scope)
    return detect(output, default_boxes(config), config.detection, suppression)


def _outputs(found: Detections, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Name the detections in pictures of these heights and widths, float32 [B, 2]."""
    scale = tf.tile(sizes, [1, 2])[:, tf.newaxis]  # [B, 1, 4]
    outputs = found._asdict()
    return {"boxes_yxyx_px": outputs.pop("boxes_yxyx") * scale, **outputs}


@contextmanager
def _session(checkpoint: str, build: Callable[[], Built]) -> Iterator[tuple[tf.Session, Built]]:
    """Give a session with the graph that `build` makes and the checkpoint's values, and what `build` returns."""
    with tf.Graph().as_default(), tf.Session() as session:
        built = build()
        _restore(session, checkpoint)
        yield session, built


@contextmanager
def _graph_of_session(checkpoint: str, build: Callable[[], dict[str, Signature]]) -> Iterator[str]:
    """Write the graph that `build` makes, with the checkpoint's values, as a SavedModel that goes away again."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        with _session(checkpoint, build) as (session, signatures):
            definitions = {
                name: tf.saved_model.predict_signature_def(*signature) for name, signature in signatures.items()
            }
            builder = tf.saved_model.Builder(path)
            builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], definitions)
            builder.save()
        yield path


def _named(signature: Signature) -> Signature:
    """Give the operations the names of the outputs."""
    outputs = {name: tf.identity(value, name) for name, value in signature.outputs.items()}
    return signature._replace(outputs=outputs)


def _restore(session: tf.Session, checkpoint: str) -> None:
    """Give all variables of the graph their values in the checkpoint."""
    plan = scaffolds.check_fits(checkpoint)
    tf.train.Saver({fate.source: fate.variable for fate in plan}).restore(session, checkpoint)

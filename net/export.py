"""Export of a trained detector as SavedModel, TensorFlow Lite or ONNX model.

The graphs use the functions of evaluation, and the data format channels_last, which CPUs and GPUs support.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import tensorflow.compat.v1 as tf

from dataset.sources import labels
from net.default_boxes import default_boxes
from net.detections import Detections, NonMaxSuppression, combined_nms, detect, nms_per_class
from net.ssd_net import ssd_network
from preprocessing.ssd_preprocessing import Resample, antialiased, antialiased_by_products, decode, preprocess_for_eval
from utility.checkpoints import warm_start
from utility.config.settings import LABELS_FILE, Config
from utility.errors import UserError
from utility.run.log import first_line
from utility.startup.start import filtered_stderr

# The graph that all exported formats share, from images to boxes in pixels, with the variables of a checkpoint.

Result = TypeVar("Result")


class Signature(NamedTuple):
    """The input and output tensors of a model by name."""

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


def single_image_signature(config: Config, model_scope: str) -> Signature:
    """Build the detector for one image of any size, with operators that TensorFlow Lite and ONNX have as well.

    Args:
      config: network, default boxes and detection settings.
      model_scope: scope of the network's variables.

    Returns:
      input `image`, uint8 RGB [1, h, w, 3]; outputs as `formats.write_saved_model` lists them, without `class_names`.
    """
    image = tf.placeholder(tf.uint8, [1, None, None, 3], "image")
    # cast before resizing, because TensorFlow Lite resizes integers to integers. Its interpreter lets a caller change
    # the static 1, and would run on with the first picture, or with none: squeeze makes that an error.
    network_input, size = _preprocess(tf.cast(tf.squeeze(image, 0), tf.float32), config, antialiased_by_products)
    sizes = size[tf.newaxis]
    detections = _detect(network_input[tf.newaxis], sizes, config, model_scope, nms_per_class)
    return _named(Signature({"image": image}, _outputs(detections, sizes)))


def batch_signature(
    batch: tf.Tensor, decode: Callable[[tf.Tensor], tf.Tensor], config: Config, model_scope: str
) -> Signature:
    """Build the detector for a batch of images.

    Args:
      batch: a placeholder [B, ...]; its name is that of the input.
      decode: function from an element of the batch to an image, uint8 RGB [h, w, 3].
      config: network, default boxes and detection settings.
      model_scope: scope of the network's variables.

    Returns:
      input `batch`; outputs as `formats.write_saved_model` lists them.
    """
    dtypes, count = (tf.float32, tf.float32), tf.shape(batch)[0]
    images, sizes = tf.map_fn(lambda item: _preprocess(decode(item), config), batch, fn_output_signature=dtypes)
    images, sizes = _at_least_one(images), _at_least_one(sizes)
    detections = _detect(images, sizes, config, model_scope, combined_nms)
    max_count = tf.reduce_max(detections.count)  # beyond this there is only padding
    boxes, scores, classes = (values[:count, :max_count] for values in detections[:3])
    outputs = _outputs(Detections(boxes, scores, classes, detections.count[:count]), sizes[:count])
    names = tf.constant(["", *config.class_names])
    outputs["class_names"] = tf.gather(names, outputs["classes"])
    return _named(Signature({batch.op.name: batch}, outputs))


def _preprocess(image: tf.Tensor, config: Config, resample: Resample = antialiased) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the network's input for an image [h, w, 3], and the image's height and width, float32 [2].

    For an image without rows or columns it is that of a black pixel, because resizing nothing is an error, and in
    TensorFlow Lite a segmentation fault; `_detect` leaves out what the network sees there.
    """
    network, shape = config.network, tf.shape(image)
    lacking = tf.maximum(1 - shape, 0) * [1, 1, 0]
    image = tf.pad(image, tf.stack([tf.zeros_like(lacking), lacking], axis=1))
    max_side = config.views.max_side
    network_input = preprocess_for_eval(image, network.image_size, network.channel_means_rgb, max_side, resample)
    return network_input, tf.cast(shape[:2], tf.float32)


def _at_least_one(values: tf.Tensor) -> tf.Tensor:
    """Return values [B, ...], or zeros [1, ...] in place of no values: TensorFlow's fused convolutions fail on none."""
    lacking = tf.maximum(1 - tf.shape(values)[:1], 0)
    return tf.concat([values, tf.zeros(tf.concat([lacking, tf.shape(values)[1:]], 0), values.dtype)], 0)


def _detect(
    images: tf.Tensor, sizes: tf.Tensor, config: Config, model_scope: str, nms: NonMaxSuppression
) -> Detections:
    """Return the detections in images of heights and widths `sizes`, none where one of these is 0."""
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):  # signatures share the variables
        output = ssd_network(images, config, "channels_last", model_scope)
    found = detect(output, default_boxes(config), config.detection, nms)
    has_pixels = tf.reduce_min(sizes, axis=1, keepdims=True) > 0  # [B, 1]
    return Detections(
        boxes_yxyx=tf.where_v2(has_pixels[:, tf.newaxis], found.boxes_yxyx, 0.0),
        scores=tf.where_v2(has_pixels, found.scores, 0.0),
        classes=tf.where_v2(has_pixels, found.classes, 0),
        count=tf.where_v2(has_pixels[:, 0], found.count, 0),
    )


def _outputs(detections: Detections, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the detections by name, boxes in pixels of images with heights and widths `sizes`, float32 [B, 2]."""
    scale = tf.tile(sizes, [1, 2])[:, tf.newaxis]  # [B, 1, 4]
    outputs = detections._asdict()
    return {"boxes_yxyx_px": outputs.pop("boxes_yxyx") * scale, **outputs}


@contextmanager
def restored_session(checkpoint: str, build: Callable[[], Result]) -> Iterator[tuple[tf.Session, Result]]:
    """Build a graph and restore its variables from a checkpoint; yield the session and the result of `build`.

    Raises:
      UserError: the checkpoint does not fit the graph.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        result = build()
        _restore(session, checkpoint)
        yield session, result


@contextmanager
def temporary_saved_model(checkpoint: str, build: Callable[[], dict[str, Signature]]) -> Iterator[str]:
    """Write signatures and the variables of a checkpoint as a SavedModel; yield its path, delete it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        with restored_session(checkpoint, build) as (session, signatures):
            definitions = {
                name: tf.saved_model.predict_signature_def(*signature) for name, signature in signatures.items()
            }
            builder = tf.saved_model.Builder(path)
            builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], definitions)
            builder.save()
        yield path


def _named(signature: Signature) -> Signature:
    """Name the output tensors in the graph as in the signature."""
    outputs = {name: tf.identity(value, name) for name, value in signature.outputs.items()}
    return signature._replace(outputs=outputs)


def _restore(session: tf.Session, checkpoint: str) -> None:
    """Restore all variables of the graph from a checkpoint."""
    plan = warm_start.check_fits(checkpoint)
    tf.train.Saver({warm_start.source: warm_start.variable for warm_start in plan}).restore(session, checkpoint)


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
      UserError: as `write_saved_model`, `tflite_model` and `onnx_model`.
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
      UserError: the checkpoint is of another network.
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
      UserError: the checkpoint is of another network.
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
      UserError: tf2onnx is not installed, an operator of the network has no counterpart in ONNX, or the checkpoint is
        of another network.
    """
    try:
        import onnx  # noqa: PLC0415 (optional)
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise UserError(f"--format=onnx: {error}; pip install -r requirements-export.txt") from error
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
        raise UserError(f"--format=onnx: the model cannot be written: {first_line(error)}") from error
    return model.SerializeToString()

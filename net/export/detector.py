"""The graph that all exported formats share, from images to boxes in pixels, with the variables of a checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import tensorflow.compat.v1 as tf

from net.network.detections import Detections, NonMaxSuppression, combined_nms, detect, nms_per_class
from net.network.ssd_net import ssd_network
from preprocessing.reduction import Resample, antialiased, antialiased_by_products
from preprocessing.ssd_preprocessing import preprocess_for_eval
from utility.boxes.default_boxes import default_boxes
from utility.checkpoints import assignment
from utility.config.settings import Config

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
      ValueError: the checkpoint does not fit the graph.
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
    plan = assignment.check_fits(checkpoint)
    tf.train.Saver({assignment.source: assignment.variable for assignment in plan}).restore(session, checkpoint)

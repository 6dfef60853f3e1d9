"""The detector as a graph from pictures to boxes in pixels, which every exported format shares."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import tensorflow.compat.v1 as tf

from net.network.detections import Detections, Suppression, detect, suppress_at_once, suppress_by_class
from net.network.ssd_net import ssd_network
from preprocessing.ssd_preprocessing import preprocess_for_eval
from utility.boxes.default_boxes import default_boxes
from utility.checkpoints import assignment
from utility.config.settings import Config

Built = TypeVar("Built")


class Signature(NamedTuple):
    """What a model takes and gives, by the names of the tensors."""

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


def single_picture(config: Config, model_scope: str) -> Signature:
    """Detect in one picture of any size, with operators that other formats have too."""
    image = tf.placeholder(tf.uint8, [1, None, None, 3], "image")
    # made float first: TensorFlow Lite resizes integers to integers
    resized, size = _prepare(tf.cast(image[0], tf.float32), config)
    found = _detect(resized[tf.newaxis], config, model_scope, suppress_by_class)
    return named(Signature({"image": image}, _outputs(found, size[tf.newaxis])))


def picture_batch(
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
def restored_session(checkpoint: str, build: Callable[[], Built]) -> Iterator[tuple[tf.Session, Built]]:
    """Give a session with the graph that `build` makes and the checkpoint's values, and what `build` returns."""
    with tf.Graph().as_default(), tf.Session() as session:
        built = build()
        _restore(session, checkpoint)
        yield session, built


@contextmanager
def temporary_saved_model(checkpoint: str, build: Callable[[], dict[str, Signature]]) -> Iterator[str]:
    """Write the graph that `build` makes, with the checkpoint's values, as a SavedModel that goes away again."""
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


def named(signature: Signature) -> Signature:
    """Give the operations the names of the outputs."""
    outputs = {name: tf.identity(value, name) for name, value in signature.outputs.items()}
    return signature._replace(outputs=outputs)


def _restore(session: tf.Session, checkpoint: str) -> None:
    """Give all variables of the graph their values in the checkpoint."""
    plan = assignment.check_fits(checkpoint)
    tf.train.Saver({fate.source: fate.variable for fate in plan}).restore(session, checkpoint)

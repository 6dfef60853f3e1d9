"""Export of a trained detector as SavedModel, TensorFlow Lite or ONNX model.

The graphs have the data format channels_last, which CPUs and GPUs support. The SavedModel is built of the functions of
evaluation; TensorFlow Lite and ONNX, which lack two of their operators, take others here that find the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.sources import labels
from net.default_boxes import DefaultBoxes, default_boxes
from net.detections import Detections, candidates, detect, merge_classes
from net.ssd_net import SsdOutput, ssd_network
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval, reduced_size
from utility.checkpoints import warm_start
from utility.config.settings import LABELS_FILE, Config, DetectionConfig
from utility.errors import UserError
from utility.run.log import first_line
from utility.startup.start import filtered_stderr

_ONNX_OPSET = 17  # supported by onnxruntime from 1.12 on; tf2onnx supports up to 18

Signature = tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]  # the inputs and outputs of a model by name


def export(kind: str, output: Path, checkpoint: str, config: Config, model_scope: str) -> None:
    """Write the detector of a checkpoint to the folder `output`, which must be empty or not exist.

    The folder is created once it is complete. It is a SavedModel ("saved_model"), or has model.tflite or model.onnx
    ("tflite", "onnx") and labels.txt. `config` is that of the training, with the detection settings to export.
    A UserError if the checkpoint is of another network, or as `onnx_model`.
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
    The folder must not exist; the other arguments and errors are those of `export`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        with tf.Graph().as_default(), tf.Session() as session:
            encoded = tf.placeholder(tf.string, [None], "encoded")
            images = tf.placeholder(tf.uint8, [None, None, None, 3], "images")
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):  # both share the variables
                of_files = _batch_signature(encoded, decode, config, model_scope)
                of_images = _batch_signature(images, tf.identity, config, model_scope)
            path = _save(temporary, session, checkpoint, {"serving_default": of_files, "images": of_images})
        # saved again by TensorFlow 2: the signatures of a session's SavedModel accept tensors only, not arrays
        detector = tf.compat.v2.saved_model.load(path)
        tf.compat.v2.saved_model.save(detector, folder, signatures=dict(detector.signatures))


def tflite_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a float32 TensorFlow Lite model that needs built-in operators only.

    The input of its signature `serving_default` is `image`, uint8 RGB [1, h, w, 3], of any size. The outputs are those
    of `write_saved_model` without `class_names`; D is the largest number that the detection settings allow. A picture
    without rows or columns has none; another number of pictures than one is an error of the interpreter.
    """
    with tempfile.TemporaryDirectory() as temporary:
        with tf.Graph().as_default(), tf.Session() as session:
            signature = _single_image_signature(config, model_scope)
            path = _save(temporary, session, checkpoint, {"serving_default": signature})
        with filtered_stderr(noise=("",)):  # the converter prints debugging output only; it raises its errors
            return tf.compat.v2.lite.TFLiteConverter.from_saved_model(path).convert()


def onnx_model(checkpoint: str, config: Config, model_scope: str) -> bytes:
    """Return the detector as a float32 ONNX model that needs ONNX's own operators only, as `tflite_model` otherwise.

    A UserError if tf2onnx is not installed, or an operator of the network has no counterpart in ONNX.
    """
    try:
        import onnx  # noqa: PLC0415 (optional)
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise UserError(f"--format=onnx: {error}; pip install -r requirements-export.txt") from error
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, outputs = _single_image_signature(config, model_scope)
        _restore(session, checkpoint)
        names = [tensor.op.name for tensor in outputs.values()]
        constants = tf.graph_util.convert_variables_to_constants(session, session.graph_def, names)
    tf2onnx.logging.set_level(tf2onnx.logging.ERROR)
    model, _ = tf2onnx.convert.from_graph_def(
        constants,
        name="ssd",
        opset=_ONNX_OPSET,
        input_names=[tensor.name for tensor in inputs.values()],
        output_names=[tensor.name for tensor in outputs.values()],
        tensors_to_rename={tensor.name: name for name, tensor in {**inputs, **outputs}.items()},
    )
    try:
        onnx.checker.check_model(model, full_check=True)  # tf2onnx leaves operators that it cannot convert in the model
    except onnx.checker.ValidationError as error:
        raise UserError(f"--format=onnx: the model cannot be written: {first_line(error)}") from error
    return model.SerializeToString()


def _restore(session: tf.Session, checkpoint: str) -> None:
    plan = warm_start.check_fits(checkpoint)
    tf.train.Saver({warm_start.source: warm_start.variable for warm_start in plan}).restore(session, checkpoint)


def _save(parent: str, session: tf.Session, checkpoint: str, signatures: dict[str, Signature]) -> str:
    """Write the session's graph, with a checkpoint's variables, as a SavedModel below a folder; return its path."""
    _restore(session, checkpoint)
    path = str(Path(parent) / "model")
    named = {name: tf.saved_model.predict_signature_def(*each) for name, each in signatures.items()}
    builder = tf.saved_model.Builder(path)
    builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], named)
    builder.save()
    return path


def _batch_signature(
    batch: tf.Tensor, decoded: Callable[[tf.Tensor], tf.Tensor], config: Config, model_scope: str
) -> Signature:
    """Build the detector for a batch, a placeholder [B, ...] named as the input, of which `decoded` makes images."""
    network_input = config.network.image_size, config.network.channel_means_rgb

    def preprocessed(item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, size = _at_least_a_pixel(decoded(item))
        return preprocess_for_eval(image, *network_input, config.views.max_side), size

    images, sizes = tf.map_fn(preprocessed, batch, fn_output_signature=(tf.float32, tf.float32))
    count = tf.shape(batch)[0]
    lacking = tf.maximum(1 - count, 0)  # TensorFlow's fused convolutions fail on a batch of none
    images, sizes = tf.pad(images, [[0, lacking], [0, 0], [0, 0], [0, 0]]), tf.pad(sizes, [[0, lacking], [0, 0]])
    output = ssd_network(images, config, "channels_last", model_scope)
    outputs = _outputs(detect(output, default_boxes(config), config.detection), sizes)
    most = tf.reduce_max(outputs["count"])  # beyond this there is only padding
    outputs = {name: values[:count] if name == "count" else values[:count, :most] for name, values in outputs.items()}
    outputs["class_names"] = tf.gather(tf.constant(["", *config.class_names]), outputs["classes"])
    return {batch.op.name: batch}, outputs


def _single_image_signature(config: Config, model_scope: str) -> Signature:
    """Build the detector for one image, with operators that TensorFlow Lite and ONNX have as well."""
    placeholder = tf.placeholder(tf.uint8, [1, None, None, 3], "image")
    # cast before resizing, because TensorFlow Lite resizes integers to integers. Its interpreter lets a caller change
    # the static 1, and would run on with the first picture, or with none: squeeze makes that an error.
    image, size = _at_least_a_pixel(tf.cast(tf.squeeze(placeholder, 0), tf.float32))
    if config.views.max_side is not None:
        image = reduce_by_products(image, config.views.max_side)
    network_input = preprocess_for_eval(image, config.network.image_size, config.network.channel_means_rgb)
    output = ssd_network(network_input[tf.newaxis], config, "channels_last", model_scope)
    found = detect_in_one(output, default_boxes(config), config.detection)
    return {"image": placeholder}, _outputs(found, size[tf.newaxis])


def _at_least_a_pixel(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return an image [h, w, 3] with black pixels in the place of no rows or columns, and its size, float32 [2].

    To resize nothing is an error, and in TensorFlow Lite a segmentation fault; `_outputs` leaves out what is found.
    """
    lacking = tf.maximum(1 - tf.shape(image), 0) * [1, 1, 0]
    padded = tf.pad(image, tf.stack([tf.zeros_like(lacking), lacking], axis=1))
    return padded, tf.cast(tf.shape(image)[:2], tf.float32)


def _outputs(found: Detections, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the detections in images of heights and widths `sizes` [B, 2] by name, none where one of these is 0."""
    has_pixels = tf.reduce_min(sizes, axis=1, keepdims=True) > 0  # [B, 1]
    boxes = tf.where_v2(has_pixels[:, tf.newaxis], found.boxes_yxyx, 0.0)
    return {
        "boxes_yxyx_px": boxes * tf.tile(sizes, [1, 2])[:, tf.newaxis],
        "scores": tf.where_v2(has_pixels, found.scores, 0.0),
        "classes": tf.where_v2(has_pixels, found.classes, 0),
        "count": tf.where_v2(has_pixels[:, 0], found.count, 0),
    }


def reduce_by_products(image: tf.Tensor, max_side: int) -> tf.Tensor:
    """Reduce an image, float32 [h, w, 3], as `ssd_preprocessing.reduce` does, but by two products of matrices."""

    def reduced_or_not(image: tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(tf.shape(image)[:2])
        new_height, new_width = tf.unstack(reduced_size(image, max_side))

        def reduced() -> tf.Tensor:
            rows = _weights(height, new_height) @ tf.reshape(image, [height, width * 3])
            columns = tf.transpose(tf.reshape(rows, [new_height, width, 3]), [1, 0, 2])
            columns = _weights(width, new_width) @ tf.reshape(columns, [width, new_height * 3])
            return tf.transpose(tf.reshape(columns, [new_width, new_height, 3]), [1, 0, 2])

        return tf.cond(tf.maximum(height, width) > max_side, reduced, lambda: image)

    # as a function, because TensorFlow Lite and ONNX have no counterpart of a condition in the graph itself
    result = tf.compat.v2.function(reduced_or_not, autograph=False)(image)
    result.set_shape([None, None, 3])
    return result


def _weights(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Return the weight of each old pixel in each new one along a side, float32 [new, old]; rows add up to 1."""
    old_centres, new_centres = (tf.cast(tf.range(count), tf.float32) + 0.5 for count in (old, new))
    distances = old_centres * (tf.cast(new, tf.float32) / tf.cast(old, tf.float32)) - new_centres[:, tf.newaxis]
    weights = tf.nn.relu(1 - tf.abs(distances))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def detect_in_one(output: SsdOutput, anchors: DefaultBoxes, settings: DetectionConfig) -> Detections:
    """Compute the detections in one image (B = 1) as `detections.detect` does, but with an op per class."""
    boxes, scores = candidates(output, anchors, settings)
    kept = [nms_of_class(*each, settings) for each in zip(tf.unstack(boxes[0]), tf.unstack(scores[0]), strict=True)]
    kept_boxes, kept_scores = (tf.stack(values)[tf.newaxis] for values in zip(*kept, strict=True))
    return merge_classes(kept_boxes, kept_scores, anchors.frame, settings)


def nms_of_class(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes [k, 4] with scores [k] of one class; return `nms_topk` boxes and scores, those of padding 0."""
    kept, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=scores,
        max_output_size=settings.nms_topk,
        iou_threshold=settings.nms_threshold,
        score_threshold=settings.select_threshold,
        pad_to_max_output_size=True,
    )
    kept = tf.reshape(kept, [settings.nms_topk])
    is_detection = tf.range(settings.nms_topk) < count
    return tf.gather(boxes, kept), tf.where_v2(is_detection, tf.gather(scores, kept), 0.0)

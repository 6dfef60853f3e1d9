"""A fixed sample of validation pictures with ground truth and detections, for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records.parsing import parse
from dataset.sources.annotations import Annotation
from preprocessing.ssd_preprocessing import decode
from utility.config.presets import DEMO
from utility.drawing.detections import Mark, class_name, detection_mark, draw_marks
from utility.drawing.sheet import reduced

PICTURES = 8  # of the sample
_LONGEST = 640  # pixels
_GROUND_TRUTH = (255, 255, 255)  # colour


class SamplePicture(NamedTuple):
    """A picture of the sample, reduced to at most 640 pixels, with its ground truth."""

    pixels: Image.Image
    annotation: Annotation


def positions(images: int, number: int = PICTURES) -> list[int]:
    """Return the positions of the sample among so many images, evenly spread; all of them if they are few."""
    number = min(images, number)
    return [(2 * n + 1) * images // (2 * number) for n in range(number)]


def read_pictures(shards: Sequence[str], where: Sequence[int]) -> dict[int, Image.Image]:
    """Return the pictures at some positions in the records, of at most 640 pixels."""

    def is_of_sample(position: tf.Tensor, record: tf.Tensor) -> tf.Tensor:
        del record
        return tf.reduce_any(tf.equal(position, tf.constant([*where], tf.int64)))

    def picture(position: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return position, decode(parse(record)["image_encoded"])

    without_gpu = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=without_gpu) as session:
        records = tf.data.TFRecordDataset(list(shards)).enumerate()
        of_sample = records.filter(tf.autograph.experimental.do_not_convert(is_of_sample))
        pictures = of_sample.map(tf.autograph.experimental.do_not_convert(picture))
        following = tf.data.make_one_shot_iterator(pictures).get_next()
        found = (session.run(following) for _ in where)
        return {int(position): reduced(Image.fromarray(pixels), _LONGEST) for position, pixels in found}


def draw(picture: SamplePicture, found: Mapping[str, Any], class_names: Sequence[str]) -> Image.Image:
    """Return a picture with its ground truth, in white, and the detections that the demo would draw.

    Args:
      picture: of the sample.
      found: the detections in it, as `net.estimator.prediction.detect` yields them.
      class_names: of class ids from 1.
    """
    width, height = picture.pixels.size
    shown = np.flatnonzero(found["scores"] >= DEMO["detection.select_threshold"])[: DEMO["detection.nms_topk"]]
    detections = [
        detection_mark(box * [height, width, height, width], score, int(label), class_names)
        for box, score, label in zip(*(found[name][shown] for name in ("boxes_yxyx", "scores", "classes")), strict=True)
    ]
    size = picture.annotation.height, picture.annotation.width
    factor = np.tile(np.array([height, width]) / size, 2)
    objects = [
        Mark(np.array(each.box_yxyx_px) * factor, _GROUND_TRUTH, class_name([each.name], 1))
        for each in picture.annotation.objects
    ]
    return draw_marks(picture.pixels, [*detections, *objects])


def summary_value(tag: str, picture: Image.Image) -> Any:
    """Return a picture as a value of a summary."""
    encoded = io.BytesIO()
    picture.save(encoded, format="JPEG", quality=90)
    image = tf.Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
    )
    return tf.Summary.Value(tag=tag, image=image)

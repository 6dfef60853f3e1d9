"""Evaluation of a checkpoint on the validation records."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.input import eval_input_fn
from dataset.records.parsing import faults_named, ground_truth_of, parse, without_faults
from dataset.records.record_files import count_records
from dataset.scores import average_precision, voc_results
from dataset.sources.annotations import Annotation
from net.prediction import detect
from preprocessing.ssd_preprocessing import decode
from utility.config.presets import DEMO
from utility.config.settings import Config
from utility.drawing.detections import Mark, class_name, detection_mark, draw_marks, reduced
from utility.run.log import log, progress

# A fixed sample of validation pictures with ground truth and detections, for TensorBoard.

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
      found: the detections in it, as `net.prediction.detect` yields them.
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


_BATCH = 8  # images at once


class Evaluation:
    """Detects objects in the images of some records, and scores the detections against the records' ground truth."""

    def __init__(
        self,
        shards: list[str],
        config: Config,
        batch_size: int = _BATCH,
        threads: int = 24,
        skip_bad_records: bool = False,
    ):
        """Count the images.

        Args:
            shards: record files.
            config: of the network, with the class names.
            batch_size: images at once.
            threads: that prepare images.
            skip_bad_records: leave out broken records; otherwise they are a UserError.
        """
        self.shards = without_faults(shards, len(config.class_names)) if skip_bad_records else shards
        self._config = config
        self.images = count_records(self.shards)
        self.input_fn = eval_input_fn(self.shards, config, batch_size, threads)
        # by position in the records: the last detections in the pictures of a fixed sample
        self.sampled: dict[int, dict[str, Any]] = {}

    @cached_property
    def ground_truth(self) -> list[Annotation]:
        """The ground truth of the records."""
        return ground_truth_of(self.shards, self._config.class_names)

    @cached_property
    def sample(self) -> dict[int, SamplePicture]:
        """The pictures of the sample, by position in the records."""
        pictures = read_pictures(self.shards, positions(self.images))
        return {position: SamplePicture(pixels, self.ground_truth[position]) for position, pixels in pictures.items()}

    def detect(
        self, estimator: tf.estimator.Estimator, checkpoint: str, after_image: Callable[[], None] = lambda: None
    ) -> voc_results.StoredDetections:
        """Return the detections of a checkpoint by class id, in pixels; `after_image` may raise to interrupt it.

        They are kept in an unnamed file in the model directory, not in memory. A UserError names a broken record,
        before the first image unless it is the picture that cannot be decoded.
        """

        def images():
            found = detect(estimator, self.input_fn, checkpoint)
            for position, image in enumerate(progress(found, self.images, "image")):
                if position in of_sample:
                    self.sampled[position] = image
                after_image()
                yield image

        of_sample = frozenset(positions(self.images))
        self.ground_truth  # noqa: B018 (reads all records)
        folder = Path(estimator.model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with faults_named(self.shards, len(self._config.class_names)):
            return voc_results.detections_by_class(images(), folder)

    def score(self, found: Mapping[int, voc_results.Detections]) -> average_precision.EvaluationResult:
        """Return VOC07's average precisions, and log them."""
        result = average_precision.evaluate(found, self.ground_truth, self._config.class_names)
        for warning in result.warnings:
            log(f"warning: {warning}")
        log("\n".join(average_precision.format_report(result)))
        return result

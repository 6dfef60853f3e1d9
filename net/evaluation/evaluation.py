"""Evaluation of a checkpoint on the validation records."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import tensorflow.compat.v1 as tf

from dataset.input.evaluation import eval_input_fn
from dataset.input.reading import ground_truth_of
from dataset.records.record_files import count_records
from dataset.scores import average_precision, voc_results
from dataset.sources.annotations import Annotation
from net.estimator.prediction import detect
from utility.config.settings import Config
from utility.run.log import log, progress

_BATCH = 8  # images at once


class Evaluation:
    """Detects objects in the images of some records, and scores the detections against the records' ground truth."""

    def __init__(self, shards: list[str], config: Config, batch_size: int = _BATCH, threads: int = 24):
        """Count the images.

        Args:
            shards: record files.
            config: of the network, with the class names.
            batch_size: images at once.
            threads: that prepare images.
        """
        self._shards, self._config = shards, config
        self.images = count_records(shards)
        self.input_fn = eval_input_fn(shards, config, batch_size, threads)

    @cached_property
    def ground_truth(self) -> list[Annotation]:
        """The ground truth of the records."""
        return ground_truth_of(self._shards, self._config.class_names)

    def detect(
        self, estimator: tf.estimator.Estimator, checkpoint: str, after_image: Callable[[], None] = lambda: None
    ) -> dict[int, voc_results.Detections]:
        """Return the detections of a checkpoint by class id, in pixels; `after_image` may raise to interrupt it."""

        def images():
            found = detect(estimator, self.input_fn, checkpoint)
            for image in progress(found, self.images, "image"):
                after_image()
                yield image

        return voc_results.detections_by_class(images())

    def score(self, found: dict[int, voc_results.Detections]) -> average_precision.EvaluationResult:
        """Return VOC07's average precisions, and log them."""
        result = average_precision.evaluate(found, self.ground_truth, self._config.class_names)
        for warning in result.warnings:
            log(f"warning: {warning}")
        log("\n".join(average_precision.format_report(result)))
        return result

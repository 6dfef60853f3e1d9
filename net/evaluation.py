"""Evaluation of a checkpoint on the validation records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.input import eval_input_fn
from dataset.records.parsing import faults_named, ground_truth_of, without_faults
from dataset.records.record_files import count_records
from dataset.scores.average_precision import EvaluationResult, evaluate, format_report
from dataset.scores.detection_store import ClassDetections, StoredDetections
from dataset.sources.annotations import Annotation
from net.prediction import Found, predict_pictures
from utility.config.settings import Config
from utility.run.log import log, progress


class Evaluation:
    """Detects objects in the images of some records, and scores the detections against the records' ground truth."""

    def __init__(
        self, shards: list[str], config: Config, batch_size: int = 8, threads: int = 24, skip_bad_records: bool = False
    ):
        """Count the images of record files; broken records are left out if that is wanted, else a UserError."""
        self.shards = without_faults(shards, len(config.class_names)) if skip_bad_records else shards
        self.images = count_records(self.shards)
        self.input_fn = eval_input_fn(self.shards, config, batch_size, threads)
        self._class_names, self._pixel_extent = config.class_names, config.pixel_extent

    @cached_property
    def ground_truth(self) -> list[Annotation]:
        """The ground truth of the records."""
        return ground_truth_of(self.shards, self._class_names)

    def predict(
        self,
        estimator: tf.estimator.Estimator,
        checkpoint: str,
        on_image: Callable[[int, Found], None] = lambda position, found: None,
    ) -> StoredDetections:
        """Return the detections of a checkpoint by class id, in pixels.

        They are kept in an unnamed file in the model directory, not in memory. `on_image` is given the position of each
        image in the records and what is found in it, and may raise to interrupt. A UserError names a broken record,
        before the first image unless it is the picture that cannot be decoded.
        """

        def images() -> Iterator[Found]:
            found = predict_pictures(estimator, self.input_fn, checkpoint)
            for position, image in enumerate(progress(found, self.images, "image")):
                on_image(position, image)
                yield image

        self.ground_truth  # noqa: B018 (reads all records)
        folder = Path(estimator.model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with faults_named(self.shards, len(self._class_names)):
            return StoredDetections(images(), folder)

    def score(self, found: Mapping[int, ClassDetections]) -> EvaluationResult:
        """Return VOC07's average precisions, and log them."""
        result = evaluate(found, self.ground_truth, self._class_names, pixel_extent=self._pixel_extent)
        for warning in result.warnings:
            log(f"warning: {warning}")
        log("\n".join(format_report(result)))
        return result

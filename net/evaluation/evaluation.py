"""Evaluation of a checkpoint on the validation records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from dataset.input.evaluation import eval_input_fn
from dataset.input.reading import ground_truth_of
from dataset.records.record_files import count_records
from dataset.records.scanning import faults_named, without_faults
from dataset.scores import average_precision, voc_results
from dataset.sources.annotations import Annotation
from net.estimator.prediction import detect
from net.evaluation import sample_pictures
from net.evaluation.sample_pictures import SamplePicture
from utility.config.settings import Config
from utility.run.log import log, progress

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
            skip_bad_records: leave out broken records; otherwise they are a ValueError.
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
        pictures = sample_pictures.read_pictures(self.shards, sample_pictures.positions(self.images))
        return {position: SamplePicture(pixels, self.ground_truth[position]) for position, pixels in pictures.items()}

    def detect(
        self, estimator: tf.estimator.Estimator, checkpoint: str, after_image: Callable[[], None] = lambda: None
    ) -> voc_results.StoredDetections:
        """Return the detections of a checkpoint by class id, in pixels; `after_image` may raise to interrupt it.

        They are kept in an unnamed file in the model directory, not in memory. A ValueError names a broken record,
        before the first image unless it is the picture that cannot be decoded.
        """

        def images():
            found = detect(estimator, self.input_fn, checkpoint)
            for position, image in enumerate(progress(found, self.images, "image")):
                if position in of_sample:
                    self.sampled[position] = image
                after_image()
                yield image

        of_sample = frozenset(sample_pictures.positions(self.images))
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

"""Evaluation of a checkpoint on records, by itself or in the middle of a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from dataset import dataset_common, labels, records, voc, voc_metric
from dataset.annotations import Annotation
from net import estimator as estimator_lib
from utility import checkpoints, config_file, runtime
from utility import config as config_lib
from utility.runtime import log

BEST = "best"  # folder in the model directory
HISTORY = "evaluations.json"

_BATCH = 8  # images at once


class Evaluation:
    """Detects the objects of a set of records, and scores what was found against the records' own."""

    def __init__(self, shards: list[str], config: config_lib.Config, batch_size: int = _BATCH, threads: int = 24):
        """Take the record files, the config with the class names, images at once and threads that prepare them."""
        self._shards, self._config = shards, config
        self.images = dataset_common.count_records(shards)
        self.input_fn = dataset_common.eval_input_fn(shards, config, batch_size, threads)

    @cached_property
    def ground_truth(self) -> list[Annotation]:
        """The records' objects."""
        return dataset_common.ground_truth_of(self._shards, self._config.class_names)

    def detect(
        self, estimator: tf.estimator.Estimator, checkpoint: str, after_image: Callable[[], None] = lambda: None
    ) -> dict[int, voc.Detections]:
        """Return the detections of a checkpoint by class id, in pixels; `after_image` may raise to break off."""

        def images():
            found = estimator_lib.detect(estimator, self.input_fn, checkpoint)
            for image in runtime.progress(found, self.images, "image"):
                after_image()
                yield image

        return voc.detections_by_class(images())

    def score(self, found: dict[int, voc.Detections]) -> voc_metric.EvaluationResult:
        """Return VOC07's average precisions, and log them."""
        result = voc_metric.evaluate(found, self.ground_truth, self._config.class_names)
        for warning in result.warnings:
            log(f"warning: {warning}")
        log("\n".join(voc_metric.format_report(result)))
        return result


def in_training(
    data_dir: str, config: config_lib.Config, model_dir: str, every: int = 1, patience: int = 0
) -> InTraining:
    """Return what evaluates a training on the validation records of a data set; see InTraining."""
    evaluation = Evaluation(records.find_shards(data_dir, records.VALIDATION), config)
    return InTraining(evaluation, config, model_dir, every, patience)


class InTraining:
    """Evaluates every so many steps of a training, keeps the best checkpoint, and tells when to stop early.

    The steps are multiples of `every`, and the last one. What was found is kept in {model_dir}/evaluations.json,
    so that a run that goes on knows it; {model_dir}/best holds the best checkpoint, and eval_ssd.py and the demo
    take that folder as they take the model directory.
    """

    def __init__(self, evaluation: Evaluation, config: config_lib.Config, model_dir: str, every: int, patience: int):
        """Take what evaluates, every how many steps, and after how many without a better mAP to stop (0: never).

        Raises:
            ValueError: the records hold nothing to find, or other classes than the config.
        """
        self.input_fn = evaluation.input_fn
        self._evaluation, self._config, self._folder = evaluation, config, Path(model_dir)
        self._every, self._patience = every, patience
        self._history: list[dict[str, Any]] = _read_history(self._folder / HISTORY)
        voc_metric.evaluate({}, evaluation.ground_truth, config.class_names)  # now rather than after hours

    def begin(self, step: int) -> None:
        """Leave out evaluations of later steps: a run that goes on from an older checkpoint comes there again."""
        self._history = [entry for entry in self._history if entry["step"] <= step]

    def next_step(self, step: int) -> int:
        """Return the step after `step` at which to evaluate."""
        return (step // self._every + 1) * self._every

    def is_due(self, step: int, last_step: int) -> bool:
        """Tell whether a training at `step` is to be evaluated now."""
        return step > 0 and not self.knows(step) and (step % self._every == 0 or step == last_step)

    def knows(self, step: int) -> bool:
        """Tell whether the last evaluation was of `step`."""
        return bool(self._history) and self._history[-1]["step"] == step

    def run(self, estimator: tf.estimator.Estimator, checkpoint: str, step: int, check: Callable[[], None]) -> None:
        """Evaluate a checkpoint, log and note the result, and keep the checkpoint if it is the best; see `detect`."""
        log(f"evaluating step {step} on {self._evaluation.images} images")
        result = self._evaluation.score(self._evaluation.detect(estimator, checkpoint, check))
        scores = {name: score.ap for name, score in result.classes.items()}
        _write_summaries(self._folder / "eval", step, {"mAP": result.mean_ap, **{f"AP/{n}": scores[n] for n in scores}})
        best = self._best()
        if best is None or result.mean_ap > best["mAP"]:
            checkpoints.copy(checkpoint, str(self._folder / BEST))
            config_file.save(self._config, str(self._folder / BEST))
            log(f"the best so far: kept in {self._folder / BEST}")
        else:
            log(f"the best so far is {best['mAP']:.4f}, of step {best['step']}")
        # noted last: where a run is killed before that, it evaluates again
        self._history.append({"step": step, "mAP": result.mean_ap, "AP": scores})
        labels.write_whole(self._folder / HISTORY, json.dumps(self._history, indent=1) + "\n")

    def _best(self) -> dict[str, Any] | None:
        return max(self._history, key=lambda entry: entry["mAP"], default=None)  # the first of equal ones

    def stops_early(self) -> bool:
        """Tell, also on the log, whether the last evaluations have brought no better mAP."""
        best = self._best()
        if best is None or not self._patience:
            return False
        since = len(self._history) - 1 - self._history.index(best)
        if since < self._patience:
            return False
        log(
            f"stopped early: {since} evaluations without a better mAP than {best['mAP']:.4f} of step {best['step']};"
            f" that checkpoint is in {self._folder / BEST}; without --early_stop_evals the same command goes on"
        )
        return True


def _read_history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it, and the evaluations start anew") from error


def _write_summaries(folder: Path, step: int, scores: dict[str, float | None]) -> None:
    """Write scores for TensorBoard, as curves of a run of their own; None is left out."""
    values = [tf.Summary.Value(tag=f"VOC07/{n}", simple_value=s) for n, s in scores.items() if s is not None]
    with tf.Graph().as_default():
        writer = tf.summary.FileWriterCache.get(str(folder))
    writer.add_summary(tf.Summary(value=values), step)
    writer.flush()

"""Evaluation in the course of a training: scores, the best checkpoint, early stopping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.records.record_files import find_shards
from dataset.scores import average_precision
from dataset.sources.annotations import VALIDATION
from net import curves
from net.curves import Scores
from net.evaluation import Evaluation, draw, summary_value
from utility.checkpoints import model_directory
from utility.config import config_file
from utility.config.settings import Config
from utility.errors import UserError
from utility.run.log import attempted, log

BEST = "best"  # folder in the model directory


class PeriodicEvaluation:
    """Evaluates a training at multiples of `every` steps and at the last, keeps the best checkpoint, stops early.

    The scores are kept in {model_dir}/evaluations.json, which a resumed run reads. {model_dir}/best holds the best
    checkpoint; eval_ssd.py and the demo take that folder like a model directory.
    """

    def __init__(self, evaluation: Evaluation, config: Config, model_dir: str, every: int, patience: int):
        """Read the scores of an earlier run, and check that the records can be scored.

        Args:
            evaluation: of the validation records.
            config: of the training; saved beside the best checkpoint.
            model_dir: of the training.
            every: steps between two evaluations; 0 where another process trains.
            patience: evaluations without a better mAP after which to stop; 0: never.

        Raises:
            UserError: the records hold no object to find, or other classes than the config.
        """
        self.input_fn = evaluation.input_fn
        self._evaluation, self._config, self._folder = evaluation, config, Path(model_dir)
        self._every, self._patience = every, patience
        self._history: list[Scores] = curves.read(self._folder)
        average_precision.evaluate(
            {}, evaluation.ground_truth, config.class_names
        )  # raises now, not after hours of training

    @classmethod
    def of_records(
        cls,
        config: Config,
        data_dir: str,
        model_dir: str,
        every: int = 0,
        patience: int = 0,
        skip_bad_records: bool = False,
    ) -> PeriodicEvaluation:
        """Return the evaluation on the validation records of a data set, maybe without the broken ones.

        A UserError names --eval_every_steps if there are no such records, or no object in them.
        """
        try:
            shards = find_shards(data_dir, VALIDATION)
            evaluation = Evaluation(shards, config, skip_bad_records=skip_bad_records)
            return cls(evaluation, config, model_dir, every, patience)
        except UserError as error:
            if not every:
                raise
            raise UserError(f"--eval_every_steps={every}: {error}") from error

    def resume_at(self, step: int) -> None:
        """Drop the scores of later steps: a run that resumes from an older checkpoint evaluates them again."""
        self._history = [entry for entry in self._history if entry["step"] <= step]

    def next_step(self, step: int) -> int:
        """Return the step after `step` at which to evaluate."""
        return (step // self._every + 1) * self._every

    def is_due(self, step: int, last_step: int) -> bool:
        """Tell whether a training at `step` is to be evaluated now."""
        return step > 0 and not self.has_scored(step) and (step % self._every == 0 or step == last_step)

    def has_scored(self, step: int) -> bool:
        """Tell whether the last evaluation was of `step`."""
        return bool(self._history) and self._history[-1]["step"] == step

    def run(self, estimator: tf.estimator.Estimator, checkpoint: str, step: int, check: Callable[[], None]) -> None:
        """Evaluate a checkpoint, log and save the scores, and keep the checkpoint if it is the best.

        `check` is called after each image, and may raise to interrupt the evaluation.
        """
        log(f"evaluating step {step} on {self._evaluation.images} images")
        result = self._evaluation.score(self._evaluation.detect(estimator, checkpoint, check))
        scores = {name: score.ap for name, score in result.classes.items()}
        _write_summaries(self._folder / "eval", step, {"mAP": result.mean_ap, **{f"AP/{n}": scores[n] for n in scores}})
        self._write_sample(step)
        best = self._best()
        if best is None or result.mean_ap > best["mAP"]:
            model_directory.copy(checkpoint, str(self._folder / BEST))
            config_file.save(self._config, str(self._folder / BEST))
            log(f"the best so far: kept in {self._folder / BEST}")
        else:
            log(f"the best so far is {best['mAP']:.4f}, of step {best['step']}")
        # saved last: a run that is killed before that evaluates again
        self._history.append({"step": step, "mAP": result.mean_ap, "AP": scores})
        curves.write(self._folder, self._history)
        curves.draw_again(self._folder)

    def _write_sample(self, step: int) -> None:
        """Write what was found in the sample's pictures for TensorBoard."""
        with attempted("the sample of validation pictures"):
            evaluation = self._evaluation
            values = [
                summary_value(
                    f"validation/{evaluation.sample[position].annotation.image_id}",
                    draw(evaluation.sample[position], found, self._config.class_names),
                )
                for position, found in sorted(evaluation.sampled.items())
            ]
            _write(self._folder / "eval", step, values)

    def _best(self) -> Scores | None:
        return max(self._history, key=lambda entry: entry["mAP"], default=None)  # the first of equal ones

    def stops_early(self) -> bool:
        """Tell whether the last `patience` evaluations have brought no better mAP, and log it."""
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


def _write_summaries(folder: Path, step: int, scores: dict[str, float | None]) -> None:
    """Write scores for TensorBoard, as a run of its own; classes without a score are left out."""
    _write(
        folder, step, [tf.Summary.Value(tag=f"VOC07/{n}", simple_value=s) for n, s in scores.items() if s is not None]
    )


def _write(folder: Path, step: int, values: list[tf.Summary.Value]) -> None:
    with tf.Graph().as_default():
        writer = tf.summary.FileWriterCache.get(str(folder))
    writer.add_summary(tf.Summary(value=values), step)
    writer.flush()

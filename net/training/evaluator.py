"""The evaluator of a cluster: a process that scores the checkpoints that the chief writes."""

from __future__ import annotations

import shutil

import tensorflow.compat.v1 as tf

from net.evaluation.periodic_evaluation import PeriodicEvaluation
from utility.checkpoints import checkpoint_files, model_directory
from utility.run.log import log


def evaluate(estimator: tf.estimator.Estimator, evaluation: PeriodicEvaluation, max_steps: int) -> None:
    """Score the newest checkpoint whenever there is a new one, until that of `max_steps`; keep the best."""
    log(f"waiting for checkpoints in {estimator.model_dir}")
    spec = tf.estimator.EvalSpec(
        evaluation.input_fn, steps=None, exporters=[_Scorer(evaluation)], start_delay_secs=0, throttle_secs=1
    )
    tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(evaluation.input_fn, max_steps), spec)


class _Scorer(tf.estimator.Exporter):
    """Scores a checkpoint where TensorFlow would export it: after it has computed the checkpoint's losses."""

    name = "scores"

    def __init__(self, evaluation: PeriodicEvaluation):
        self._evaluation = evaluation

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export) -> None:
        """Log the losses, and score a copy of the checkpoint: the chief may delete its own meanwhile."""
        del export_path, is_the_final_export
        step = int(eval_result["global_step"])
        copy = f"{estimator.model_dir}/tmp_evaluator"
        try:
            model_directory.copy(checkpoint_path, copy)
        except FileNotFoundError as error:
            log(f"step {step} is not scored: {error}; --save_checkpoints_steps tells how often one is written")
            return
        losses = ", ".join(f"{name} {value:.3f}" for name, value in eval_result.items() if name != "global_step")
        log(f"step {step}: {losses}")
        self._evaluation.resume_at(step)
        if not self._evaluation.has_scored(step):
            self._evaluation.run(estimator, checkpoint_files.resolve(copy), step, lambda: None)
        shutil.rmtree(copy)

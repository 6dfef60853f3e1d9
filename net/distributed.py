"""Training with several machines: what a worker does, and what the evaluator does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow.compat.v1 as tf

from net import estimator as estimator_lib
from net import machines
from utility import checkpoints
from utility.runtime import log
from utility.tf_config import Task

if TYPE_CHECKING:
    from net.evaluation import InTraining


def train(
    estimator: tf.estimator.Estimator,
    input_fn,
    first_step: Callable[[], int],
    max_steps: int,
    hooks: Sequence[tf.train.SessionRunHook],
    task: Task,
    facts: Mapping[str, object],
) -> None:
    """Train until the global step is `max_steps`, as one worker of several; the chief writes the checkpoints.

    Args:
      estimator: built around the strategy of `estimator.train_strategy`.
      input_fn: gives this worker's share of each batch.
      first_step: gives the step of the chief's checkpoint, once all workers have met.
      max_steps: the last step.
      hooks: of this worker's session.
      task: which worker this is.
      facts: what all workers must start from, by name.

    Raises:
      ValueError: this worker starts from other facts than the chief.
    """
    copies = Path(estimator.model_dir, f"tmp_{task.kind}_{task.number}")
    with machines.together(task):
        machines.check_agreement(task, {"checkpoint of step": first_step(), **facts})
        estimator_lib.check_start(estimator, first_step(), max_steps)
        if first_step() >= max_steps:
            return
        hooks = hooks if task.is_chief else [*hooks, _LeavesCheckpoints()]
        train_spec = tf.estimator.TrainSpec(input_fn, max_steps, hooks)
        with estimator_lib.writing(estimator.model_dir):
            tf.estimator.train_and_evaluate(estimator, train_spec, tf.estimator.EvalSpec(input_fn))
    # averages are gathered while they are saved, so TensorFlow lets all workers save; only the chief's are for use
    shutil.rmtree(copies, ignore_errors=True)
    log(f"trained to step {max_steps}; checkpoint and summaries are in {estimator.model_dir}")


class _LeavesCheckpoints(tf.train.SessionRunHook):
    """Keeps a worker that restored the chief's checkpoints from removing them, as it does with its own old copies."""

    def begin(self) -> None:
        """Let the worker's saver not take the restored checkpoints for its own."""
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.recover_last_checkpoints = lambda paths: None


def evaluate(estimator: tf.estimator.Estimator, evaluation: InTraining, max_steps: int) -> None:
    """Be the evaluator: score the newest checkpoint whenever there is one, to that of `max_steps`; keep the best."""
    log(f"waiting for checkpoints in {estimator.model_dir}")
    spec = tf.estimator.EvalSpec(
        evaluation.input_fn, steps=None, exporters=[_Scores(evaluation)], start_delay_secs=0, throttle_secs=1
    )
    tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(evaluation.input_fn, max_steps), spec)


class _Scores(tf.estimator.Exporter):
    """Takes the place of an exporter, which TensorFlow calls after it has computed a checkpoint's losses."""

    name = "scores"

    def __init__(self, evaluation: InTraining):
        self._evaluation = evaluation

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export) -> None:
        """Log the losses, and have the checkpoint scored."""
        del export_path, is_the_final_export
        step = int(eval_result["global_step"])
        held = f"{estimator.model_dir}/tmp_evaluator"  # the chief may remove its own meanwhile
        try:
            checkpoints.copy(checkpoint_path, held)
        except FileNotFoundError as error:
            log(f"step {step} is not scored: {error}; --save_checkpoints_steps tells how often one is written")
            return
        losses = ", ".join(f"{name} {value:.3f}" for name, value in eval_result.items() if name != "global_step")
        log(f"step {step}: {losses}")
        self._evaluation.begin(step)
        if not self._evaluation.knows(step):
            self._evaluation.run(estimator, checkpoints.resolve(held), step, lambda: None)
        shutil.rmtree(held)

"""Training with several machines: what a worker does, and what the evaluator does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf

from net import estimator as estimator_lib
from net import machines
from utility.runtime import log
from utility.tf_config import Task


def train(
    estimator: tf.estimator.Estimator,
    input_fn,
    max_steps: int,
    hooks: Sequence[tf.train.SessionRunHook],
    task: Task,
    facts: Mapping[str, object],
) -> None:
    """Train until the global step is `max_steps`, as one worker of several; the chief writes the checkpoints.

    Args:
      estimator: built around the strategy of `estimator.train_strategy`.
      input_fn: gives this worker's share of each batch.
      max_steps: the last step.
      hooks: of this worker's session.
      task: which worker this is.
      facts: what all workers must start from, by name.

    Raises:
      ValueError: this worker starts from other facts than the chief.
    """
    copies = Path(estimator.model_dir, f"tmp_{task.kind}_{task.number}")
    with machines.together(task):
        step = estimator_lib.checkpoint_step(estimator.model_dir)
        machines.check_agreement(task, {"checkpoint of step": step, **facts})
        if estimator_lib.is_at_end(estimator, max_steps):
            return
        hooks = hooks if task.is_chief else [*hooks, _LeavesCheckpoints()]
        train_spec = tf.estimator.TrainSpec(input_fn, max_steps, hooks)
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


def evaluate(estimator: tf.estimator.Estimator, input_fn, max_steps: int) -> None:
    """Be the evaluator: log the losses of each new checkpoint on the images of `input_fn`, to that of `max_steps`."""
    log(f"waiting for checkpoints in {estimator.model_dir}")
    spec = tf.estimator.EvalSpec(input_fn, steps=None, exporters=[_Told()], start_delay_secs=0, throttle_secs=1)
    tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(input_fn, max_steps), spec)


class _Told(tf.estimator.Exporter):
    """Logs what an evaluation found: TensorFlow tells it to exporters alone."""

    name = "told"

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export) -> None:
        """Log it."""
        del estimator, export_path, checkpoint_path, is_the_final_export
        found = ", ".join(f"{name} {value:.3f}" for name, value in sorted(eval_result.items()) if name != "global_step")
        log(f"step {eval_result['global_step']}: {found}")

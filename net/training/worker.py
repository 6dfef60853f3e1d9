"""Training as one of several workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf

from dataset.input.training import TrainingRecords
from net.evaluation import run_curves
from net.training import coordination
from net.training.hooks import KeepRestoredCheckpoints, SaveConfig, SaveOnlyFiniteVariables
from net.training.start import check_start
from net.training.write_errors import explained_write_errors
from utility.checkpoints import initialization
from utility.config import config_file
from utility.run.cluster import Task
from utility.run.layout import RunLayout
from utility.run.log import log


def settings_to_agree_on(
    estimator: tf.estimator.Estimator, layout: RunLayout, records: TrainingRecords
) -> dict[str, object]:
    """Return what all workers must start from, by name: layout, data, start, and every setting."""
    params, run = estimator.params, estimator.config
    return {
        **layout.shared_settings(),
        "training images": records.images,
        "record files": len(records.images_by_file),
        "skip_empty_images": records.skip_empty_images,
        "start": initialization.identity(params["start"]),
        "precision": params["precision"].value,
        "model_scope": params["model_scope"],
        "tf_random_seed": run.tf_random_seed,
        "save_checkpoints_steps": run.save_checkpoints_steps,
        **config_file.settings(params["config"]),
    }


def train(
    estimator: tf.estimator.Estimator,
    input_fn,
    max_steps: int,
    task: Task,
    first_step: Callable[[], int],
    shared_settings: dict[str, object],
    hooks: Sequence[tf.train.SessionRunHook] = (),
) -> None:
    """Train until the global step is `max_steps`, as one worker of several; the chief writes the checkpoints.

    Args:
      estimator: built with the strategy of `strategy.train_strategy`.
      input_fn: gives this worker's images of each batch.
      max_steps: the last step.
      task: which worker this is.
      first_step: gives the step of the chief's checkpoint, once all workers have joined.
      shared_settings: what all workers must start from, by name.
      hooks: further hooks of this worker's session.

    Raises:
      ValueError: this worker starts from something else than the chief.
    """
    with coordination.supervised(task):
        coordination.check_agreement(task, {"checkpoint of step": first_step(), **shared_settings})
        check_start(estimator, first_step(), max_steps)
        if first_step() >= max_steps:
            return
        own = (
            SaveConfig(estimator.params["config"], estimator.model_dir) if task.is_chief else KeepRestoredCheckpoints()
        )
        finite = SaveOnlyFiniteVariables(estimator.params["config"].schedule)
        train_spec = tf.estimator.TrainSpec(input_fn, max_steps, [own, finite, *hooks])
        with explained_write_errors(estimator.model_dir):
            tf.estimator.train_and_evaluate(estimator, train_spec, tf.estimator.EvalSpec(input_fn))
    # moving averages are gathered from all replicas by saving, so every worker saves; only the chief's files are kept
    shutil.rmtree(Path(estimator.model_dir, f"tmp_{task.kind}_{task.number}"), ignore_errors=True)
    if task.is_chief:
        run_curves.draw_again(estimator.model_dir)
    log(f"trained to step {max_steps}; checkpoint and summaries are in {estimator.model_dir}")

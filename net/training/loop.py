"""The training loop of a run of one process, with evaluation in between."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from net.estimator.run_config import build
from net.evaluation import run_curves
from net.evaluation.periodic_evaluation import PeriodicEvaluation
from net.training.hooks import SaveCheckpoints, SaveConfig, SaveOnlyFiniteVariables, StopOnRequest
from net.training.start import check_start
from net.training.write_errors import explained_write_errors
from utility.checkpoints import checkpoint_files, model_directory
from utility.run.log import log
from utility.run.stop_request import StopRequest, stop_requests


def train(
    estimator: tf.estimator.Estimator,
    input_fn,
    max_steps: int,
    evaluation: PeriodicEvaluation | None = None,
    hooks: Sequence[tf.train.SessionRunHook] = (),
) -> None:
    """Train until the global step is `max_steps`, from the model directory's newest checkpoint if it has one.

    Args:
      estimator: what is trained.
      input_fn: its input; called again wherever training is resumed after an evaluation.
      max_steps: the last step.
      evaluation: evaluates in between, and may stop the training early.
      hooks: further hooks of the session.

    Raises:
      Interrupted: SIGINT or SIGTERM ended it, after a step and with a checkpoint.
      ValueError: a checkpoint cannot be read or written.
    """
    first_step = step = checkpoint_files.step_of(model_directory.prepare(estimator.model_dir))
    check_start(estimator, step, max_steps)
    if evaluation:
        evaluation.resume_at(step)
    with stop_requests() as request:
        while not _is_over(estimator, step, max_steps, evaluation, request):
            target = min(max_steps, evaluation.next_step(step)) if evaluation else max_steps
            step = _train_to(estimator, input_fn, target, hooks, request)
            # the first part has logged where it started from
            estimator = build(**{**estimator.params, "run": estimator.config, "start": None})
    if step > first_step:
        if not (evaluation and evaluation.has_scored(step)):  # which has drawn them
            run_curves.draw_again(estimator.model_dir)
        log(f"trained to step {step}; checkpoint and summaries are in {estimator.model_dir}")


def _is_over(estimator, step: int, max_steps: int, evaluation: PeriodicEvaluation | None, request: StopRequest) -> bool:
    """Evaluate if it is time to, and tell whether the training ends here."""
    if evaluation and evaluation.is_due(step, max_steps):
        state = f"evaluation of step {step} broken off; the same command makes up for it"
        evaluation.run(estimator, checkpoint_files.resolve(estimator.model_dir), step, lambda: request.check(state))
    return step >= max_steps or bool(evaluation and evaluation.stops_early())


def _train_to(estimator, input_fn, target: int, hooks: Sequence[tf.train.SessionRunHook], request: StopRequest) -> int:
    """Train until the global step is `target`, or a signal asks to stop; return the step."""
    restored = checkpoint_files.newest(estimator.model_dir)
    own_hooks = [
        SaveConfig(estimator.params["config"], estimator.model_dir),
        SaveOnlyFiniteVariables(estimator.params["config"].schedule),
        StopOnRequest(request),
        SaveCheckpoints(estimator.config, None if restored is None else checkpoint_files.step_of(restored)),
    ]
    with explained_write_errors(estimator.model_dir):
        estimator.train(input_fn, max_steps=target, hooks=[*own_hooks, *hooks])
    newest = checkpoint_files.newest(estimator.model_dir)
    step = checkpoint_files.step_of(newest)
    request.check(f"stopped at step {step}; the same command goes on from {newest}")
    return step

"""The training loop of a run of one process, with evaluation in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow.compat.v1 as tf

from net import curves, ssd_model_fn
from net.layers import Precision
from net.periodic_evaluation import PeriodicEvaluation
from net.run_config import build
from net.ssd_model_fn import learning_rate
from utility.checkpoints import checkpoint_files, model_directory
from utility.config import config_file
from utility.config.settings import Config, ScheduleConfig
from utility.errors import UserError
from utility.run.log import log
from utility.run.stop_request import StopRequest, stop_requests

# Session hooks of a training: its config, a request to stop, and its checkpoints.


class SaveConfig(tf.train.SessionRunHook):
    """Writes the config into the model directory once the graph is built and its variables are restored.

    A run that fails before that leaves the directory as it was.
    """

    def __init__(self, config: Config, model_dir: str):
        self._config, self._model_dir = config, model_dir

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Write config.json and labels.txt."""
        del session, coord
        config_file.save(self._config, self._model_dir)


class StopOnRequest(tf.train.SessionRunHook):
    """Ends the training after the step during which a signal asked for it; the last checkpoint is of that step."""

    def __init__(self, request: StopRequest):
        self._request = request

    def after_run(self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues) -> None:
        """Stop if a signal has come."""
        del run_values
        if self._request.signum is not None:
            run_context.request_stop()


class SaveCheckpoints(tf.train.CheckpointSaverHook):
    """Saves checkpoints, but does not overwrite the restored one: interrupted, that would leave a broken file.

    Nor does it write the graph as text, which takes seconds: the summaries and each .meta file have it.
    """

    def __init__(self, run: tf.estimator.RunConfig, restored_step: int | None):
        super().__init__(run.model_dir, run.save_checkpoints_secs, run.save_checkpoints_steps)
        self._restored_step = restored_step

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Save a checkpoint of step 0, unless one was restored."""
        del coord
        if self._restored_step is None:
            self._save(session, 0)
        self._timer.update_last_triggered_step(self._restored_step or 0)


class SaveOnlyFiniteVariables(tf.train.SessionRunHook):
    """Stops the training instead of saving a variable that is not finite; the checkpoints before stay.

    A step whose loss and gradients are finite can leave such a variable: the learning rate times a gradient overflows.
    With several workers, each checks its own variables, and coordination.py stops the others.
    """

    def __init__(self, schedule: ScheduleConfig):
        self._schedule = schedule

    def begin(self) -> None:
        """Let every saver of the graph check the variables first."""
        variables = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
        names = [variable.name.split(":")[0] for variable in variables]
        finite = tf.stack([_is_finite(variable) for variable in variables])
        last_step = tf.maximum(tf.train.get_global_step() - 1, 0)  # the one that made the variables
        rate = learning_rate(last_step, self._schedule)
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.save = _checking_first(saver.save, names, finite, rate)


def _is_finite(variable: tf.Variable) -> tf.Tensor:
    """Return whether all numbers of a variable are finite, bool []; of one with replicas, those of this process."""
    copies = tf.distribute.get_strategy().experimental_local_results(variable)
    return tf.reduce_all([tf.reduce_all(tf.is_finite(copy)) for copy in copies])


def _checking_first(save, names: list[str], finite: tf.Tensor, rate: tf.Tensor) -> Any:
    """Return a Saver's `save` that first raises a UserError if a variable is not finite."""

    def checked_save(session: tf.Session, path: str, global_step: Any, **options: Any) -> str:
        are_finite, last_rate = session.run([finite, rate])
        bad = [name for name, is_finite in zip(names, are_finite, strict=True) if not is_finite]
        if bad:
            raise UserError(
                f"{bad[0]} is not finite at step {global_step}, learning rate {last_rate:g} ({len(bad)} of {len(names)}"
                " variables are not): nothing is saved of this step, and the checkpoints before stay. A lower"
                " --learning_rate, a longer warm-up (--decay_boundaries) or --clip_gradient_norm helps; at step 0 the"
                " weights of --checkpoint_path are broken"
            )
        return save(session, path, global_step=global_step, **options)

    return checked_save


class KeepRestoredCheckpoints(tf.train.SessionRunHook):
    """Keeps a worker's saver from deleting the chief's checkpoints, which it has restored, as old ones of its own."""

    def begin(self) -> None:
        """Let the saver not take over the list of the restored checkpoints."""
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.recover_last_checkpoints = lambda paths: None


# What a training starts from.


def check_start(estimator: tf.estimator.Estimator, step: int, max_steps: int) -> None:
    """Log what a training at `step` starts from, where nothing else does.

    A UserError if mixed precision is to go on from a checkpoint without a loss scale.
    """
    model_dir = estimator.model_dir
    if step >= max_steps:
        log(f"{model_dir} is at step {step} already: raise --max_number_of_steps to train further")
        return
    own = checkpoint_files.newest(model_dir)
    if own is None and estimator.params.get("start") is None:
        log("starting from random weights: there is no checkpoint in --model_dir nor in --checkpoint_path")
    if estimator.params.get("precision") is not Precision.FLOAT16:
        return
    if own and ssd_model_fn.LOSS_SCALE not in dict(tf.train.list_variables(own)):
        raise UserError(
            f"--mixed_precision: {own} was trained without it and has no loss scale to go on with; leave the flag"
            f" out, or take its weights into another --model_dir: --checkpoint_path={own}"
            f" --checkpoint_model_scope={estimator.params['model_scope']} --checkpoint_exclude_scopes="
        )


# Errors in writing checkpoints and summaries, such as a full disk.

# why a file that could be opened cannot be written
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def explained_write_errors(model_dir: str) -> Iterator[None]:
    """Turn a failure to write checkpoints or summaries, such as a full disk, into a UserError with the remedy."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # of the threads that write checkpoints and summaries
        reasons = [os.strerror(number) for number in _WRITE_ERRORS]
        lines = [line for line in str(error).splitlines() if any(reason in line for reason in reasons)]
        if not lines:
            raise
        raise UserError(
            f"--model_dir={model_dir}: cannot be written to: {lines[0].strip()}. The checkpoints"
            " before are whole: make room, and the same command goes on from the newest"
        ) from error


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
      UserError: a checkpoint cannot be read or written.
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
            curves.draw_again(estimator.model_dir)
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

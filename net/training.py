"""The training loop of one process, with evaluation in between, and the session hooks that it adds."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import tensorflow.compat.v1 as tf

from net import curves
from net.devices import Precision
from net.ssd_model_fn import LOSS_SCALE, ssd_model_fn
from utility.checkpoints import checkpoint_files
from utility.config import config_file
from utility.config.settings import Config, ScheduleConfig
from utility.errors import UserError
from utility.run.log import log
from utility.run.stop_request import StopRequest, stop_requests

if TYPE_CHECKING:
    from net.periodic_evaluation import PeriodicEvaluation

# why a file that could be opened cannot be written
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


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
    model_dir, params = estimator.model_dir, estimator.params
    first_step = step = checkpoint_files.step_of(checkpoint_files.prepare(model_dir))
    check_start(estimator, step, max_steps)
    if evaluation:
        evaluation.resume_at(step)
    with stop_requests() as request:
        while True:
            if evaluation and evaluation.is_due(step, max_steps):
                state = f"evaluation of step {step} interrupted; the same command makes up for it"
                evaluation.run(estimator, checkpoint_files.resolve(model_dir), step, partial(request.check, state))
            if step >= max_steps or (evaluation and evaluation.stops_early()):
                break
            target = min(max_steps, evaluation.next_step(step)) if evaluation else max_steps
            restored = checkpoint_files.newest(model_dir)
            own_hooks = [
                SaveConfig(params.config, model_dir),
                SaveOnlyFiniteVariables(params.config.schedule),
                StopOnRequest(request),
                SaveCheckpoints(estimator.config, None if restored is None else step),
            ]
            with explained_write_errors(model_dir):
                estimator.train(input_fn, max_steps=target, hooks=[*own_hooks, *hooks])
            newest = checkpoint_files.newest(model_dir)
            step = checkpoint_files.step_of(newest)
            request.check(f"stopped at step {step}; the same command resumes from {newest}")
            # the first part has logged where it started from
            params = replace(params, start=None)
            estimator = tf.estimator.Estimator(ssd_model_fn, config=estimator.config, params=params)
    if step > first_step:
        if not (evaluation and evaluation.has_scored(step)):  # which has drawn them
            curves.draw_again(model_dir)
        log(f"trained to step {step}; checkpoint and summaries are in {model_dir}")


def check_start(estimator: tf.estimator.Estimator, step: int, max_steps: int) -> None:
    """Log what a training at `step` starts from, unless a checkpoint has logged it.

    A UserError if mixed precision is to resume from a checkpoint without a loss scale.
    """
    model_dir, params = estimator.model_dir, estimator.params
    if step >= max_steps:
        log(f"{model_dir} is at step {step} already: raise --max_number_of_steps to train further")
        return
    own = checkpoint_files.newest(model_dir)
    if own is None and params.start is None:
        log("starting from random weights: there is no checkpoint in --model_dir nor in --checkpoint_path")
    if params.precision is Precision.FLOAT16 and own and LOSS_SCALE not in dict(tf.train.list_variables(own)):
        raise UserError(
            f"--mixed_precision: {own} was trained without it and has no loss scale to resume with; leave the flag"
            f" out, or take its weights into another --model_dir: --checkpoint_path={own}"
            f" --checkpoint_model_scope={params.model_scope} --checkpoint_exclude_scopes="
        )


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
    With several workers, each checks its own variables, and net/workers.py stops the others.
    """

    def __init__(self, schedule: ScheduleConfig):
        self._schedule = schedule

    def begin(self) -> None:
        """Let every saver of the graph check the variables first."""
        variables = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
        local = tf.distribute.get_strategy().experimental_local_results  # of a variable, the copies of this process
        finite = tf.stack([tf.reduce_all([tf.reduce_all(tf.is_finite(copy)) for copy in local(v)]) for v in variables])
        names = [variable.name.split(":")[0] for variable in variables]
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.save = self._checking_first(saver.save, names, finite)

    def _checking_first(self, save, names: list[str], finite: tf.Tensor):
        """Return a Saver's `save` that first raises a UserError if a variable is not finite."""

        def checked_save(session: tf.Session, path: str, global_step: Any, **options: Any) -> str:
            bad = [name for name, is_finite in zip(names, session.run(finite), strict=True) if not is_finite]
            if bad:
                last_step = max(int(global_step) - 1, 0)  # the one that made the variables
                rate = self._schedule.rates[bisect_left(self._schedule.decay_boundaries, last_step)]
                raise UserError(
                    f"{bad[0]} is not finite at step {global_step}, learning rate {rate:g} ({len(bad)} of {len(names)}"
                    " variables are not): nothing is saved of this step, and the checkpoints before stay. A lower"
                    " --learning_rate, a longer warm-up (--decay_boundaries) or --clip_gradient_norm helps; at step 0"
                    " the weights of --checkpoint_path are broken"
                )
            return save(session, path, global_step=global_step, **options)

        return checked_save


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
            " before are whole: make room, and the same command resumes from the newest"
        ) from error

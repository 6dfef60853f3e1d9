"""Session hooks of a training: its config, a request to stop, and its checkpoints."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from net.estimator.learning_rate import learning_rate
from utility.config import config_file
from utility.config.settings import Config, ScheduleConfig
from utility.run.stop_request import StopRequest


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
    """Return a Saver's `save` that first raises a ValueError if a variable is not finite."""

    def checked_save(session: tf.Session, path: str, global_step: Any, **options: Any) -> str:
        are_finite, last_rate = session.run([finite, rate])
        bad = [name for name, is_finite in zip(names, are_finite, strict=True) if not is_finite]
        if bad:
            raise ValueError(
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

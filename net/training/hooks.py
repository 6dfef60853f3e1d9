"""Session hooks of a training: its config, a request to stop, and its checkpoints."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from utility.config import config_file
from utility.config.settings import Config
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


class KeepRestoredCheckpoints(tf.train.SessionRunHook):
    """Keeps a worker's saver from deleting the chief's checkpoints, which it has restored, as old ones of its own."""

    def begin(self) -> None:
        """Let the saver not take over the list of the restored checkpoints."""
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.recover_last_checkpoints = lambda paths: None

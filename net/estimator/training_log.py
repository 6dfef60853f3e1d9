"""The log of a training, which stops the run when its loss or gradient is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import tensorflow.compat.v1 as tf

from utility.run.log import log

FEATURES = ("image_id", "host_wait")  # of the input function, which the log fetches
_PARTS = ("cross_entropy", "location", "l2")
_STARVED = 0.1  # part of the time that steps wait for their input; the log mentions it from there on


class NonFiniteLossError(ValueError):
    """The loss or the gradient became infinite or not a number."""


class TrainingLog(tf.train.SessionRunHook):
    """Logs every few steps, with speed and the time left, and stops at a loss or gradient that is not finite."""

    def __init__(
        self,
        tensors: Mapping[str, tf.Tensor],
        every_n_steps: int,
        last_step: int,
        batch_size: int,
        images_per_epoch: int | None = None,
    ):
        """Take what is logged.

        Args:
          tensors: `loss`, its parts `cross_entropy`, `location` and `l2`, `accuracy`, `learning_rate` and
            `gradient_norm`, all float32 []; `step` int64 [], the number of the step, from 1; and FEATURES:
            `image_id` string [B], and maybe `host_wait` float64 [], seconds that the step waited for its batch.
          every_n_steps: between two lines.
          last_step: where the run will end.
          batch_size: images of a step, over all replicas.
          images_per_epoch: None: the log does not tell the epoch.
        """
        self._tensors = tensors
        self._every_n_steps, self._last_step, self._batch_size = every_n_steps, last_step, batch_size
        self._images_per_epoch = images_per_epoch
        self._since: tuple[float, int] | None = None
        self._host_wait = 0.0

    def before_run(self, run_context: tf.train.SessionRunContext) -> tf.train.SessionRunArgs:
        """Fetch the tensors of the step."""
        del run_context
        return tf.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues) -> None:
        """Stop at a loss or gradient that is not finite; log every n-th step."""
        del run_context
        values = run_values.results
        step = int(values["step"])
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise NonFiniteLossError(_report(values, step))
        now = time.monotonic()
        if self._since is None:
            self._since = (now, step)
            log(self._line(values, step))
            return
        self._host_wait += values.get("host_wait", 0.0)
        if step // self._every_n_steps > self._since[1] // self._every_n_steps or step == self._last_step:
            log(f"{self._line(values, step)}  {self._speed(now - self._since[0], step - self._since[1], step)}")
            self._since, self._host_wait = (now, step), 0.0

    def _line(self, values: Mapping, step: int) -> str:
        parts = ", ".join(f"{name.replace('_', ' ')} {values[name]:.3f}" for name in _PARTS)
        rate, accuracy = values["learning_rate"], values["accuracy"]
        return (
            f"step {step}/{self._last_step}{self._epoch(step)}  loss {values['loss']:.3f} ({parts})"
            f"  accuracy {accuracy:.3f}  rate {rate:.2g}"
        )

    def _epoch(self, step: int) -> str:
        if self._images_per_epoch is None:
            return ""
        # of the first image of the batch, as the last batch of a training by epochs runs over its end
        now, last = ((s - 1) * self._batch_size // self._images_per_epoch + 1 for s in (step, self._last_step))
        return f" epoch {now}/{last}"

    def _speed(self, seconds: float, steps: int, step: int) -> str:
        left = _duration(seconds / steps * (self._last_step - step))
        part = self._host_wait / seconds
        starved = f"  waited for input {part:.0%} of the time" if part >= _STARVED else ""
        return f"{self._batch_size * steps / seconds:.1f} images/s  {left} left{starved}"


def _report(values: Mapping, step: int) -> str:
    parts = ", ".join(f"{name} {values[name]:g}" for name in (*_PARTS, "gradient_norm"))
    images = ", ".join(name.decode() for name in values["image_id"])
    return (
        f"the loss or its gradient is not finite at step {step}, learning rate {values['learning_rate']:g}: loss"
        f" {values['loss']:g} ({parts}); images of the batch (with several replicas, of the first): {images}."
        " The variables are those before this step. A lower --learning_rate or a longer warm-up (--decay_boundaries)"
        " usually helps; a broken picture or box in the batch would cause this at any rate"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

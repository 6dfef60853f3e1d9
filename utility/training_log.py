"""What a training run says while it runs, and where it stops when the loss is not a number any more."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import tensorflow.compat.v1 as tf

from utility.runtime import log

_PARTS = ("cross_entropy", "location", "l2")
_STARVED = 0.1  # part of the time that a step waits for its input, from which the log tells of it


class NonFiniteLossError(ValueError):
    """The loss or the gradient became infinite or not a number."""


class TrainingLog(tf.train.SessionRunHook):
    """Logs every few steps, with speed and the time left, and stops at a loss or gradient that is not finite."""

    def __init__(
        self,
        scalars: Mapping[str, tf.Tensor],
        image_ids: tf.Tensor,
        step: tf.Tensor,
        every: int,
        last_step: int,
        batch_size: int,
        images_per_epoch: int | None = None,
        waited: tf.Tensor | None = None,
    ):
        """Take what to show.

        Args:
          scalars: `loss`, its parts `cross_entropy`, `location` and `l2`, `accuracy`, `learning_rate` and
            `gradient_norm`, all float32 [].
          image_ids: string [B], the batch.
          step: int64 [], the number of the step that is made, from 1.
          every: steps between two lines.
          last_step: where the run will end.
          batch_size: images of a step, over all devices.
          images_per_epoch: None: the log does not tell the epoch.
          waited: float64 [], seconds that the step waited for its batch; None: nobody knows.
        """
        self._fetches = {**scalars, "image_ids": image_ids, "step": step}
        self._fetches |= {} if waited is None else {"waited": waited}
        self._every, self._last_step, self._batch_size = every, last_step, batch_size
        self._images_per_epoch = images_per_epoch
        self._since: tuple[float, int] | None = None
        self._waited = 0.0

    def before_run(self, run_context: tf.train.SessionRunContext) -> tf.train.SessionRunArgs:
        """Ask for the step's figures."""
        del run_context
        return tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues) -> None:
        """Check them, and show them when it is time."""
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
        self._waited += values.get("waited", 0.0)
        if step // self._every > self._since[1] // self._every or step == self._last_step:
            log(f"{self._line(values, step)}  {self._speed(now - self._since[0], step - self._since[1], step)}")
            self._since, self._waited = (now, step), 0.0

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
        now, last = (math.ceil(s * self._batch_size / self._images_per_epoch) for s in (step, self._last_step))
        return f" epoch {now}/{last}"

    def _speed(self, seconds: float, steps: int, step: int) -> str:
        left = _duration(seconds / steps * (self._last_step - step))
        share = self._waited / seconds
        starved = f"  waited for input {share:.0%} of the time" if share >= _STARVED else ""
        return f"{self._batch_size * steps / seconds:.1f} images/s  {left} left{starved}"


def _report(values: Mapping, step: int) -> str:
    parts = ", ".join(f"{name} {values[name]:g}" for name in (*_PARTS, "gradient_norm"))
    images = ", ".join(name.decode() for name in values["image_ids"])
    return (
        f"the loss or its gradient is not finite at step {step}, learning rate {values['learning_rate']:g}: loss"
        f" {values['loss']:g} ({parts}); images of the batch (of several devices, the first one's): {images}. No"
        " variable was spoilt by this step. A lower --learning_rate or a longer warm-up (--decay_boundaries) usually"
        " helps; a broken picture or box in the batch would show at any rate"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

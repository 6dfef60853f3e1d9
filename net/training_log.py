"""What a training shows while it runs: the lines of its log, and a picture of its first batch.

The log stops the run at a loss or gradient that is not finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from net.default_boxes import DefaultBoxes
from utility.config.settings import Config, ScheduleConfig
from utility.drawing.detections import Mark, class_colour, class_name, draw_marks, save_sheet
from utility.errors import UserError
from utility.run.log import attempted, log

LOGGED_FEATURES = ("image_id", "host_wait")  # of the input function
FIRST_BATCH = "first_batch.jpg"
_PARTS = ("cross_entropy", "location", "l2")
_INPUT_BOUND = 0.1  # part of the time that steps wait for their input; the log mentions it from there on
_MOST_IMAGES = 16  # in the picture of the first batch
_MATCHED = (255, 210, 0)  # colour of default boxes


class NonFiniteLossError(UserError):
    """The loss or the gradient became infinite or not a number."""


class TrainingLog(tf.train.SessionRunHook):
    """Logs every few steps, with speed and the time left, and stops at a loss or gradient that is not finite."""

    def __init__(
        self,
        tensors: Mapping[str, tf.Tensor],
        schedule: ScheduleConfig,
        every_n_steps: int,
        images_per_epoch: int | None = None,
    ):
        """Take what is logged.

        Args:
          tensors: `loss`, its parts `cross_entropy`, `location` and `l2`, `accuracy`, `learning_rate` and
            `gradient_norm`, all float32 []; `step` int64 [], the number of the step, from 1; `image_id` string [B];
            and maybe `host_wait` float64 [], seconds that the step waited for its batch.
          schedule: with the last step, and the images of a step.
          every_n_steps: between two lines.
          images_per_epoch: None: the log does not tell the epoch.
        """
        self._tensors, self._every_n_steps = tensors, every_n_steps
        self._last_step, self._batch_size = schedule.max_number_of_steps, schedule.batch_size
        self._images_per_epoch = images_per_epoch
        self._since: tuple[float, int] | None = None  # time and step of the last line
        self._host_wait = 0.0  # seconds since then

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
            log(self._line(values, step))
            self._since = (now, step)
            return
        self._host_wait += values.get("host_wait", 0.0)
        if step // self._every_n_steps > self._since[1] // self._every_n_steps or step == self._last_step:
            seconds, steps = now - self._since[0], step - self._since[1]
            images_per_second = self._batch_size * steps / seconds
            left = _duration(seconds / steps * (self._last_step - step))
            waited = self._host_wait / seconds
            input_bound = f"  waited for input {waited:.0%} of the time" if waited >= _INPUT_BOUND else ""
            log(f"{self._line(values, step)}  {images_per_second:.1f} images/s  {left} left{input_bound}")
            self._since, self._host_wait = (now, step), 0.0

    def _line(self, values: Mapping, step: int) -> str:
        epoch = ""
        if self._images_per_epoch is not None:
            # of the first image of the batch, as the last batch of a training by epochs runs over its end
            of_step = lambda s: (s - 1) * self._batch_size // self._images_per_epoch + 1  # noqa: E731
            epoch = f" epoch {of_step(step)}/{of_step(self._last_step)}"
        parts = ", ".join(f"{name.replace('_', ' ')} {values[name]:.3f}" for name in _PARTS)
        return (
            f"step {step}/{self._last_step}{epoch}  loss {values['loss']:.3f} ({parts})"
            f"  accuracy {values['accuracy']:.3f}  rate {values['learning_rate']:.2g}"
        )


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


class DrawFirstBatch(tf.train.SessionRunHook):
    """Fetches the batch of the first step, and writes it as a JPEG; a failure is a line of the log.

    It only fetches tensors that the training has anyway: an operation more would change the seeds of others. A resumed
    training leaves the picture as it is, and makes a missing one of its own first batch.
    """

    def __init__(self, tensors: Mapping[str, tf.Tensor], anchors: DefaultBoxes, config: Config, path: str | Path):
        """Take what is drawn.

        Args:
          tensors: `image` float32 [B, H, W, 3], BGR minus the channel means; `boxes_yxyx` float32 [B, N, 4] in [0, 1]
            and `labels` int [B, N], 0 for padding; `classes` int32 [B, K], above 0 for matched default boxes.
          anchors: the K default boxes.
          config: with the channel means and the class names.
          path: of the JPEG, in the model directory.
        """
        self._tensors, self._anchors, self._config, self._path = dict(tensors), anchors, config, Path(path)
        self._due = False

    def begin(self) -> None:
        """Find out, before the first checkpoint is saved, whether a training begins."""
        self._due = not self._path.exists() or tf.train.latest_checkpoint(str(self._path.parent)) is None

    def before_run(self, run_context: tf.train.SessionRunContext) -> tf.train.SessionRunArgs | None:
        """Fetch the first batch."""
        del run_context
        return tf.train.SessionRunArgs(self._tensors) if self._due else None

    def after_run(self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues) -> None:
        """Draw it."""
        del run_context
        if self._due:
            self._due = False
            with attempted(FIRST_BATCH):
                save_sheet(draw_batch(run_values.results, self._anchors, self._config), self._path)


def draw_batch(batch: Mapping[str, np.ndarray], anchors: DefaultBoxes, config: Config) -> list[Image.Image]:
    """Return the first 16 images of a batch, as `DrawFirstBatch` takes it, with ground truth and matched boxes."""
    corners_yxyx = anchors.frame.to_normalized(anchors.corners_yxyx)
    pictures = []
    for row in range(min(len(batch["image"]), _MOST_IMAGES)):
        rgb = batch["image"][row][..., ::-1] + np.array(config.network.channel_means_rgb, np.float32)
        pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
        scale = np.tile(pixels.shape[:2], 2)
        objects = [
            Mark(box * scale, class_colour(label), class_name(config.class_names, label))
            for box, label in zip(batch["boxes_yxyx"][row], batch["labels"][row].tolist(), strict=True)
            if label > 0
        ]
        matched = [Mark(box * scale, _MATCHED) for box in corners_yxyx[batch["classes"][row] > 0]]
        pictures.append(draw_marks(pixels, [*objects, *matched], config.pixel_extent))
    return pictures

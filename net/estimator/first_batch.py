"""The first batch of a training as a picture: what the network is shown, and the default boxes matched to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from utility.boxes.default_boxes import DefaultBoxes
from utility.config.settings import Config
from utility.drawing.detections import Mark, class_colour, class_name, draw_marks
from utility.drawing.sheet import save_sheet
from utility.run.attempt import attempted
from utility.run.cluster import Task

PICTURE = "first_batch.jpg"

_MOST_IMAGES = 16
_MATCHED = (255, 210, 0)  # colour of default boxes


def path(model_dir: str, task: Task | None) -> str | None:
    """Return where a training's first batch is drawn, None in a cluster: all its workers must run the same graph."""
    return str(Path(model_dir, PICTURE)) if task is None else None


class DrawFirstBatch(tf.train.SessionRunHook):
    """Fetches the batch of the first step, and writes it as a JPEG; a failure is a line of the log.

    It only fetches tensors that the training has anyway: an operation more would change the seeds of others. A run
    that goes on leaves the picture as it is, and makes a missing one of its own first batch.
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
            with attempted(PICTURE):
                save_sheet(draw_batch(run_values.results, self._anchors, self._config), self._path)


def draw_batch(batch: Mapping[str, np.ndarray], anchors: DefaultBoxes, config: Config) -> list[Image.Image]:
    """Return the first 16 images of a batch, as `DrawFirstBatch` takes it, with ground truth and matched boxes."""
    rows = range(min(len(batch["image"]), _MOST_IMAGES))
    corners = _corners(anchors)
    return [_draw({name: values[row] for name, values in batch.items()}, corners, config) for row in rows]


def _draw(image: Mapping[str, np.ndarray], corners_yxyx: np.ndarray, config: Config) -> Image.Image:
    rgb = image["image"][..., ::-1] + np.array(config.network.channel_means_rgb, np.float32)
    pixels = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    scale = np.tile(pixels.shape[:2], 2)
    objects = [
        Mark(box * scale, class_colour(label), class_name(config.class_names, label))
        for box, label in zip(image["boxes_yxyx"], image["labels"].tolist(), strict=True)
        if label > 0
    ]
    matched = [Mark(box * scale, _MATCHED) for box in corners_yxyx[image["classes"] > 0]]
    return draw_marks(pixels, [*objects, *matched])


def _corners(anchors: DefaultBoxes) -> np.ndarray:
    """Return the corners of default boxes in [0, 1] of the image, float32 [K, 4], without TensorFlow's graph."""
    centre, size = anchors.cyxhw[:, :2], anchors.cyxhw[:, 2:]
    half = (size - anchors.frame.pixel_extent) / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return (corners + anchors.frame.pixel_extent) / anchors.frame.scale_yxyx

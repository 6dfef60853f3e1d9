"""Detection with a trained Estimator, image by image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow.compat.v1 as tf

from net.estimator.tiles import whole_pictures
from utility.checkpoints import assignment


class _CheckCheckpoint(tf.train.SessionRunHook):
    """Compares a checkpoint with the network before TensorFlow restores it."""

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Raise a ValueError if a variable is missing or has another shape."""
        assignment.check_fits(self._checkpoint)


def detect(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the detections of each picture as a dict, with all features of the picture but its pixels.

    `boxes_yxyx` float32 [D, 4] in [0, 1] of the picture, `scores` float32 [D] from the highest, `classes` int32 [D].
    Those of tiles are brought together. A ValueError if the checkpoint is of another network.
    """
    return whole_pictures(_detect_in_views(estimator, input_fn, checkpoint), estimator.params["config"].detection)


def _detect_in_views(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    hooks = [_CheckCheckpoint(checkpoint)]
    for batch in estimator.predict(input_fn, hooks=hooks, checkpoint_path=checkpoint, yield_single_examples=False):
        for row, count in enumerate(batch["count"]):  # the rest is padding
            image = {name: values[row] for name, values in batch.items() if name != "count"}
            yield {**image, **{name: image[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}

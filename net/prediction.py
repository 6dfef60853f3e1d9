"""Detection with a trained Estimator, picture by picture; the detections in a picture's tiles are brought together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from utility.checkpoints import warm_start
from utility.config.settings import DetectionConfig

Found = dict[str, Any]  # the detections in a picture or a tile, as `predict_pictures` yields them


class _CheckCheckpoint(tf.train.SessionRunHook):
    """Compares a checkpoint with the network before TensorFlow restores it."""

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Raise a UserError if a variable is missing or has another shape."""
        warm_start.check_fits(self._checkpoint)


def predict_pictures(estimator: tf.estimator.Estimator, input_fn: Callable, checkpoint: str) -> Iterator[Found]:
    """Yield the detections of each picture as a dict, with all features of the picture but its pixels.

    `boxes_yxyx` float32 [D, 4] in [0, 1] of the picture, `scores` float32 [D] from the highest, `classes` int32 [D].
    Those of tiles are brought together. A UserError if the checkpoint is of another network.
    """
    hooks = [_CheckCheckpoint(checkpoint)]
    batches = estimator.predict(input_fn, hooks=hooks, checkpoint_path=checkpoint, yield_single_examples=False)

    def views() -> Iterator[Found]:
        for batch in batches:
            for row, count in enumerate(batch.pop("count")):  # the rest is padding
                view = {name: values[row] for name, values in batch.items()}
                yield {**view, **{name: view[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}

    return whole_pictures(views(), estimator.params.config.detection)


def whole_pictures(views: Iterable[Found], settings: DetectionConfig) -> Iterator[Found]:
    """Yield the detections of pictures; a view without `windows` is a whole picture.

    The tiles of a picture follow one another. Their boxes move to the coordinates of the picture, and non-maximum
    suppression, as in a network's own detections, removes duplicates from overlapping tiles.
    """
    with tf.Graph().as_default() as graph:  # of its own: the Estimator's is in use between two pictures
        given = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.float32, [None])
        best = tf.image.non_max_suppression(*given, settings.nms_topk, settings.nms_threshold)
    session = tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))
    tiles: list[Found] = []
    for view in views:
        if "windows" not in view:
            yield view
            continue
        low, high = view["window_yxyx"].reshape(2, 2)
        tiles.append({**view, "boxes_yxyx": view["boxes_yxyx"] * np.tile(high - low, 2) + np.tile(low, 2)})
        if len(tiles) < view["windows"]:
            continue
        boxes, scores, classes = (
            np.concatenate([tile[name] for tile in tiles]) for name in ("boxes_yxyx", "scores", "classes")
        )
        kept = [np.empty(0, np.intp)]
        for class_id in np.unique(classes):
            rows = np.flatnonzero(classes == class_id)
            kept.append(rows[session.run(best, dict(zip(given, (boxes[rows], scores[rows]), strict=True)))])
        order = np.concatenate(kept)
        order = order[np.argsort(-scores[order], kind="stable")][: settings.max_detections]
        others = {name: value for name, value in tiles[0].items() if name not in ("window_yxyx", "windows")}
        yield {**others, "boxes_yxyx": boxes[order], "scores": scores[order], "classes": classes[order]}
        tiles = []

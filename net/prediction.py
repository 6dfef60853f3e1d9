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
    return whole_pictures(_each_view(batches), estimator.params.config.detection)


def _each_view(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[Found]:
    for batch in batches:
        for row, count in enumerate(batch["count"]):  # the rest is padding
            view = {name: values[row] for name, values in batch.items() if name != "count"}
            yield {**view, **{name: view[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}


def whole_pictures(views: Iterable[Found], settings: DetectionConfig) -> Iterator[Found]:
    """Yield the detections of pictures; a view without `windows` is a whole picture.

    The tiles of a picture follow one another. Their boxes move to the coordinates of the picture, and non-maximum
    suppression, as in a network's own detections, removes duplicates from overlapping tiles.
    """
    tiles: list[Found] = []
    suppressed = None
    for view in views:
        if "windows" not in view:
            yield view
            continue
        tiles.append(view)
        if len(tiles) == view["windows"]:
            suppressed = suppressed or _suppression(settings)
            yield _brought_together(tiles, settings, suppressed)
            tiles = []


def _suppression(settings: DetectionConfig) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function (boxes [D, 4], scores [D]) -> the indices of those to keep, the best first.

    It has a graph and a session of its own, because the Estimator's are in use between two pictures.
    """
    with tf.Graph().as_default() as graph:
        boxes, scores = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.float32, [None])
        kept = tf.image.non_max_suppression(boxes, scores, settings.nms_topk, settings.nms_threshold)
    session = tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))
    return lambda boxes_yxyx, of_boxes: session.run(kept, {boxes: boxes_yxyx, scores: of_boxes})


def _brought_together(tiles: list[Found], settings: DetectionConfig, suppressed: Callable) -> Found:
    others = {name: value for name, value in tiles[0].items() if name not in ("window_yxyx", "windows")}
    in_picture = []
    for tile in tiles:
        low, high = tile["window_yxyx"][:2], tile["window_yxyx"][2:]
        in_picture.append(tile["boxes_yxyx"] * np.tile(high - low, 2) + np.tile(low, 2))
    boxes = np.concatenate(in_picture)
    scores, classes = (np.concatenate([tile[name] for tile in tiles]) for name in ("scores", "classes"))
    kept = [np.empty(0, np.intp)]
    for class_id in np.unique(classes):
        rows = np.flatnonzero(classes == class_id)
        kept.append(rows[suppressed(boxes[rows], scores[rows])])
    order = np.concatenate(kept)
    order = order[np.argsort(-scores[order], kind="stable")][: settings.max_detections]
    return {**others, "boxes_yxyx": boxes[order], "scores": scores[order], "classes": classes[order]}

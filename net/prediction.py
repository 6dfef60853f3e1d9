"""Detection with a trained Estimator, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from utility.checkpoints import warm_start
from utility.config.settings import DetectionConfig

# Brings the detections of a picture's tiles together.

Image = dict[str, Any]  # the detections in one image, as `net.prediction.detect` yields them


def whole_pictures(views: Iterable[Image], settings: DetectionConfig) -> Iterator[Image]:
    """Yield the detections of pictures; a view without `windows` is a whole picture.

    The tiles of a picture follow one another. Their boxes move to the coordinates of the picture, and non-maximum
    suppression, as in a network's own detections, leaves one of those that find the same object in several tiles.
    """
    tiles: list[Image] = []
    for view in views:
        if "windows" not in view:
            yield view
            continue
        tiles.append(view)
        if len(tiles) == view["windows"]:
            yield _together(tiles, settings)
            tiles = []


def _together(tiles: list[Image], settings: DetectionConfig) -> Image:
    others = {name: value for name, value in tiles[0].items() if name not in ("window_yxyx", "windows")}
    boxes = np.concatenate([_in_picture(tile["boxes_yxyx"], tile["window_yxyx"]) for tile in tiles])
    scores, classes = (np.concatenate([tile[name] for tile in tiles]) for name in ("scores", "classes"))
    kept = [
        each[suppress(boxes[each], scores[each], settings.nms_threshold, settings.nms_topk)]
        for each in (np.flatnonzero(classes == class_id) for class_id in np.unique(classes))
    ]
    order = np.concatenate([np.empty(0, np.intp), *kept])
    order = order[np.argsort(-scores[order], kind="stable")][: settings.max_detections]
    return {**others, "boxes_yxyx": boxes[order], "scores": scores[order], "classes": classes[order]}


def _in_picture(boxes_yxyx: np.ndarray, window_yxyx: np.ndarray) -> np.ndarray:
    """Convert boxes [D, 4] in [0, 1] of a window to [0, 1] of the picture."""
    start, end = window_yxyx[:2], window_yxyx[2:]
    return boxes_yxyx * np.tile(end - start, 2) + np.tile(start, 2)


def suppress(boxes_yxyx: np.ndarray, scores: np.ndarray, nms_threshold: float, nms_topk: int) -> np.ndarray:
    """Return the indices, the best first, of the `nms_topk` best boxes [D, 4] that non-maximum suppression keeps."""
    remaining = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    while remaining.size and len(kept) < nms_topk:
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        remaining = remaining[_ious(boxes_yxyx[best], boxes_yxyx[remaining]) <= nms_threshold]
    return np.array(kept, np.intp)


def _ious(box_yxyx: np.ndarray, boxes_yxyx: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a box [4] with boxes [D, 4], each with an area; [D]."""
    sides = np.minimum(box_yxyx[2:], boxes_yxyx[:, 2:]) - np.maximum(box_yxyx[:2], boxes_yxyx[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).prod(axis=1)
    return shared / ((box_yxyx[2:] - box_yxyx[:2]).prod() + areas - shared)


class _CheckCheckpoint(tf.train.SessionRunHook):
    """Compares a checkpoint with the network before TensorFlow restores it."""

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Raise a UserError if a variable is missing or has another shape."""
        warm_start.check_fits(self._checkpoint)


def detect(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the detections of each picture as a dict, with all features of the picture but its pixels.

    `boxes_yxyx` float32 [D, 4] in [0, 1] of the picture, `scores` float32 [D] from the highest, `classes` int32 [D].
    Those of tiles are brought together. A UserError if the checkpoint is of another network.
    """
    return whole_pictures(_detect_in_views(estimator, input_fn, checkpoint), estimator.params.config.detection)


def _detect_in_views(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    hooks = [_CheckCheckpoint(checkpoint)]
    for batch in estimator.predict(input_fn, hooks=hooks, checkpoint_path=checkpoint, yield_single_examples=False):
        for row, count in enumerate(batch["count"]):  # the rest is padding
            image = {name: values[row] for name, values in batch.items() if name != "count"}
            yield {**image, **{name: image[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}

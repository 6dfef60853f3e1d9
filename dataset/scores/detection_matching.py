"""Matches detections to ground truth by the rule of the devkit (VOCevaldet.m), without a loop over detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataset.scores import voc_results
from dataset.sources.annotations import Annotation

_BLOCK = 8192  # detections compared at once; bounds the memory for images with many objects


@dataclass(frozen=True)
class ClassTruth:
    """The ground truth of one class, sorted by image: boxes [G, 4], difficult bool [G], image indices [G]."""

    boxes: np.ndarray
    difficult: np.ndarray
    images: np.ndarray


def has_area(box_yxyx_px: tuple[float, float, float, float]) -> bool:
    """Return whether a box is neither inverted nor of zero width or height."""
    ymin, xmin, ymax, xmax = box_yxyx_px
    return ymax > ymin and xmax > xmin


def group_by_class(ground_truth: Sequence[Annotation], class_names: Sequence[str]) -> dict[str, ClassTruth]:
    """Return the objects with area by class name; an image's index is its place in `ground_truth`."""
    rows: dict[str, list[tuple]] = {name: [] for name in class_names}
    for image, annotation in enumerate(ground_truth):
        for item in annotation.objects:
            if item.name in rows and has_area(item.box_yxyx_px):
                rows[item.name].append((*item.box_yxyx_px, item.difficult, image))
    tables = {name: np.array(found, dtype=np.float64).reshape(-1, 6) for name, found in rows.items()}
    return {
        name: ClassTruth(table[:, :4], table[:, 4].astype(bool), table[:, 5].astype(np.int64))
        for name, table in tables.items()
    }


def by_falling_score(
    found: voc_results.Detections | None, image_index: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes [D, 4], image indices [D] and scores [D] of the detections in known images, by falling score."""
    if found is None:
        return np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0)
    images = np.array([image_index.get(image_id, -1) for image_id in found.image_ids.tolist()], dtype=np.int64)
    order = np.argsort(-found.scores, kind="stable")
    order = order[images[order] >= 0]
    return found.boxes_yxyx_px[order], images[order], found.scores[order]


def match_detections(boxes: np.ndarray, images: np.ndarray, truth: ClassTruth, iou_threshold: float) -> np.ndarray:
    """Return, for each detection [D], the index of the ground truth that it matches, or -1."""
    best, iou = best_overlaps(boxes, images, truth)
    return np.where(iou >= iou_threshold, best, -1)


def best_overlaps(boxes: np.ndarray, images: np.ndarray, truth: ClassTruth) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each detection [D], the index of the ground truth of its image with the highest IoU, and the IoU.

    Without ground truth in the image these are -1 and 0. Each detection is compared with all ground truth of its
    image. These pairs are rows of flat arrays, the pairs of one detection next to each other.
    """
    best, iou = np.full(len(boxes), -1, dtype=np.int64), np.zeros(len(boxes))
    first = np.searchsorted(truth.images, images, side="left")
    counts = np.searchsorted(truth.images, images, side="right") - first
    with_truth = np.flatnonzero(counts)
    for start in range(0, len(with_truth), _BLOCK):
        block = with_truth[start : start + _BLOCK]
        best[block], iou[block] = _best_of_image(boxes[block], first[block], counts[block], truth.boxes)
    return best, iou


def _best_of_image(
    boxes: np.ndarray, first: np.ndarray, counts: np.ndarray, truth_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the ground truth with the highest IoU for each detection [D], and the IoU.

    A detection's candidates are the `counts` (> 0) rows of `truth_boxes` from `first` on.
    """
    starts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(boxes)), counts)
    candidate = first[owner] + np.arange(len(owner)) - starts[owner]
    iou = _iou_inclusive(boxes[owner], truth_boxes[candidate])
    best_iou = np.maximum.reduceat(iou, starts)
    # of equal IoUs the first ground truth wins, as in the devkit
    winners = np.flatnonzero(iou == best_iou[owner])
    _, first_winner = np.unique(owner[winners], return_index=True)
    return candidate[winners[first_winner]], best_iou


def _iou_inclusive(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Return the IoU [P] of pairs of boxes [P, 4] in inclusive pixels: a side is max - min + 1 pixels long.

    An inverted box has no pixel and overlaps nothing.
    """
    corners_min = np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    corners_max = np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    overlap = area_px(corners_min, corners_max)
    areas = area_px(boxes_a[:, :2], boxes_a[:, 2:]) + area_px(boxes_b[:, :2], boxes_b[:, 2:])
    return overlap / (areas - overlap)  # ground truth has area, so this is not 0 / 0


def area_px(corners_min: np.ndarray, corners_max: np.ndarray) -> np.ndarray:
    """Return the pixels [P] of boxes with these corners [P, 2], both inclusive; 0 for an inverted box."""
    sides = np.maximum(corners_max - corners_min + 1, 0)
    return sides[:, 0] * sides[:, 1]


def first_of_each(matches: np.ndarray) -> np.ndarray:
    """Mark [D] the first detection of each ground truth."""
    marks = np.zeros(len(matches), dtype=bool)
    matched = np.flatnonzero(matches >= 0)
    marks[matched[np.unique(matches[matched], return_index=True)[1]]] = True
    return marks

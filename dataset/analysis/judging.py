"""Judges each detection: right, ignored, or an error of one of TIDE's kinds (arXiv 2008.08115, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataset.scores.detection_matching import (
    ClassTruth,
    best_overlaps,
    by_falling_score,
    first_of_each,
    group_by_class,
)
from dataset.scores.voc_results import Detections
from dataset.sources.annotations import Annotation

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR = -1
BACKGROUND_IOU = 0.1  # t_b of the paper; its t_f is the IoU threshold of the metric


@dataclass(frozen=True)
class Truth:
    """The objects with area of all classes, sorted by image.

    `boxes` float [G, 4] in pixels, `class_ids` int [G] from 1, `images` int [G] the places of their annotations,
    `difficult` bool [G], and `found` bool [G]: a detection is its true positive.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    images: np.ndarray
    difficult: np.ndarray
    found: np.ndarray

    def positives(self, class_id: int) -> int:
        """Return the number of objects of a class that are not difficult."""
        return int(np.sum((self.class_ids == class_id) & ~self.difficult))


@dataclass(frozen=True)
class ClassFindings:
    """The detections [D] of one class in order of falling score.

    `images` are places of annotations; `boxes` float32, because memory holds those of all classes. `own` is the object
    of the class with the highest IoU if that is at least `BACKGROUND_IOU`, and `other` that of the other classes if it
    reaches the threshold, else -1. `kind` is the kind of error; `ignored` are the matches of difficult objects.
    """

    class_id: int
    scores: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    own: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    true_positive: np.ndarray
    ignored: np.ndarray

    def counted(self) -> np.ndarray:
        """Return `true_positive` [D'] without the ignored detections."""
        return self.true_positive[~self.ignored]


@dataclass(frozen=True)
class Judged:
    """All detections, class after class, and the objects that they were compared with."""

    annotations: Sequence[Annotation]
    class_names: Sequence[str]
    iou_threshold: float
    truth: Truth
    classes: tuple[ClassFindings, ...]

    def target(self, findings: ClassFindings) -> np.ndarray:
        """Return [D] the object that a detection of the wrong class or place meant, -1 for all others."""
        target = np.where(findings.kind == LOCALISATION, findings.own, -1)
        return np.where(findings.kind == CLASSIFICATION, findings.other, target)


def judge(
    detections: Mapping[int, Detections],
    annotations: Sequence[Annotation],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
) -> Judged:
    """Judge all detections by the devkit's matching; each class is asked for once.

    A false positive is an error of the first kind that fits, in the order of the package tidecv: of place, if its best
    object of its class has an IoU from .1 to the threshold; of class, if one of another class reaches the threshold; a
    duplicate, if its own object has a better detection; on background, if no object has an IoU above .1; else both.
    Difficult objects are no errors when missed, and mending a detection of one only removes it.

    Args:
        detections: by class id, from 1; those in images without annotation are left out.
        annotations: one for each image, with distinct ids.
        class_names: the name at index i has class id i + 1.
        iou_threshold: from which a detection is right, in (0, 1].
    """
    truth = _all_truth(annotations, class_names)
    image_index = {annotation.image_id: index for index, annotation in enumerate(annotations)}
    classes = []
    for class_id in range(1, len(class_names) + 1):
        boxes, images, scores = by_falling_score(detections.get(class_id), image_index)
        classes.append(_judge_class(class_id, (boxes, images, scores), truth, iou_threshold))
    return Judged(annotations, class_names, iou_threshold, truth, tuple(classes))


def _all_truth(annotations: Sequence[Annotation], class_names: Sequence[str]) -> Truth:
    parts = list(group_by_class(annotations, class_names).values())
    class_ids = np.repeat(np.arange(1, len(parts) + 1), [len(part.images) for part in parts])
    images = np.concatenate([part.images for part in parts])
    order = np.argsort(images, kind="stable")
    boxes = np.concatenate([part.boxes for part in parts])[order]
    difficult = np.concatenate([part.difficult for part in parts])[order]
    return Truth(boxes, class_ids[order], images[order], difficult, np.zeros(len(order), dtype=bool))


def _judge_class(
    class_id: int, found: tuple[np.ndarray, np.ndarray, np.ndarray], truth: Truth, iou_threshold: float
) -> ClassFindings:
    """Judge the detections of a class, and mark the objects that they find."""
    boxes, images, scores = found
    own, own_iou = _best_among(truth.class_ids == class_id, boxes, images, truth)
    other, other_iou = _best_among(truth.class_ids != class_id, boxes, images, truth)
    matches = np.where(own_iou >= iou_threshold, own, -1)
    ignored = (matches >= 0) & truth.difficult[matches] if len(truth.difficult) else matches >= 0
    true_positive = first_of_each(matches) & ~ignored
    truth.found[matches[true_positive]] = True
    background_iou = min(BACKGROUND_IOU, iou_threshold)
    kinds = [
        (true_positive | ignored, NO_ERROR),
        ((own_iou >= background_iou) & (own_iou < iou_threshold), LOCALISATION),
        (other_iou >= iou_threshold, CLASSIFICATION),
        (matches >= 0, DUPLICATE),
        (np.maximum(own_iou, other_iou) <= background_iou, BACKGROUND),
    ]
    conditions, values = zip(*kinds, strict=True)
    return ClassFindings(
        class_id=class_id,
        scores=scores,
        images=images.astype(np.int32),
        boxes=boxes.astype(np.float32),
        own=np.where(own_iou >= background_iou, own, -1).astype(np.int32),
        other=np.where(other_iou >= iou_threshold, other, -1).astype(np.int32),
        kind=np.select(conditions, values, BOTH).astype(np.int8),
        true_positive=true_positive,
        ignored=ignored,
    )


def _best_among(
    chosen: np.ndarray, boxes: np.ndarray, images: np.ndarray, truth: Truth
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of the chosen objects [G] for each detection [D], -1 without one, and its IoU."""
    rows = np.flatnonzero(chosen)
    best, iou = best_overlaps(boxes, images, ClassTruth(truth.boxes[rows], truth.difficult[rows], truth.images[rows]))
    return np.append(rows, -1)[best], iou

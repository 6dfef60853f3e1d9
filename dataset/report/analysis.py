"""Judges each detection: right, ignored, or an error of one of TIDE's kinds (arXiv 2008.08115, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dataset.scores.average_precision import (
    ClassTruth,
    area_px,
    best_overlaps,
    by_falling_score,
    first_of_each,
    group_by_class,
)
from dataset.scores.voc_results import Detections
from dataset.sources.annotations import Annotation

# The confusion matrix of a detector, with background.


def confusion_matrix(judged: Judged, thresholds: Mapping[int, float]) -> np.ndarray:
    """Return int [C, C], C = classes + 1: rows are the object's class id, columns the detection's, 0 is background.

    Of each class, detections with at least its threshold count; those of a class without one do not. True positives
    come first, so that the diagonal is that of the metric. Every other detection, in order of falling score, takes the
    object of another class with which it has the highest IoU, if that reaches the IoU threshold and is still free, and
    else counts as one of background; objects that are left are missed: column 0. A detection of a difficult object
    counts nowhere.
    """
    truth, classes = judged.truth, len(judged.class_names) + 1
    shown = [(found, _shown(found, thresholds)) for found in judged.classes]
    free = ~truth.difficult
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for found, rows in shown:
        hits = rows[found.true_positive[rows]]
        free[found.own[hits]] = False
        matrix[found.class_id, found.class_id] = len(hits)
    wrong = [(found, rows[~found.true_positive[rows]]) for found, rows in shown]
    scores = np.concatenate([found.scores[rows] for found, rows in wrong])
    meant = np.concatenate([found.other[rows] for found, rows in wrong]).astype(np.int64)
    predicted = np.repeat([found.class_id for found, _ in wrong], [len(rows) for _, rows in wrong])
    order = np.argsort(-scores, kind="stable")
    meant, predicted = meant[order], predicted[order]
    candidates = np.flatnonzero(np.append(free, False)[meant])
    taken, first = np.unique(meant[candidates], return_index=True)
    confused = candidates[first]
    np.add.at(matrix, (truth.class_ids[taken], predicted[confused]), 1)
    free[taken] = False
    on_background = ~np.append(truth.difficult, False)[meant]
    on_background[confused] = False
    matrix[0] += np.bincount(predicted[on_background], minlength=classes)
    matrix[:, 0] += np.bincount(truth.class_ids[free], minlength=classes)
    return matrix


def _shown(found: ClassFindings, thresholds: Mapping[int, float]) -> np.ndarray:
    """Return the indices of the detections that count."""
    if found.class_id not in thresholds:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((found.scores >= thresholds[found.class_id]) & ~found.ignored)


# Average precision by the size of the objects, in COCO's groups.

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, math.inf)}  # pixels, [from, to)


@dataclass(frozen=True)
class SizeResult:
    """Objects of one class in one group, difficult ones not counted, and their AP; None without an object."""

    objects: int
    ap: float | None


def ap_by_size(judged: Judged, average: Average) -> dict[str, dict[int, SizeResult]]:
    """Return the results by group and class id.

    As COCO does, objects of other sizes are ignored like difficult ones, and so is a detection of other size that is
    no true positive. The size is the area of the box in inclusive pixels (COCO measures that of the mask).
    """
    truth_area = area_px(judged.truth.boxes[:, :2], judged.truth.boxes[:, 2:])
    return {
        name: {found.class_id: _of_class(judged, found, truth_area, limits, average) for found in judged.classes}
        for name, limits in SIZES.items()
    }


def mean_ap(results: dict[int, SizeResult]) -> float | None:
    """Return the mean over the classes with objects in a group, None if there is none."""
    scores = [result.ap for result in results.values() if result.ap is not None]
    return sum(scores) / len(scores) if scores else None


def _of_class(
    judged: Judged, found: ClassFindings, truth_area: np.ndarray, limits: tuple[float, float], average: Average
) -> SizeResult:
    truth = judged.truth
    within = np.append(_within(truth_area, limits), False)
    objects = int(np.sum(within[:-1] & (truth.class_ids == found.class_id) & ~truth.difficult))
    if not objects:
        return SizeResult(0, None)
    counts = np.where(
        found.true_positive, within[found.own], _within(area_px(found.boxes[:, :2], found.boxes[:, 2:]), limits)
    )
    return SizeResult(objects, average(found.true_positive[counts & ~found.ignored], objects))


def _within(area: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (area >= limits[0]) & (area < limits[1])


# F1 over the score, and the score at which it is highest: what a user asks --select_threshold for.

_POINTS = 201  # scores of a curve: steps of .005 in [0, 1]


@dataclass(frozen=True)
class Threshold:
    """Precision, recall and F1, all in [0, 1], of the detections with at least this score."""

    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class F1Curves:
    """F1 at `scores` [S]; `curves` has [S] for each class with objects, `best` its threshold, both by class id.

    `mean` [S] is the mean of the curves, `best_for_all` the score where it is highest; both None without a class. A
    class without a true positive has no best threshold.
    """

    scores: np.ndarray
    curves: dict[int, np.ndarray]
    best: dict[int, Threshold]
    mean: np.ndarray | None
    best_for_all: float | None


def f1_curves(judged: Judged) -> F1Curves:
    """Return F1 = 2 TP / (detections + objects) over the score; ignored detections do not count.

    Scores may lie outside of [0, 1]; the curves reach as far as they do.
    """
    scores = np.linspace(*_range(judged.classes), _POINTS)
    curves, best = {}, {}
    for found in judged.classes:
        positives = judged.truth.positives(found.class_id)
        if positives:
            curves[found.class_id] = _curve(found, positives, scores)
            threshold = best_threshold(found, positives)
            if threshold:
                best[found.class_id] = threshold
    if not curves:
        return F1Curves(scores, curves, best, None, None)
    mean = np.mean(list(curves.values()), axis=0)
    return F1Curves(scores, curves, best, mean, float(scores[np.argmax(mean)]) if mean.any() else None)


def _range(classes: Sequence[ClassFindings]) -> tuple[float, float]:
    ends = [float(end) for found in classes if len(found.scores) for end in (found.scores[-1], found.scores[0])]
    return min([0.0, *ends]), max([1.0, *ends])


def _curve(found: ClassFindings, positives: int, scores: np.ndarray) -> np.ndarray:
    hits = np.append(0, np.cumsum(found.counted()))
    number = np.searchsorted(-found.scores[~found.ignored], -scores, side="right")
    return 2 * hits[number] / (number + positives)


def best_threshold(found: ClassFindings, positives: int) -> Threshold | None:
    """Return the highest score at which F1 is best, that of a detection; None without a true positive."""
    scores, hits = found.scores[~found.ignored], np.cumsum(found.counted())
    if not len(hits) or not hits[-1]:
        return None
    number = np.arange(1, len(hits) + 1)
    f1 = 2 * hits / (number + positives)
    f1[:-1][scores[:-1] == scores[1:]] = 0  # a threshold takes all detections of a score or none
    index = int(np.argmax(f1))
    return Threshold(
        float(scores[index]), float(f1[index]), float(hits[index] / number[index]), float(hits[index] / positives)
    )


# The average precision that each kind of error costs, as TIDE counts it (arXiv 2008.08115, section 2.3).

Average = Callable[[np.ndarray, int], float]  # bool [D] true positives by falling score, objects -> average precision


@dataclass(frozen=True)
class ErrorCost:
    """How many errors of a kind there are, and the rise of mAP, in [0, 1], if that kind alone is mended."""

    kind: str
    count: int
    cost: float


@dataclass(frozen=True)
class _Mending:
    """What mending does: `chosen` detections [D] of each class become right, objects [G] `missed` do not count."""

    judged: Judged
    chosen: tuple[np.ndarray, ...]
    missed: np.ndarray


def error_costs(judged: Judged, average: Average) -> tuple[ErrorCost, ...]:
    """Return the kinds of error in the order of `KINDS`.

    Mending a wrong class or place makes the detection right if it is the best of those that meant an object that no
    detection finds, and removes it otherwise; mending another detection removes it; a missed object is one that no
    detection finds nor meant, and mending it takes it out of the count. mAP is the mean over the classes with objects.
    A class whose objects are all missed has, mended, 1 without a detection and else 0.

    Args:
        judged: all detections.
        average: the average precision of a class, given bool [D] and the number of its objects.
    """
    mending = _mending(judged)
    with_objects = [found for found in judged.classes if judged.truth.positives(found.class_id)]
    base = [average(found.counted(), judged.truth.positives(found.class_id)) for found in with_objects]
    costs = []
    for kind, name in enumerate(KINDS):
        mended = [_mended(mending, found, kind, average) for found in with_objects]
        count = mending.missed.sum() if kind == MISSED else sum(np.sum(found.kind == kind) for found in judged.classes)
        cost = (sum(mended) - sum(base)) / max(len(base), 1)
        costs.append(ErrorCost(name, int(count), max(float(cost), 0.0)))
    return tuple(costs)


def missed_objects(judged: Judged) -> np.ndarray:
    """Mark [G] the objects that no detection finds nor meant; no difficult ones."""
    return _mending(judged).missed


def _mending(judged: Judged) -> _Mending:
    targets = [judged.target(found) for found in judged.classes]
    sizes = np.cumsum([0, *map(len, targets)])
    target = np.concatenate(targets)
    open_object = np.append(~judged.truth.found & ~judged.truth.difficult, False)  # the last is that of target -1
    mendable = np.flatnonzero(open_object[target])
    scores = np.concatenate([found.scores for found in judged.classes])[mendable]
    order = mendable[np.argsort(-scores, kind="stable")]
    meant, first = np.unique(target[order], return_index=True)
    chosen = np.zeros(len(target), dtype=bool)
    chosen[order[first]] = True
    missed = open_object[:-1].copy()
    missed[meant] = False
    parts = tuple(chosen[start:end] for start, end in pairwise(sizes.tolist()))
    return _Mending(judged, parts, missed)


def _mended(mending: _Mending, found: ClassFindings, kind: int, average: Average) -> float:
    """Return the average precision of a class when one kind of error is mended."""
    truth = mending.judged.truth
    positives = truth.positives(found.class_id)
    if kind == MISSED:
        positives -= int(np.sum(mending.missed & (truth.class_ids == found.class_id)))
        counted = found.counted()
        return average(counted, positives) if positives else float(len(counted) == 0)
    made_right = mending.chosen[found.class_id - 1] & (found.kind == kind) & (kind == LOCALISATION)
    keep = ~found.ignored & ((found.kind != kind) | made_right)
    scores, right = found.scores[keep], (found.true_positive | made_right)[keep]
    if kind == CLASSIFICATION:
        moved = _moved_to(mending, found.class_id)
        scores, right = np.append(scores, moved), np.append(right, np.ones(len(moved), dtype=bool))
        right = right[np.argsort(-scores, kind="stable")]
    return average(right, positives)


def _moved_to(mending: _Mending, class_id: int) -> np.ndarray:
    """Return the scores of the detections of other classes that become right in this class."""
    class_ids = mending.judged.truth.class_ids
    moved = [np.zeros(0)]
    for found, chosen in zip(mending.judged.classes, mending.chosen, strict=True):
        rows = np.flatnonzero(chosen & (found.kind == CLASSIFICATION))
        moved.append(found.scores[rows[class_ids[found.other[rows]] == class_id]])
    return np.concatenate(moved)


# The images whose errors cost most.

_MOST_ERRORS = 8  # of one image; more would hide the picture


@dataclass(frozen=True)
class ImageError:
    """A detection that is wrong, or an object that is missed (no score): its box, class, kind and cost in mAP."""

    kind: str
    class_id: int
    score: float | None
    box_yxyx_px: tuple[float, ...]
    cost: float


@dataclass(frozen=True)
class CostlyImage:
    """An image, the cost of all its errors, and the costliest of them; `truth` are (class id, box) of its objects."""

    annotation: Annotation
    cost: float
    errors: tuple[ImageError, ...]
    truth: tuple[tuple[int, tuple[float, ...]], ...]


def costliest_images(judged: Judged, most: int = 12) -> list[CostlyImage]:
    """Return the images whose errors cost most, the costliest first.

    The cost of a wrong detection is the rise of mAP, taken as the area under the curve itself, if it alone were absent:
    it lowers the precision k / n at each true positive behind it, the k-th among n detections, by k / n (n - 1). An
    object that no detection is right about costs its share of the recall. Both are first-order: costs do not add up to
    the loss of mAP.
    """
    with_objects = sum(judged.truth.positives(found.class_id) > 0 for found in judged.classes)
    detection_costs = [_detection_costs(judged, found) / max(with_objects, 1) for found in judged.classes]
    object_costs = _object_costs(judged) / max(with_objects, 1)
    total = np.bincount(judged.truth.images, object_costs, len(judged.annotations))
    for found, costs in zip(judged.classes, detection_costs, strict=True):
        total += np.bincount(found.images, costs, len(judged.annotations))
    order = np.argsort(-total, kind="stable")[:most]
    errors = _errors_of(judged, set(order[total[order] > 0].tolist()), detection_costs, object_costs)
    return [_image(judged, image, float(total[image]), errors[image]) for image in order.tolist() if image in errors]


def _detection_costs(judged: Judged, found: ClassFindings) -> np.ndarray:
    costs = np.zeros(len(found.scores))
    positives = judged.truth.positives(found.class_id)
    right = found.counted()
    if positives and right.any():
        number = np.arange(1, len(right) + 1)
        # where n is 1 the detection is right and has none before it
        loss = np.where(right, np.cumsum(right) / (number * np.maximum(number - 1, 1)), 0.0)
        behind = np.cumsum(loss[::-1])[::-1]
        costs[~found.ignored] = np.where(right, 0.0, behind) / positives
    return costs


def _object_costs(judged: Judged) -> np.ndarray:
    truth = judged.truth
    positives = np.bincount(truth.class_ids[~truth.difficult], minlength=len(judged.class_names) + 1)
    return np.where(truth.found | truth.difficult, 0.0, 1 / np.maximum(positives, 1)[truth.class_ids])


def _errors_of(
    judged: Judged, images: set[int], detection_costs: list[np.ndarray], object_costs: np.ndarray
) -> dict[int, list[ImageError]]:
    errors: dict[int, list[ImageError]] = {image: [] for image in images}
    wanted = list(images)
    for found, costs in zip(judged.classes, detection_costs, strict=True):
        for row in np.flatnonzero(np.isin(found.images, wanted) & (found.kind != NO_ERROR) & (costs > 0)).tolist():
            box, kind = tuple(found.boxes[row].tolist()), KINDS[found.kind[row]]
            error = ImageError(kind, found.class_id, float(found.scores[row]), box, float(costs[row]))
            errors[int(found.images[row])].append(error)
    truth, missed = judged.truth, missed_objects(judged)
    for row in np.flatnonzero(np.isin(truth.images, wanted) & (object_costs > 0)).tolist():
        kind = KINDS[MISSED] if missed[row] else "not found"
        box, class_id = tuple(truth.boxes[row].tolist()), int(truth.class_ids[row])
        errors[int(truth.images[row])].append(ImageError(kind, class_id, None, box, float(object_costs[row])))
    return errors


def _image(judged: Judged, image: int, cost: float, errors: list[ImageError]) -> CostlyImage:
    truth = judged.truth
    rows = np.flatnonzero(truth.images == image).tolist()
    objects = tuple((int(truth.class_ids[row]), tuple(truth.boxes[row].tolist())) for row in rows)
    costliest = sorted(errors, key=lambda error: -error.cost)[:_MOST_ERRORS]
    return CostlyImage(judged.annotations[image], cost, tuple(costliest), objects)


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

"""What a detector gets wrong: each detection is judged once, then counted in tables.

A false positive is an error of the first of TIDE's kinds that fits (arXiv 2008.08115, section 2.2), in the order of the
package tidecv: of place, if its best object of its class has an IoU from .1 to the threshold; of class, if one of
another class reaches the threshold; a duplicate, if its own object has a better detection; on background, if no object
has an IoU above .1; else both. An object is missed if no detection finds it, not even with a wrong class or place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dataset.scores.average_precision import ClassResult, EvaluationResult, Truth, area, best_overlaps
from dataset.sources.annotations import Annotation

BACKGROUND_IOU = 0.1  # t_b of the paper; its t_f is the IoU threshold of the metric
KINDS = {
    "classification": "on an object, but of another class",
    "localisation": "the right class, but its box overlaps the object too little",
    "both": "another class, and too little overlap",
    "duplicate": "the object has a detection with a higher score already",
    "background": f"on nothing: no object with an IoU above {BACKGROUND_IOU:g}",
    "missed": "an object that no detection finds, not even with a wrong class or place",
}
_NAMES = tuple(KINDS)
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR = -1
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, math.inf)}  # pixels, [from, to)
_POINTS = 201  # scores of a curve: steps of .005 in [0, 1]
_MOST_ERRORS = 8  # of one image; more would hide the picture

Average = Callable[[np.ndarray, int], float]  # bool [D] true positives by falling score, objects -> average precision


@dataclass(frozen=True)
class ClassFindings(ClassResult):
    """The detections of a class with the kind of error of each.

    `other` int32 [D] is the object of another class with the highest IoU if that reaches the threshold, else -1. `kind`
    int8 [D] is an index of `KINDS` or `NO_ERROR`. `meant` int32 [D] is the object that a detection of the wrong class
    or place meant, -1 for all others.
    """

    other: np.ndarray
    kind: np.ndarray
    meant: np.ndarray

    def counted(self) -> np.ndarray:
        """Return `true_positive` [D'] without the ignored detections."""
        return self.true_positive[~self.ignored]


@dataclass(frozen=True)
class Judged:
    """All detections, class after class, and the objects that they were compared with.

    `found` and `missed` are bool [G]: a detection is right about the object; none is, nor meant it. Difficult objects
    are never missed.
    """

    annotations: Sequence[Annotation]
    class_names: Sequence[str]
    truth: Truth
    classes: Sequence[ClassFindings]
    found: np.ndarray
    missed: np.ndarray

    def with_objects(self) -> list[ClassFindings]:
        """Return the classes that have an object that is not difficult."""
        return [found for found in self.classes if found.ground_truth]


def judge(result: EvaluationResult, annotations: Sequence[Annotation]) -> Judged:
    """Judge all detections of an evaluation, on annotations as `evaluate` had them."""
    truth, threshold = result.truth, result.iou_threshold
    found = np.zeros(len(truth.images), dtype=bool)
    missed = ~truth.difficult
    classes = []
    for scored in result.classes.values():
        others = truth.class_ids != scored.class_id
        other, other_iou = best_overlaps(scored.boxes_yxyx_px, scored.images, truth, others)
        own_iou, background_iou = scored.own_iou, min(BACKGROUND_IOU, threshold)
        kinds = [
            (scored.true_positive | scored.ignored, NO_ERROR),
            ((own_iou >= background_iou) & (own_iou < threshold), LOCALISATION),
            (other_iou >= threshold, CLASSIFICATION),
            (own_iou >= threshold, DUPLICATE),
            (np.maximum(own_iou, other_iou) <= background_iou, BACKGROUND),
        ]
        conditions, values = zip(*kinds, strict=True)
        kind = np.select(conditions, values, BOTH).astype(np.int8)
        other = np.where(other_iou >= threshold, other, -1)
        meant = np.select([kind == LOCALISATION, kind == CLASSIFICATION], [scored.own, other], -1)
        found[scored.own[scored.true_positive]] = True
        missed[meant[meant >= 0]] = False
        classes.append(ClassFindings(**vars(scored), other=other, kind=kind, meant=meant))
    return Judged(annotations, tuple(result.classes), truth, classes, found, missed & ~found)


class ErrorCost(NamedTuple):
    """How many errors of a kind there are, and the rise of mAP, in [0, 1], if that kind alone is corrected."""

    kind: str
    number: int
    cost: float


def error_costs(judged: Judged, average: Average) -> list[ErrorCost]:
    """Return the kinds of error in the order of `KINDS`, with the mAP that each costs, as in section 2.3 of TIDE.

    Correcting a wrong class or place makes the detection right if it is the best of those that meant an object that no
    detection finds, and removes it otherwise; correcting another detection removes it; correcting a missed object takes
    it out of the count. mAP is the mean over the classes with objects. A class whose objects are all missed has,
    corrected, 1 without a detection and else 0.
    """
    class_ids = judged.truth.class_ids
    predicted = np.concatenate([np.full(len(found.scores), found.class_id) for found in judged.classes])
    scores = np.concatenate([found.scores for found in judged.classes])
    kinds = np.concatenate([found.kind for found in judged.classes])
    meant = np.concatenate([found.meant for found in judged.classes])
    is_open = np.append(~judged.found & ~judged.truth.difficult, False)  # the last is that of -1
    rows = np.flatnonzero(is_open[meant])
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    rows = rows[np.unique(meant[rows], return_index=True)[1]]
    best = np.zeros(len(meant), dtype=bool)  # the detections with the highest score of those that meant an open object
    best[rows] = True

    def corrected(found: ClassFindings, kind: int) -> float:
        """Return the average precision of a class when one kind of error is corrected."""
        if kind == MISSED:
            objects = found.ground_truth - int(np.sum(judged.missed & (class_ids == found.class_id)))
            return average(found.counted(), objects) if objects else float(len(found.counted()) == 0)
        made_right = best[predicted == found.class_id] & (found.kind == kind) & (kind == LOCALISATION)
        keep = ~found.ignored & ((found.kind != kind) | made_right)
        of_kept, right = found.scores[keep], (found.true_positive | made_right)[keep]
        if kind == CLASSIFICATION:  # detections of other classes become right in this one
            moved = np.flatnonzero(best & (kinds == CLASSIFICATION))
            moved = moved[class_ids[meant[moved]] == found.class_id]
            right = np.append(right, np.ones(len(moved), dtype=bool))
            right = right[np.argsort(-np.append(of_kept, scores[moved]), kind="stable")]
        return average(right, found.ground_truth)

    with_objects = judged.with_objects()
    base = sum(average(found.counted(), found.ground_truth) for found in with_objects)
    costs = []
    for kind, name in enumerate(KINDS):
        count = judged.missed.sum() if kind == MISSED else np.sum(kinds == kind)
        cost = (sum(corrected(found, kind) for found in with_objects) - base) / max(len(with_objects), 1)
        costs.append(ErrorCost(name, int(count), max(float(cost), 0.0)))
    return costs


class Threshold(NamedTuple):
    """Precision, recall and F1, all in [0, 1], of the detections with at least this score."""

    score: float
    f1: float
    precision: float
    recall: float


class F1Curves(NamedTuple):
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

    The best threshold of a class, which a user gives to --select_threshold, is the highest score, that of a detection,
    at which F1 is best. Scores may lie outside of [0, 1]; the curves reach as far as they do.
    """
    ends = [end for found in judged.classes if len(found.scores) for end in (found.scores[-1], found.scores[0])]
    scores = np.linspace(min([0.0, *ends]), max([1.0, *ends]), _POINTS)
    curves, best = {}, {}
    for found in judged.with_objects():
        of_counted, hits = found.scores[~found.ignored], np.cumsum(found.counted())
        above = np.searchsorted(-of_counted, -scores, side="right")
        curves[found.class_id] = 2 * np.append(0, hits)[above] / (above + found.ground_truth)
        if len(hits) and hits[-1]:
            number = np.arange(1, len(hits) + 1)
            f1 = 2 * hits / (number + found.ground_truth)
            f1[:-1][of_counted[:-1] == of_counted[1:]] = 0  # a threshold takes all detections of a score or none
            top = int(np.argmax(f1))
            row = (of_counted[top], f1[top], hits[top] / number[top], hits[top] / found.ground_truth)
            best[found.class_id] = Threshold(*map(float, row))
    if not curves:
        return F1Curves(scores, curves, best, None, None)
    mean = np.mean(list(curves.values()), axis=0)
    return F1Curves(scores, curves, best, mean, float(scores[np.argmax(mean)]) if mean.any() else None)


def confusion_matrix(judged: Judged, thresholds: Mapping[int, float]) -> np.ndarray:
    """Return int [C, C], C = classes + 1: rows are the object's class id, columns the detection's, 0 is background.

    Of each class, detections with at least its threshold count; those of a class without one do not. True positives
    come first, so that the diagonal is that of the metric. Every other detection, in order of falling score, takes the
    object of another class with which it has the highest IoU, if that reaches the IoU threshold and is still free, and
    else counts as one of background; objects that are left are missed: column 0. A detection of a difficult object
    counts nowhere.
    """
    truth, classes = judged.truth, len(judged.class_names) + 1
    free = ~truth.difficult
    matrix = np.zeros((classes, classes), dtype=np.int64)
    wrong_ones = []  # scores, objects of other classes and class ids, class after class
    for found in judged.classes:
        shown = (found.scores >= thresholds.get(found.class_id, math.inf)) & ~found.ignored
        hits, wrong = shown & found.true_positive, shown & ~found.true_positive
        free[found.own[hits]] = False
        matrix[found.class_id, found.class_id] = hits.sum()
        wrong_ones.append((found.scores[wrong], found.other[wrong], np.full(wrong.sum(), found.class_id)))
    scores, other, column = map(np.concatenate, zip(*wrong_ones, strict=True))
    order = np.argsort(-scores, kind="stable")
    other, column = other[order], column[order]
    candidates = np.flatnonzero(np.append(free, False)[other])  # the last is that of -1
    taken, first = np.unique(other[candidates], return_index=True)
    confused = candidates[first]
    np.add.at(matrix, (truth.class_ids[taken], column[confused]), 1)
    free[taken] = False
    on_background = ~np.append(truth.difficult, False)[other]
    on_background[confused] = False
    matrix[0] += np.bincount(column[on_background], minlength=classes)
    matrix[:, 0] += np.bincount(truth.class_ids[free], minlength=classes)
    return matrix


def ap_by_size(judged: Judged, average: Average) -> dict[str, list[tuple[int, float | None]]]:
    """Return the number of objects and their AP, None without one, of each class by group of `SIZES`, which are COCO's.

    Difficult objects do not count. As COCO does, objects of other sizes are ignored like difficult ones, and so is a
    detection of other size that is no true positive. The size is the area of the box (COCO measures that of the mask).
    """
    truth = judged.truth
    groups: dict[str, list[tuple[int, float | None]]] = {}
    for name, (low, high) in SIZES.items():
        areas = area(truth.boxes_yxyx_px, truth.pixel_extent)
        fits = (areas >= low) & (areas < high)
        groups[name] = []
        for found in judged.classes:
            objects = int(np.sum(fits & (truth.class_ids == found.class_id) & ~truth.difficult))
            areas = area(found.boxes_yxyx_px, truth.pixel_extent)
            of_size = (areas >= low) & (areas < high)
            counts = np.where(found.true_positive, np.append(fits, False)[found.own], of_size)
            ap = average(found.true_positive[counts & ~found.ignored], objects) if objects else None
            groups[name].append((objects, ap))
    return groups


class ImageError(NamedTuple):
    """A detection that is wrong, or an object that is missed (no score): its box, class, kind and cost in mAP."""

    kind: str
    class_id: int
    score: float | None
    box_yxyx_px: tuple[float, ...]
    cost: float


class CostlyImage(NamedTuple):
    """An image, the cost of all its errors, and the costliest of them; `truth` are (class id, box) of its objects."""

    annotation: Annotation
    cost: float
    errors: list[ImageError]
    truth: list[tuple[int, tuple[float, ...]]]


def costliest_images(judged: Judged, most: int = 12) -> list[CostlyImage]:
    """Return the images whose errors cost most, the costliest first.

    The cost of a wrong detection is the rise of mAP, taken as the area under the curve itself, if it alone were absent:
    it lowers the precision k / n at each true positive behind it, the k-th among n detections, by k / n (n - 1). An
    object that no detection is right about costs its share of the recall. Both are first-order: costs do not add up to
    the loss of mAP.
    """
    truth, classes = judged.truth, max(len(judged.with_objects()), 1)
    shares = np.array([0.0, *(1 / found.ground_truth if found.ground_truth else 0.0 for found in judged.classes)])
    object_costs = np.where(judged.found | truth.difficult, 0.0, shares[truth.class_ids]) / classes
    total = np.bincount(truth.images, object_costs, len(judged.annotations))
    costs_of = []
    for found in judged.classes:
        costs = np.zeros(len(found.scores))
        right = found.counted()
        if right.any():
            number = np.arange(1, len(right) + 1)
            # where n is 1 the detection is right and has none before it
            loss = np.where(right, np.cumsum(right) / (number * np.maximum(number - 1, 1)), 0.0)
            behind = np.cumsum(loss[::-1])[::-1]
            costs[~found.ignored] = np.where(right, 0.0, behind) / found.ground_truth / classes
        costs_of.append(costs)
        total = total + np.bincount(found.images, costs, len(judged.annotations))
    shown = [image for image in np.argsort(-total, kind="stable")[:most].tolist() if total[image] > 0]
    errors: dict[int, list[ImageError]] = {image: [] for image in shown}
    for found, costs in zip(judged.classes, costs_of, strict=True):
        for row in np.flatnonzero(np.isin(found.images, shown) & (found.kind != NO_ERROR) & (costs > 0)).tolist():
            box, kind = tuple(found.boxes_yxyx_px[row].tolist()), _NAMES[found.kind[row]]
            error = ImageError(kind, found.class_id, float(found.scores[row]), box, float(costs[row]))
            errors[int(found.images[row])].append(error)
    objects_in: dict[int, list[tuple[int, tuple[float, ...]]]] = {image: [] for image in shown}
    for row in np.flatnonzero(np.isin(truth.images, shown)).tolist():
        image, class_id = int(truth.images[row]), int(truth.class_ids[row])
        box = tuple(truth.boxes_yxyx_px[row].tolist())
        objects_in[image].append((class_id, box))
        if object_costs[row] > 0:
            kind = _NAMES[MISSED] if judged.missed[row] else "not found"
            errors[image].append(ImageError(kind, class_id, None, box, float(object_costs[row])))
    for of_image in errors.values():
        of_image.sort(key=lambda error: -error.cost)
    return [
        CostlyImage(judged.annotations[image], float(total[image]), errors[image][:_MOST_ERRORS], objects_in[image])
        for image in shown
    ]

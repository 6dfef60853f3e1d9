"""Average precision of detections by the rules of the PASCAL VOC devkit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dataset.scores import voc_results
from dataset.sources.annotations import Annotation
from utility.errors import UserError

# Matches detections to ground truth by the rule of the devkit (VOCevaldet.m), without a loop over detections.

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


# arange gives .30000000000000004, which a recall of 3 / 10 does not reach; published figures have this error too
_ELEVEN = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True)
class ClassResult:
    """The score of one class; `ap` and `precision_at_recall` are None if it has no ground truth.

    `ground_truth` does not count the `difficult` objects. Of the `detections`, some are true positives, some are
    `ignored` because they match a difficult object, and the rest are false positives. `precision_at_recall` holds the
    best precision, in [0, 1], at a recall of at least 0, .1, ..., 1.
    """

    ap: float | None
    ground_truth: int
    difficult: int
    detections: int
    true_positives: int
    ignored: int
    precision_at_recall: tuple[float, ...] | None


@dataclass(frozen=True)
class EvaluationResult:
    """Scores by class name, in the order of class ids, and their mean over the classes with ground truth.

    `warnings` name possible causes of a low score.
    """

    classes: dict[str, ClassResult]
    mean_ap: float
    iou_threshold: float
    use_07_metric: bool
    warnings: tuple[str, ...]


def evaluate(
    detections: Mapping[int, voc_results.Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
    use_07_metric: bool = True,
) -> EvaluationResult:
    """Score detections against annotations as the PASCAL VOC devkit does (VOCevaldet.m).

    In order of descending score, each detection is matched to the ground truth of its class and image with the highest
    IoU. At an IoU of at least `iou_threshold`, the first match of an object is a true positive; a match of a difficult
    object is ignored; all else is a false positive. A class without detections scores 0, one without ground truth has
    no score. Ground truth without area and detections in unannotated images are left out, with a warning.

    Args:
        detections: by class id, from 1; each class is asked for once. Boxes in 1-based, inclusive pixels.
        ground_truth: one annotation for each image of the image set.
        class_names: the name at index i has class id i + 1.
        iou_threshold: in (0, 1].
        use_07_metric: 11-point interpolation (VOC2007) instead of the area under the curve (VOC2010 and later).

    Raises:
        UserError: a bad threshold, a class id without a name, no ground truth of any class, an image annotated twice,
            or no detection in an annotated image.
    """
    if not 0 < iou_threshold <= 1:
        raise UserError(f"iou_threshold is {iou_threshold}: give a value above 0 and up to 1")
    unknown = sorted(set(detections) - set(range(1, len(class_names) + 1)))
    if unknown:
        raise UserError(f"detections of class ids {unknown}, but there are {len(class_names)} class names")
    image_index = _index_images(ground_truth)
    truth = group_by_class(ground_truth, class_names)
    classes, seen = {}, _Seen()
    for class_id, name in enumerate(class_names, start=1):
        found = detections.get(class_id)
        seen.add(found)
        classes[name] = _score_class(by_falling_score(found, image_index), truth[name], iou_threshold, use_07_metric)
    warnings = _ground_truth_warnings(ground_truth, class_names) + seen.warnings(image_index)
    mean_ap = _mean_ap(classes, len(ground_truth), warnings)
    return EvaluationResult(classes, mean_ap, iou_threshold, use_07_metric, tuple(warnings))


def _mean_ap(classes: Mapping[str, ClassResult], num_images: int, warnings: Sequence[str]) -> float:
    scores = [result.ap for result in classes.values() if result.ap is not None]
    if not scores:
        hint = " ".join(warnings) or "Check the image set."
        raise UserError(
            f"the {num_images} annotations have no ground truth of the {len(classes)} classes "
            f"({', '.join(classes)}). {hint}"
        )
    return sum(scores) / len(scores)


def _index_images(ground_truth: Sequence[Annotation]) -> dict[str, int]:
    image_index = {annotation.image_id: index for index, annotation in enumerate(ground_truth)}
    if len(image_index) < len(ground_truth):
        counts = Counter(annotation.image_id for annotation in ground_truth)
        raise UserError(f"image {counts.most_common(1)[0][0]!r} is annotated twice: give every image once")
    return image_index


def _score_class(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], truth: ClassTruth, iou_threshold: float, use_07_metric: bool
) -> ClassResult:
    boxes, images, _ = found
    matches = match_detections(boxes, images, truth, iou_threshold)
    ignored = np.zeros(len(matches), dtype=bool)
    ignored[matches >= 0] = truth.difficult[matches[matches >= 0]]
    true_positive = first_of_each(matches) & ~ignored
    positives = int(np.sum(~truth.difficult))
    points = precision_at(true_positive[~ignored], positives, _ELEVEN)
    average = eleven_point_average if use_07_metric else area_under_curve
    return ClassResult(
        ap=average(true_positive[~ignored], positives) if positives else None,
        ground_truth=positives,
        difficult=len(truth.difficult) - positives,
        detections=len(boxes),
        true_positives=int(true_positive.sum()),
        ignored=int(ignored.sum()),
        precision_at_recall=tuple(points.tolist()) if positives else None,
    )


def _envelope(true_positive: np.ndarray) -> np.ndarray:
    """Return, for each true positive [TP], the best precision at its recall or a higher one."""
    precision = np.arange(1, true_positive.sum() + 1) / (np.flatnonzero(true_positive) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def precision_at(true_positive: np.ndarray, positives: int, recalls: np.ndarray) -> np.ndarray:
    """Return the best precision at a recall of at least each of `recalls`; 0 for one that is not reached.

    `true_positive` is bool [D], in order of falling score, without ignored detections; `positives` counts the objects.
    """
    envelope = _envelope(true_positive)
    recall = np.arange(1, len(envelope) + 1) / max(positives, 1)
    return np.append(envelope, 0.0)[np.searchsorted(recall, recalls)]


def eleven_point_average(true_positive: np.ndarray, positives: int) -> float:
    """Return VOC2007's average precision: the mean of the precision at 11 recalls, as `precision_at` gives it."""
    return float(precision_at(true_positive, positives, _ELEVEN).sum() / 11)


def area_under_curve(true_positive: np.ndarray, positives: int) -> float:
    """Return the area under the envelope; each true positive adds 1 / positives to the recall."""
    # summing before dividing makes a perfect score exactly 1
    return float(_envelope(true_positive).sum() / max(positives, 1))


def _ground_truth_warnings(ground_truth: Sequence[Annotation], class_names: Sequence[str]) -> list[str]:
    known = frozenset(class_names)
    items = [(annotation, item) for annotation in ground_truth for item in annotation.objects]
    warnings = []
    without_area = [annotation.image_id for annotation, item in items if not has_area(item.box_yxyx_px)]
    if without_area:
        warnings.append(
            f"{len(without_area)} objects without area are left out, the first in image {without_area[0]!r}."
        )
    unknown = Counter(item.name for _, item in items if item.name not in known)
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(20))
        warnings.append(f"{unknown.total()} objects of classes that are not in the labels are left out: {listed}.")
    return warnings


@dataclass
class _Seen:
    """Numbers of detections by image, and the largest coordinate of a box, updated class by class."""

    counts: Counter[str] = field(default_factory=Counter)
    largest: float = -math.inf

    def add(self, found: voc_results.Detections | None) -> None:
        if found is not None and len(found):
            self.counts.update(found.image_ids.tolist())
            self.largest = max(self.largest, float(found.boxes_yxyx_px.max()))

    def warnings(self, image_index: Mapping[str, int]) -> list[str]:
        if not self.counts:
            return ["There is no detection at all: every class scores 0."]
        outside = {image_id: count for image_id, count in self.counts.items() if image_id not in image_index}
        if len(outside) == len(self.counts):
            raise UserError(
                f"none of the {self.counts.total()} detections is in one of the {len(image_index)} images to score "
                f"(the first is in {next(iter(outside))!r}): the results are of another split or image set"
            )
        warnings = []
        if outside:
            warnings.append(
                f"{sum(outside.values())} detections are left out: their {len(outside)} images, "
                f"such as {next(iter(outside))!r}, are not in the image set."
            )
        if self.largest <= 2:
            reach = f"No box reaches beyond pixel {self.largest:g}"
            warnings.append(f"{reach}: are they fractions of the image, not pixels?")
        return warnings


def format_report(result: EvaluationResult) -> list[str]:
    """Return the lines `AP for {name} = {ap:.4f}` for each class and `Mean AP = {map:.4f}`."""
    lines = [
        f"AP for {name} = " + ("n/a (no ground truth)" if score.ap is None else f"{score.ap:.4f}")
        for name, score in result.classes.items()
    ]
    return [*lines, f"Mean AP = {result.mean_ap:.4f}"]

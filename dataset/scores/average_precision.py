"""Average precision of detections by the rules of the PASCAL VOC devkit (VOCevaldet.m)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataset.scores.detection_store import NO_DETECTIONS, ClassDetections
from dataset.sources.annotations import Annotation
from utility.errors import UserError
from utility.files.text_files import shortened

# arange gives .30000000000000004, which a recall of 3 / 10 does not reach; published figures have this error too
ELEVEN_RECALLS = np.arange(0.0, 1.1, 0.1)
_BLOCK = 8192  # detections compared at once; bounds the memory for images with many objects


@dataclass(frozen=True)
class Truth:
    """The objects [G] with area of all classes, sorted by image, then by class.

    `boxes_yxyx_px` float64 [G, 4], `class_ids` int64 [G] from 1, `images` int64 [G] the places of their annotations,
    `difficult` bool [G]. A side of a box is max - min + `pixel_extent` long.
    """

    boxes_yxyx_px: np.ndarray
    class_ids: np.ndarray
    images: np.ndarray
    difficult: np.ndarray
    pixel_extent: float


@dataclass(frozen=True)
class ClassResult:
    """The average precision of a class, and its detections [D] in annotated images, in order of falling score.

    `ap` is None without ground truth, which `ground_truth` counts without the `difficult` objects. `images` int32 are
    places of annotations. `own` int32 is the object of the class with the highest IoU in the image, -1 without one, and
    `own_iou` that IoU. The first match of an object is a `true_positive`, matches of difficult objects are `ignored`,
    and all others are false positives.
    """

    class_id: int
    ap: float | None
    ground_truth: int
    difficult: int
    scores: np.ndarray
    images: np.ndarray
    boxes_yxyx_px: np.ndarray
    own: np.ndarray
    own_iou: np.ndarray
    true_positive: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class EvaluationResult:
    """Scores by class name, in the order of class ids, and their mean over the classes with ground truth.

    `warnings` name possible causes of a low score; `truth` has the objects of all classes.
    """

    classes: dict[str, ClassResult]
    mean_ap: float
    iou_threshold: float
    use_07_metric: bool
    warnings: tuple[str, ...]
    truth: Truth


def evaluate(
    detections: Mapping[int, ClassDetections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
    use_07_metric: bool = True,
    pixel_extent: float = 1.0,
) -> EvaluationResult:
    """Score detections against annotations as the PASCAL VOC devkit does (VOCevaldet.m).

    In order of descending score, each detection is matched to the ground truth of its class and image with the highest
    IoU. At an IoU of at least `iou_threshold`, the first match of an object is a true positive; a match of a difficult
    object is ignored; all else is a false positive. A class without detections scores 0, one without ground truth has
    no score. Ground truth without area and detections in unannotated images are left out, with a warning.

    Args:
        detections: by class id, from 1; each class is asked for once.
        ground_truth: one annotation for each image of the image set.
        class_names: the name at index i has class id i + 1.
        iou_threshold: in (0, 1].
        use_07_metric: 11-point interpolation (VOC2007) instead of the area under the curve (VOC2010 and later).
        pixel_extent: by how much a side is longer than max - min: 1 where corners are inclusive pixels, as in VOC, 0
            where they are edges, as in COCO.

    A UserError for a bad threshold, a class id without a name, no ground truth of any class, an image annotated twice,
    or no detection in an annotated image.
    """
    if not 0 < iou_threshold <= 1:
        raise UserError(f"iou_threshold is {iou_threshold}: give a value above 0 and up to 1")
    unknown = sorted(set(detections) - set(range(1, len(class_names) + 1)))
    if unknown:
        raise UserError(f"detections of class ids {unknown}, but there are {len(class_names)} class names")
    image_index = {annotation.image_id: index for index, annotation in enumerate(ground_truth)}
    if len(image_index) < len(ground_truth):
        [(repeated, _)] = Counter(annotation.image_id for annotation in ground_truth).most_common(1)
        raise UserError(f"image {repeated!r} is annotated twice: give every image once")
    truth, warnings = _tabulated(ground_truth, class_names, pixel_extent)
    average = eleven_point_average if use_07_metric else area_under_curve
    classes: dict[str, ClassResult] = {}
    detections_in: Counter[str] = Counter()  # by image id
    largest = -math.inf  # coordinate
    for class_id, name in enumerate(class_names, start=1):
        found = detections.get(class_id, NO_DETECTIONS)
        detections_in.update(found.image_ids.tolist())
        largest = max(largest, found.boxes_yxyx_px.max(initial=-math.inf))
        images = np.array([image_index.get(image_id, -1) for image_id in found.image_ids], dtype=np.int32)
        order = np.argsort(-found.scores, kind="stable")
        order = order[images[order] >= 0]
        scores, boxes, images = found.scores[order], found.boxes_yxyx_px[order], images[order]
        of_class = truth.class_ids == class_id
        own, own_iou = best_overlaps(boxes, images, truth, of_class)
        matching = np.flatnonzero(own_iou >= iou_threshold)
        _, first = np.unique(own[matching], return_index=True)
        true_positive, ignored = np.zeros((2, len(order)), dtype=bool)
        ignored[matching] = truth.difficult[own[matching]]
        true_positive[matching[first]] = ~ignored[matching[first]]
        positives, difficult = (int(np.sum(of_class & kind)) for kind in (~truth.difficult, truth.difficult))
        ap = average(true_positive[~ignored], positives) if positives else None
        matches = (scores, images, boxes, own, own_iou, true_positive, ignored)
        classes[name] = ClassResult(class_id, ap, positives, difficult, *matches)
    if not detections_in:
        warnings.append("There is no detection at all: every class scores 0.")
    outside = {image_id: count for image_id, count in detections_in.items() if image_id not in image_index}
    if outside:
        first_outside = shortened(next(iter(outside)))
        if len(outside) == len(detections_in):
            raise UserError(
                f"none of the {detections_in.total()} detections is in one of the {len(image_index)} images to score "
                f"(the first is in '{first_outside}'): the results are of another split or image set"
            )
        warnings.append(
            f"{sum(outside.values())} detections are left out: their {len(outside)} images, such as '{first_outside}',"
            " are not in the image set."
        )
    if -math.inf < largest <= 2:
        warnings.append(f"No box reaches beyond pixel {largest:g}: are they fractions of the image, not pixels?")
    aps = [result.ap for result in classes.values() if result.ap is not None]
    if not aps:
        raise UserError(
            f"the {len(ground_truth)} annotations have no ground truth of the {len(classes)} classes "
            f"({', '.join(classes)}). {' '.join(warnings) or 'Check the image set.'}"
        )
    return EvaluationResult(classes, sum(aps) / len(aps), iou_threshold, use_07_metric, tuple(warnings), truth)


def format_report(result: EvaluationResult) -> list[str]:
    """Return the lines `AP for {name} = {ap:.4f}` for each class and `Mean AP = {map:.4f}`."""
    lines = [
        f"AP for {name} = " + ("n/a (no ground truth)" if score.ap is None else f"{score.ap:.4f}")
        for name, score in result.classes.items()
    ]
    return [*lines, f"Mean AP = {result.mean_ap:.4f}"]


def _tabulated(
    ground_truth: Sequence[Annotation], class_names: Sequence[str], pixel_extent: float
) -> tuple[Truth, list[str]]:
    """Return the objects to find, and warnings about those that are left out."""
    class_ids = {name: class_id for class_id, name in enumerate(class_names, start=1)}
    rows, without_area = [], []
    for image, annotation in enumerate(ground_truth):
        for item in annotation.objects:
            ymin, xmin, ymax, xmax = item.box_yxyx_px
            if not (ymax > ymin and xmax > xmin):
                without_area.append(annotation.image_id)
            elif item.name in class_ids:
                rows.append((*item.box_yxyx_px, class_ids[item.name], image, item.difficult))
    warnings = []
    if without_area:
        warnings.append(
            f"{len(without_area)} objects without area are left out, the first in image {without_area[0]!r}."
        )
    names = Counter(item.name for annotation in ground_truth for item in annotation.objects)
    unknown = Counter({name: count for name, count in names.items() if name not in class_ids})
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(20))
        warnings.append(f"{unknown.total()} objects of classes that are not in the labels are left out: {listed}.")
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    table = table[np.lexsort((table[:, 4], table[:, 5]))]
    class_ids, images = table[:, 4].astype(np.int64), table[:, 5].astype(np.int64)
    return Truth(table[:, :4], class_ids, images, table[:, 6] > 0, pixel_extent), warnings


def best_overlaps(
    boxes_yxyx_px: np.ndarray, images: np.ndarray, truth: Truth, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each detection [D], the object of its image with the highest IoU, int32 [D], and the IoU [D].

    Only objects `among` bool [G] count; without one in the image these are -1 and 0. Each detection is compared with
    all of them: these pairs are rows of flat arrays, the pairs of one detection next to each other.
    """
    rows = np.flatnonzero(among)
    best, best_iou = np.full(len(boxes_yxyx_px), -1, dtype=np.int32), np.zeros(len(boxes_yxyx_px))
    first = np.searchsorted(truth.images[rows], images, side="left")
    counts = np.searchsorted(truth.images[rows], images, side="right") - first
    compared = np.flatnonzero(counts)
    for start in range(0, len(compared), _BLOCK):
        block = compared[start : start + _BLOCK]
        starts = np.cumsum(counts[block]) - counts[block]
        owner = np.repeat(np.arange(len(block)), counts[block])
        candidate = rows[first[block][owner] + np.arange(len(owner)) - starts[owner]]
        overlap = iou(boxes_yxyx_px[block][owner], truth.boxes_yxyx_px[candidate], truth.pixel_extent)
        best_iou[block] = np.maximum.reduceat(overlap, starts)
        # of equal IoUs the first object wins, as in the devkit
        winners = np.flatnonzero(overlap == best_iou[block][owner])
        _, first_winner = np.unique(owner[winners], return_index=True)
        best[block] = candidate[winners[first_winner]]
    return best, best_iou


def iou(a_yxyx: np.ndarray, b_yxyx: np.ndarray, pixel_extent: float) -> np.ndarray:
    """Return the IoU [...] of boxes a [..., 4] with boxes b [..., 4] that have an area, elementwise.

    A side is max - min + `pixel_extent` long.
    """
    low, high = np.maximum(a_yxyx[..., :2], b_yxyx[..., :2]), np.minimum(a_yxyx[..., 2:], b_yxyx[..., 2:])
    overlap = area(np.concatenate([low, high], axis=-1), pixel_extent)
    return overlap / (area(a_yxyx, pixel_extent) + area(b_yxyx, pixel_extent) - overlap)


def area(boxes_yxyx: np.ndarray, pixel_extent: float) -> np.ndarray:
    """Return the area [...] of boxes [..., 4]; 0 for an inverted box."""
    sides = np.maximum(boxes_yxyx[..., 2:] - boxes_yxyx[..., :2] + pixel_extent, 0)
    return sides[..., 0] * sides[..., 1]


def _envelope(true_positive: np.ndarray) -> np.ndarray:
    """Return, for each true positive, the best precision at its recall or a higher one."""
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
    return float(precision_at(true_positive, positives, ELEVEN_RECALLS).sum() / 11)


def area_under_curve(true_positive: np.ndarray, positives: int) -> float:
    """Return the area under the envelope; each true positive adds 1 / positives to the recall."""
    # summing before dividing makes a perfect score exactly 1
    return float(_envelope(true_positive).sum() / max(positives, 1))

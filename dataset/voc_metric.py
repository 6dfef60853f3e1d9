"""Average precision by the rules of the PASCAL VOC devkit: detections against annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataset import voc
from dataset.annotations import Annotation

_BLOCK = 8192  # detections compared at once: bounds the memory for images crowded with ground truth.


@dataclass(frozen=True)
class ClassResult:
    """The score of one class; `ap` and `precision_at_recall` are None when it has no ground truth to find.

    `ground_truth` counts the objects to be found, so without the `difficult` ones. Of the `detections`, some
    are true positives, some `ignored` because they found a difficult object, and the rest false positives.
    `precision_at_recall` holds the best precision, in [0, 1], at a recall of 0, .1, ..., 1 or more.
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
    """Scores by class name, in the order of the ids, and their mean over the classes with ground truth.

    `warnings` are sentences for the user about what may explain a low score.
    """

    classes: dict[str, ClassResult]
    mean_ap: float
    iou_threshold: float
    use_07_metric: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Truth:
    """The ground truth of one class, sorted by image: boxes [G, 4], difficult [G], indices of images [G]."""

    boxes: np.ndarray
    difficult: np.ndarray
    images: np.ndarray


def evaluate(
    detections: Mapping[int, voc.Detections],
    ground_truth: Sequence[Annotation],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
    use_07_metric: bool = True,
) -> EvaluationResult:
    """Score detections against annotations as the PASCAL VOC devkit does (VOCevaldet.m).

    In order of falling score (ties in the order given) each detection goes to the ground truth of its class
    and image that it overlaps most, in inclusive pixels. With an IoU of `iou_threshold` or more, the first to
    reach a ground truth is a true positive; every other detection is a false positive. One on a difficult
    object counts as neither. A class without detections scores 0; one without ground truth has no score.

    Beyond the devkit: ground truth without area, which the converter drops too, and detections in images
    that have no annotation here are left out, with a warning.

    Args:
        detections: by class id, from 1; a class may be missing. Boxes in pixels, 1-based and inclusive.
        ground_truth: one annotation for every image that was looked at.
        class_names: the name at index i has class id i + 1.
        iou_threshold: in (0, 1].
        use_07_metric: 11-point interpolation (VOC2007) instead of the area under the curve (VOC2010 and on).

    Raises:
        ValueError: a threshold outside of (0, 1], a class id without a name, no ground truth of any class,
            an image annotated twice, or detections of which none is in an annotated image.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold is {iou_threshold}: give a value above 0 and up to 1")
    unknown = sorted(set(detections) - set(range(1, len(class_names) + 1)))
    if unknown:
        raise ValueError(f"detections of class ids {unknown}, but there are {len(class_names)} class names")
    image_index = _index_images(ground_truth)
    truth = _group_by_class(ground_truth, class_names)
    warnings = _doubts_about_truth(ground_truth, class_names) + _doubts_about_detections(detections, image_index)
    classes = {
        name: _score_class(
            *_best_first(detections.get(class_id), image_index), truth[name], iou_threshold, use_07_metric
        )
        for class_id, name in enumerate(class_names, start=1)
    }
    scores = [result.ap for result in classes.values() if result.ap is not None]
    if not scores:
        hint = " ".join(warnings) or "Check the image set."
        raise ValueError(
            f"the {len(ground_truth)} annotations hold nothing to find of the {len(classes)} classes "
            f"({', '.join(class_names)}). {hint}"
        )
    return EvaluationResult(classes, sum(scores) / len(scores), iou_threshold, use_07_metric, tuple(warnings))


def _index_images(ground_truth: Sequence[Annotation]) -> dict[str, int]:
    image_index = {annotation.image_id: index for index, annotation in enumerate(ground_truth)}
    if len(image_index) < len(ground_truth):
        counts = Counter(annotation.image_id for annotation in ground_truth)
        raise ValueError(f"image {counts.most_common(1)[0][0]!r} is annotated twice: give every image once")
    return image_index


def _has_area(box_yxyx_px: tuple[float, float, float, float]) -> bool:
    ymin, xmin, ymax, xmax = box_yxyx_px
    return ymax > ymin and xmax > xmin


def _group_by_class(ground_truth: Sequence[Annotation], class_names: Sequence[str]) -> dict[str, _Truth]:
    rows: dict[str, list[tuple]] = {name: [] for name in class_names}
    for image, annotation in enumerate(ground_truth):
        for item in annotation.objects:
            if item.name in rows and _has_area(item.box_yxyx_px):
                rows[item.name].append((*item.box_yxyx_px, item.difficult, image))
    tables = {name: np.array(found, dtype=np.float64).reshape(-1, 6) for name, found in rows.items()}
    return {
        name: _Truth(table[:, :4], table[:, 4].astype(bool), table[:, 5].astype(np.int64))
        for name, table in tables.items()
    }


def _best_first(found: voc.Detections | None, image_index: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [D, 4] and indices of images [D] in order of falling score, of known images only."""
    if found is None:
        return np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
    images = np.array([image_index.get(image_id, -1) for image_id in found.image_ids.tolist()], dtype=np.int64)
    order = np.argsort(-found.scores, kind="stable")
    order = order[images[order] >= 0]
    return found.boxes_yxyx_px[order], images[order]


def _score_class(
    boxes: np.ndarray, images: np.ndarray, truth: _Truth, iou_threshold: float, use_07_metric: bool
) -> ClassResult:
    matches = _match(boxes, images, truth, iou_threshold)
    ignored = np.zeros(len(matches), dtype=bool)
    ignored[matches >= 0] = truth.difficult[matches[matches >= 0]]
    true_positive = _first_of_each(matches) & ~ignored
    to_find = int(np.sum(~truth.difficult))
    points = _eleven_points(true_positive[~ignored], to_find)
    ap = float(points.sum() / 11) if use_07_metric else _area(true_positive[~ignored], to_find)
    return ClassResult(
        ap=ap if to_find else None,
        ground_truth=to_find,
        difficult=len(truth.difficult) - to_find,
        detections=len(boxes),
        true_positives=int(true_positive.sum()),
        ignored=int(ignored.sum()),
        precision_at_recall=tuple(points.tolist()) if to_find else None,
    )


def _match(boxes: np.ndarray, images: np.ndarray, truth: _Truth, iou_threshold: float) -> np.ndarray:
    """Return for each detection [D] the index of the ground truth that it finds, or -1.

    No loop runs over detections or images: every detection meets all the ground truth of its image and no
    other, and these pairs are laid out flat, those of one detection side by side.
    """
    matches = np.full(len(boxes), -1, dtype=np.int64)
    first = np.searchsorted(truth.images, images, side="left")
    counts = np.searchsorted(truth.images, images, side="right") - first
    with_truth = np.flatnonzero(counts)
    for start in range(0, len(with_truth), _BLOCK):
        block = with_truth[start : start + _BLOCK]
        best, iou = _best_of_image(boxes[block], first[block], counts[block], truth.boxes)
        matches[block] = np.where(iou >= iou_threshold, best, -1)
    return matches


def _best_of_image(
    boxes: np.ndarray, first: np.ndarray, counts: np.ndarray, truth_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ground truth that each detection [D] overlaps most, and the IoU.

    A detection's candidates are the `counts` (> 0) rows of `truth_boxes` from `first` on.
    """
    starts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(boxes)), counts)
    candidate = first[owner] + np.arange(len(owner)) - starts[owner]
    iou = _iou_inclusive(boxes[owner], truth_boxes[candidate])
    best_iou = np.maximum.reduceat(iou, starts)
    # Of equal overlaps the first ground truth wins, as in the devkit's loop.
    winners = np.flatnonzero(iou == best_iou[owner])
    _, first_winner = np.unique(owner[winners], return_index=True)
    return candidate[winners[first_winner]], best_iou


def _iou_inclusive(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Return the IoU [P] of pairs of boxes [P, 4] whose ends are both inside: a side is max - min + 1 pixels.

    An inverted box has no pixel and overlaps nothing.
    """
    corners_min = np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    corners_max = np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    overlap = _area_px(corners_min, corners_max)
    areas = _area_px(boxes_a[:, :2], boxes_a[:, 2:]) + _area_px(boxes_b[:, :2], boxes_b[:, 2:])
    return overlap / (areas - overlap)  # Ground truth has area, so this never divides by zero.


def _area_px(corners_min: np.ndarray, corners_max: np.ndarray) -> np.ndarray:
    sides = np.maximum(corners_max - corners_min + 1, 0)
    return sides[:, 0] * sides[:, 1]


def _first_of_each(matches: np.ndarray) -> np.ndarray:
    """Mark [D] the first detection of each ground truth."""
    marks = np.zeros(len(matches), dtype=bool)
    matched = np.flatnonzero(matches >= 0)
    marks[matched[np.unique(matches[matched], return_index=True)[1]]] = True
    return marks


def _envelope(true_positive: np.ndarray) -> np.ndarray:
    """Return for each true positive [TP] the best precision at its recall or any higher one."""
    precision = np.arange(1, true_positive.sum() + 1) / (np.flatnonzero(true_positive) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(true_positive: np.ndarray, to_find: int) -> np.ndarray:
    """Return the interpolated precision [11] at a recall of 0, .1, ..., 1; 0 where that is not reached."""
    envelope = _envelope(true_positive)
    recall = np.arange(1, len(envelope) + 1) / max(to_find, 1)
    # arange's .30000000000000004 is above 3 of 10: so it is in the Python code behind the published figures.
    return np.append(envelope, 0.0)[np.searchsorted(recall, np.arange(0.0, 1.1, 0.1))]


def _area(true_positive: np.ndarray, to_find: int) -> float:
    """Return the area under the envelope, to which each true positive adds a recall of 1 / to_find."""
    # Summing before dividing makes a perfect score exactly 1.
    return float(_envelope(true_positive).sum() / max(to_find, 1))


def _doubts_about_truth(ground_truth: Sequence[Annotation], class_names: Sequence[str]) -> list[str]:
    known = frozenset(class_names)
    items = [(annotation, item) for annotation in ground_truth for item in annotation.objects]
    warnings = []
    flat = [annotation.image_id for annotation, item in items if not _has_area(item.box_yxyx_px)]
    if flat:
        warnings.append(f"{len(flat)} objects without area are left out, the first in image {flat[0]!r}.")
    unknown = Counter(item.name for _, item in items if item.name not in known)
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(20))
        warnings.append(f"{unknown.total()} objects of classes that are not in the labels are left out: {listed}.")
    return warnings


def _doubts_about_detections(detections: Mapping[int, voc.Detections], image_index: Mapping[str, int]) -> list[str]:
    counts: Counter[str] = Counter()
    for found in detections.values():
        counts.update(found.image_ids.tolist())
    if not counts:
        return ["There is no detection at all: every class scores 0."]
    strangers = {image_id: count for image_id, count in counts.items() if image_id not in image_index}
    if len(strangers) == len(counts):
        raise ValueError(
            f"none of the {counts.total()} detections is in one of the {len(image_index)} images to score "
            f"(the first is in {next(iter(counts))!r}): the results are of another split or image set"
        )
    warnings = []
    if strangers:
        warnings.append(
            f"{sum(strangers.values())} detections are left out, for their {len(strangers)} images, "
            f"such as {next(iter(strangers))!r}, are not in the image set."
        )
    furthest = max(found.boxes_yxyx_px.max() for found in detections.values() if len(found))
    if furthest <= 2:
        warnings.append(f"No box reaches beyond pixel {furthest:g}: are they fractions of the image, not pixels?")
    return warnings


def format_report(result: EvaluationResult) -> list[str]:
    """Return the reference's lines, `AP for {name} = {ap:.4f}` for each class and `Mean AP = {map:.4f}`."""
    lines = [
        f"AP for {name} = " + ("n/a (no ground truth)" if score.ap is None else f"{score.ap:.4f}")
        for name, score in result.classes.items()
    ]
    return [*lines, f"Mean AP = {result.mean_ap:.4f}"]

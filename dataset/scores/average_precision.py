"""Average precision by the rules of the PASCAL VOC devkit: detections against annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataset.scores import voc_results
from dataset.scores.detection_matching import (
    ClassTruth,
    by_falling_score,
    first_of_each,
    group_by_class,
    has_area,
    match_detections,
)
from dataset.sources.annotations import Annotation


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


def evaluate(
    detections: Mapping[int, voc_results.Detections],
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
    truth = group_by_class(ground_truth, class_names)
    warnings = _doubts_about_truth(ground_truth, class_names) + _doubts_about_detections(detections, image_index)
    classes = {
        name: _score_class(
            *by_falling_score(detections.get(class_id), image_index), truth[name], iou_threshold, use_07_metric
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


def _score_class(
    boxes: np.ndarray, images: np.ndarray, truth: ClassTruth, iou_threshold: float, use_07_metric: bool
) -> ClassResult:
    matches = match_detections(boxes, images, truth, iou_threshold)
    ignored = np.zeros(len(matches), dtype=bool)
    ignored[matches >= 0] = truth.difficult[matches[matches >= 0]]
    true_positive = first_of_each(matches) & ~ignored
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
    flat = [annotation.image_id for annotation, item in items if not has_area(item.box_yxyx_px)]
    if flat:
        warnings.append(f"{len(flat)} objects without area are left out, the first in image {flat[0]!r}.")
    unknown = Counter(item.name for _, item in items if item.name not in known)
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(20))
        warnings.append(f"{unknown.total()} objects of classes that are not in the labels are left out: {listed}.")
    return warnings


def _doubts_about_detections(
    detections: Mapping[int, voc_results.Detections], image_index: Mapping[str, int]
) -> list[str]:
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

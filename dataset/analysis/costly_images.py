"""The images whose errors cost most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.analysis.error_costs import missed_objects
from dataset.analysis.judging import KINDS, MISSED, NO_ERROR, ClassFindings, Judged
from dataset.sources.annotations import Annotation

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

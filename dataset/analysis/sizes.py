"""Average precision by the size of the objects, in COCO's groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dataset.analysis.error_costs import Average
from dataset.analysis.judging import ClassFindings, Judged
from dataset.scores.detection_matching import area_px

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

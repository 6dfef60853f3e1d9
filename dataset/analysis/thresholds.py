"""F1 over the score, and the score at which it is highest: what a user asks --select_threshold for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataset.analysis.judging import ClassFindings, Judged

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

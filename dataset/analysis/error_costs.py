"""The average precision that each kind of error costs, as TIDE counts it (arXiv 2008.08115, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dataset.analysis.judging import CLASSIFICATION, KINDS, LOCALISATION, MISSED, ClassFindings, Judged

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

"""The confusion matrix of a detector, with background."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataset.analysis.judging import ClassFindings, Judged


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

"""The metric in plain Python, loop by loop as in the PASCAL VOC devkit."""

import itertools
import math

import numpy as np


def slow_iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0]) + 1
    width = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if height <= 0 or width <= 0:
        return 0.0
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return height * width / (area[0] + area[1] - height * width)


def slow_ap(found, annotations, name, iou_threshold, use_07_metric):
    """VOCevaldet.m and VOCap.m in plain Python: (average precision, true positives, ignored)."""
    truth = {a.image_id: [item for item in a.objects if item.name == name] for a in annotations}
    to_find = sum(not item.difficult for items in truth.values() for item in items)
    rows = sorted(zip(found.image_ids, found.scores, found.boxes_yxyx_px, strict=True), key=lambda row: -row[1])
    taken, outcomes, ignored = set(), [], 0
    for image_id, _, box in rows:
        best, best_iou = -1, -math.inf
        for index, item in enumerate(truth[image_id]):
            if (iou := slow_iou(box, item.box_yxyx_px)) > best_iou:
                best, best_iou = index, iou
        if best_iou < iou_threshold:
            outcomes.append(0)
        elif truth[image_id][best].difficult:
            ignored += 1
        else:
            outcomes.append(int((image_id, best) not in taken))
            taken.add((image_id, best))
    hits = [sum(outcomes[: i + 1]) for i in range(len(outcomes))]
    recall = [hit / to_find for hit in hits] if to_find else []
    precision = [hit / (i + 1) for i, hit in enumerate(hits)]
    return slow_curve(recall, precision, use_07_metric) if to_find else None, sum(outcomes), ignored


def slow_curve(recall, precision, use_07_metric):
    def best(at_least):
        return max((p for r, p in zip(recall, precision, strict=True) if r >= at_least), default=0.0)

    if use_07_metric:
        return sum(best(threshold) for threshold in np.arange(0.0, 1.1, 0.1)) / 11
    steps = [0.0, *recall]
    return sum((after - before) * best(after) for before, after in itertools.pairwise(steps))

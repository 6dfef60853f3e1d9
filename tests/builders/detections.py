"""Annotations and detections of made-up boxes, and the ground truth as detections."""

from pathlib import Path

import numpy as np

from dataset.scores.detection_store import ClassDetections
from dataset.sources.annotations import Annotation, LabelledObject


def annotate(image_id, *objects):
    """An annotation; objects are (name, box) or (name, box, difficult)."""
    items = tuple(LabelledObject(name, box, any(mark), False) for name, box, *mark in objects)
    return Annotation(image_id, Path(f"{image_id}.xml"), 100, 100, items)


def detect(*rows):
    """Detections of one class; rows are (image_id, score, box)."""
    return ClassDetections(*(np.array([row[column] for row in rows]) for column in range(3)))


def detect_everything(annotations, class_names):
    """The ground truth as detections, as they come from records: float32 fractions times the image's size.

    A record holds no object without area.
    """
    rows: dict[str, list] = {name: [] for name in class_names}
    for annotation in annotations:
        size = np.array([annotation.height, annotation.width] * 2, dtype=np.float32)
        for item in annotation.objects:
            ymin, xmin, ymax, xmax = item.box_yxyx_px
            if ymax > ymin and xmax > xmin:
                box = (np.array(item.box_yxyx_px) / size).astype(np.float32) * size
                rows[item.name].append((annotation.image_id, 1.0, box))
    return {class_id: detect(*rows[name]) for class_id, name in enumerate(class_names, start=1)}

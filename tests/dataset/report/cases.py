"""A random case of boxes in 12 images, as large as a reader of `tidecv`'s numbers needs it."""

import numpy as np

from tests.builders.detections import annotate, detect

NAMES = ("cat", "dog", "cow")


def random_case(images=12):
    """Annotations, and detections by class id: copies of objects, moved, of other classes or doubled, and others.

    Objects of an image are in cells of a grid, so that a detection has one object of its class to match at most, and
    the devkit's matching is that of COCO and tidecv.
    """
    rng = np.random.default_rng(7)
    annotations = []
    rows: dict[int, list[tuple]] = {1: [], 2: [], 3: []}
    for image_id in (f"im{number}" for number in range(images)):
        cells = rng.permutation(9)[: rng.integers(1, 6)]
        objects = [(int(rng.integers(1, 4)), _box_in(int(cell), rng)) for cell in cells]
        annotations.append(annotate(image_id, *((NAMES[class_id - 1], box) for class_id, box in objects)))
        for class_id, box in objects:
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box, float) + rng.integers(-14, 15, 4)
                own = class_id if rng.random() < 0.7 else int(rng.integers(1, 4))
                rows[own].append((image_id, _score(rows, rng), moved))
        for _ in range(2):
            rows[int(rng.integers(1, 4))].append(
                (image_id, _score(rows, rng), np.array(_box_in(int(rng.integers(9)), rng), float))
            )
    return annotations, {i: detect(*found) for i, found in rows.items()}


def _box_in(cell, rng):
    top, left = 100 * (cell // 3) + 1, 100 * (cell % 3) + 1
    height, width = rng.integers(30, 80, 2).tolist()
    return (top, left, top + height, left + width)


def _score(rows, rng):
    """A score that no other detection has, so that their order is one."""
    taken = sum(map(len, rows.values()))
    return round(float(rng.random()), 3) * 0.9 + taken * 1e-5

"""Boxes in another format than the annotation's are recognised, and genuine ones are not."""

from pathlib import Path

import numpy as np
import pytest

from dataset.sources import coco, plausibility, voc
from dataset.sources.annotations import Annotation, LabelledObject, Source


def annotation(*boxes_yxyx, height=100, width=200):
    objects = tuple(LabelledObject("cat", box, False, False) for box in boxes_yxyx)
    return Annotation("a", Path("a.xml"), height, width, objects)


def sources(*annotations):
    return [Source(f"{number}.xml", each, Path("a.jpg")) for number, each in enumerate(annotations, start=1)]


def test_fractions_are_refused():
    inside = annotation((0.1, 0.2, 0.5, 0.6))
    whole = annotation((0, 0, 1, 1))
    message = r"^2\.xml: the box xmin 0\.2 ymin 0\.1 xmax 0\.6 ymax 0\.5 \(cat\) looks like fractions .* 2 of 3 images"
    with pytest.raises(ValueError, match=message):
        plausibility.refuse_fractions(sources(whole, inside, annotation(), annotation((5, 5, 9, 9))))


@pytest.mark.parametrize(
    "annotations",
    [
        [],
        [annotation()],
        [annotation((0, 0, 1, 1)), annotation((1, 1, 1, 1))],  # a box of one pixel
        [annotation((0.2, 0.2, 0.9, 0.9)), annotation((5, 5, 9, 9)), annotation((2, 2, 3, 3))],  # and one of less
        [annotation((0.2, 0.2, 0.9, 0.9), (5, 5, 9, 9))],
        [annotation((-0.1, 0.2, 0.9, 0.9))],
    ],
)
def test_pixels_are_not_taken_for_fractions(annotations):
    plausibility.refuse_fractions(sources(*annotations))


def read_as_sizes(corners_xyxy, **size):
    x1, y1, x2, y2 = corners_xyxy
    return annotation((y1, x1, y1 + y2, x1 + x2), **size)


def random_corners(number, seed=0):
    rng = np.random.default_rng(seed)
    return [(*np.minimum(a, b), *np.maximum(a, b)) for a, b in rng.uniform(0, (200, 100), (number, 2, 2))]


def test_corners_in_the_place_of_sizes_are_told():
    found = [read_as_sizes(corners) for corners in random_corners(50)]
    (remark,) = plausibility.corners_for_sizes("a.json", found)
    assert remark.startswith("a.json: the boxes look like x1, y1, x2, y2, but COCO's are x, y, width, height")
    assert "as corners 50 fit" in remark


def test_sizes_are_not_taken_for_corners():
    genuine = [annotation((y1, x1, y2, x2)) for x1, y1, x2, y2 in random_corners(50)]
    assert plausibility.corners_for_sizes("a.json", genuine) == ()
    assert plausibility.corners_for_sizes("a.json", []) == ()
    unsized = [read_as_sizes(corners, height=0, width=0) for corners in random_corners(50)]
    assert plausibility.corners_for_sizes("a.json", unsized) == ()


def test_genuine_data_sets_give_no_remark(coco_tiny, bccd):
    for split in ("train2017", "val2017"):
        path = coco_tiny / "annotations" / f"instances_{split}.json"
        assert coco.read_data_set(path, coco_tiny / split, None, None, skip_missing=False).remarks == ()
    flags = {flag.name: flag.default for flag in voc.FLAGS}
    assert voc.read({**flags, "dataset_directory": bccd, "labels_file": "auto"}, False).remarks == ()

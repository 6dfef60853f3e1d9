"""What looks wrong in a whole data set is said, and what is right is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset.sources import formats, plausibility, voc
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split


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


def test_boxes_far_beyond_their_image_are_told():
    inside = annotation((0, 0, 100, 200), (-4, -9, 104, 209))  # a little beyond is no wonder
    beyond = annotation((50, 50, 190, 90), (-90, 0, 50, 50))
    (remark,) = plausibility.boxes_far_beyond(sources(inside, beyond, beyond))
    assert remark.startswith("4 of 6 boxes reach far beyond their image, the first in 2.xml: xmin 50 ymin 50 xmax 90")
    assert "ymax 190 in 200x100 (cat); they will be clipped: look" in remark


def test_a_few_boxes_beyond_their_image_are_not_told():
    inside = annotation(*[(0, 0, 100, 200)] * 40)
    beyond = annotation((50, 50, 190, 90), (-90, 0, 50, 50))
    assert plausibility.boxes_far_beyond(sources(beyond)) == ()
    assert plausibility.boxes_far_beyond(sources(beyond, *[inside] * 5, beyond)) == ()
    unsized = annotation(*[(50, 50, 190, 90)] * 5, height=0, width=0)
    assert plausibility.boxes_far_beyond(sources(unsized)) == ()


def splits(tmp_path, **contents):
    """Splits of files with these contents, each called by the split and a number."""
    found = {}
    for prefix, files in contents.items():
        paths = [tmp_path / f"{prefix}{number}.jpg" for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        found[prefix] = Split("", {}, tuple(Source(path.name, annotation(), path) for path in paths), ())
    return found


def test_a_picture_in_training_and_validation_is_told(tmp_path):
    both = splits(tmp_path, train=[b"one", b"two", b"", b"three"], val=[b"abc", b"three", b"", b"two", b"two"])
    (remark,) = plausibility.pictures_in_both(both)
    assert remark.startswith("3 of 5 validation pictures are training pictures too, by their bytes, the first: ")
    assert f"{tmp_path / 'val1.jpg'} and {tmp_path / 'train3.jpg'}; the score would be too good" in remark
    (tmp_path / "val1.jpg").unlink()
    assert plausibility.pictures_in_both(both)[0].startswith("2 of 5")
    assert plausibility.pictures_in_both(splits(tmp_path, train=[b"one", b"two"], val=[b"six"])) == ()
    assert plausibility.pictures_in_both(splits(tmp_path, train=[b"one"])) == ()


def objects(*names, difficult=False):
    return replace(annotation(), objects=tuple(LabelledObject(name, (1, 1, 9, 9), difficult, False) for name in names))


def test_classes_without_objects_are_told():
    train = Split("", {}, tuple(sources(objects("ant", "bee", "cat"))), ())
    validation = Split("", {}, tuple(sources(objects("bee", "dog"), objects("cat", difficult=True))), ())
    data = DataSet(("ant", "bee", "cat", "dog", "eel"), {}, {TRAIN: train, VALIDATION: validation}, {})
    learnt, scored = plausibility.classes_without_objects(data)
    assert learnt.startswith("2 of 5 classes have no training object, so they cannot be learnt")
    assert learnt.endswith(": dog, eel")
    assert scored.startswith("2 of 5 classes have no validation object, so they have no score")
    assert scored.endswith(": ant, cat")
    assert plausibility.classes_without_objects(replace(data, splits={TRAIN: train})) == (learnt,)
    full = replace(data, class_names=("bee",))
    assert plausibility.classes_without_objects(full) == ()
    many = replace(data, class_names=tuple(f"c{number}" for number in range(50)))
    assert plausibility.classes_without_objects(many)[0].endswith("c19 and 30 more")


def test_genuine_data_sets_give_no_remark(coco_tiny, bccd, voc_sample):
    names = ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017")
    flags = ("annotations", "images", "validation_annotations", "validation_images")
    values = {flag: coco_tiny / name for flag, name in zip(flags, names, strict=True)}
    assert formats.read_data_set("coco", values, skip_bad_images=False).remarks == ()
    for root in (bccd, voc_sample):
        values = {**{flag.name: flag.default for flag in voc.FLAGS}, "dataset_directory": root, "labels_file": "auto"}
        data = formats.read_data_set("voc", values, skip_bad_images=False)
        assert (data.remarks, data.notes) == ((), ())

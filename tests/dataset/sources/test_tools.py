"""What other tools write, converted: tests/tools has their own files of one scenario, and says how they were made.

a.jpg of 100x80 pixels has a cat and a dog, b.jpg nothing.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dataset.records import record_files
from tests.builders import convert
from tests.builders.files import examples_by_id
from tests.builders.voc import picture

TOOLS = Path(__file__).parents[2] / "tools"
CAT, DOG = (20.2, 10.4, 60.9, 50.6), (30, 60, 80, 100)  # ymin, xmin, ymax, xmax from 0
INTEGERS, INTEGERS_UP = (20, 10, 60, 50), (20, 10, 61, 51)


class Case(NamedTuple):
    """How a tool's files are converted, and what comes out of it."""

    format: str
    pictures: str  # where the tool has or expects them
    cat: tuple = CAT
    dog: tuple = DOG
    images: int = 2
    flags: dict = {}  # noqa: RUF012 (not changed); a value is a path in the folder


CASES = {
    "darwin-coco": Case("coco", "images", flags={"annotations": "output.json", "images": "images"}),
    "darwin-voc": Case("voc", "", INTEGERS_UP, DOG),
    "darwin-yolo": Case("yolo", ""),
    "datumaro-yolo": Case("yolo", "obj_train_data"),
    "datumaro-coco": Case("coco", "images", flags={"annotations": "instances_train.json", "images": "images"}),
    "datumaro-openimages": Case(
        "openimages",
        "images",
        images=1,
        flags={"annotations": "annotations/train-annotations-bbox.csv", "images": "images"},
    ),
    "datumaro-yolo_ultralytics": Case("yolo", "images/train,images/val", images=1),
    "globox-voc": Case("voc", "", flags={}),
    "globox-yolo": Case("yolo", "", flags={"labels_file": "names.txt"}),
    "globox-coco": Case("coco", "images", flags={"annotations": "coco.json", "images": "images"}),
    "globox-labelme": Case("labelme", ""),
    "globox-openimages": Case("openimages", "images", images=1, flags={"annotations": "boxes.csv", "images": "images"}),
    "labelme-json": Case("labelme", ""),
    "labelme2coco-coco": Case("coco", "images", flags={"annotations": "dataset.json", "images": "images"}),
    "labelimg-voc": Case("voc", ""),
    "labelimg-yolo": Case("yolo", ""),
    "label-studio-yolo": Case("yolo", "images"),
    "label-studio-coco": Case("coco", "images", flags={"annotations": "result.json", "images": "images"}),
    "pascal-voc-writer-voc": Case("voc", ""),
    "pylabel-voc": Case("voc", "", INTEGERS),
    "pylabel-yolo_idx": Case("yolo", "training/images", flags={"dataset_directory": "training"}),
    "supervision-voc": Case("voc", "images", (21, 11, 61, 51), (31, 61, 80, 100)),
    "supervision-yolo": Case("yolo", "images"),
    "supervision-coco": Case("coco", "images", flags={"annotations": "annotations.json", "images": "images"}),
}
# what the converter refuses, with a part of the line that says why
REFUSED = {
    "labelimg-createml": ("voc", "", r"a\.json, so it may be CreateML's, which is not read here"),
    "sahi-yolo": ("yolo", "train,val", r"the class is 2, but there are 2 names, for 0 to 1"),
    "datumaro-voc": ("voc", "JPEGImages", r"Annotations/b\.xml: the annotation cannot be read: No such file"),
    "datumaro-kitti": ("voc", "train/image_2", r"a\.txt, so it may be KITTI's, .*datumaro\[cli\] converts it"),
    "datumaro-label_me": (
        "voc",
        "Images/train",
        r"object 1 \(dog\) has no <bndbox>; it is the older LabelMe's XML",
    ),
    "globox-via": ("voc", "", r"via\.json, so it may be the VGG Image Annotator's, .*globox converts it"),
    "label-studio-voc": ("voc", "images", r"b\.jpg has no annotation, an \.xml of its name"),
}


def prepared(name, pictures, tmp_path):
    """A copy of a tool's files, with the pictures."""
    root = shutil.copytree(TOOLS / name, tmp_path / name)
    places = (pictures.split(",") * 2)[:2]  # one for both, or one for each
    for number, (place, image) in enumerate(zip(places, ("a.jpg", "b.jpg"), strict=True)):
        (root / place).mkdir(parents=True, exist_ok=True)
        picture((100, 80), seed=number).save(root / place / image)
    return root


def converted(kind, root, flags, **others):
    if kind not in ("coco", "openimages"):
        flags = {"dataset_directory": "", **flags}
    paths = {flag: root / path for flag, path in flags.items()}
    if kind == "voc":
        paths["labels_file"] = "auto"
    return getattr(convert, f"convert_{kind}")(output_directory=root.parent / "records", **paths, **others)


@pytest.mark.parametrize("name", CASES)
def test_the_boxes_in_the_records_are_the_tools_own(name, tmp_path):
    case = CASES[name]
    root = prepared(name, case.pictures, tmp_path)
    (root / "names.txt").write_text("dog\ncat\n")  # globox writes none
    info = converted(case.format, root, case.flags)
    names = info["class_names"]
    assert sorted(names) == ["cat", "dog"] and info["splits"]["train"]["images"] == case.images
    found = {
        names[label - 1]: box * [80, 100, 80, 100]
        for example in examples_by_id(tmp_path / "records", "train").values()
        for label, box in zip(example["labels"], example["boxes_yxyx"], strict=True)
    }
    np.testing.assert_allclose(found["cat"], case.cat, atol=5e-3)  # pylabel writes four decimals
    np.testing.assert_allclose(found["dog"], case.dog, atol=5e-3)
    assert record_files.pixel_extent(str(tmp_path / "records")) == (case.format == "voc")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name, tmp_path):
    kind, pictures, message = REFUSED[name]
    root = prepared(name, pictures, tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        converted(kind, root, {})


@pytest.mark.parametrize(("name", "wanted"), [("label-studio-voc", INTEGERS), ("datumaro-voc", CAT)])
def test_pictures_without_an_xml_can_be_left_out(name, wanted, tmp_path):
    """Neither tool writes one for a picture without objects."""
    root = prepared(name, REFUSED[name][1], tmp_path)
    info = converted("voc", root, {}, skip_bad_images=True)
    (example,) = examples_by_id(tmp_path / "records", "train").values()
    cat = example["boxes_yxyx"][example["labels"].tolist().index(info["class_names"].index("cat") + 1)]
    np.testing.assert_allclose(cat * [80, 100, 80, 100], wanted, atol=1e-3)


def test_each_folder_is_tried():
    assert {path.name for path in TOOLS.iterdir() if path.is_dir()} == {*CASES, *REFUSED}

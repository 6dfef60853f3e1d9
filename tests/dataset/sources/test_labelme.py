"""labelme's JSON files as a source of the converter."""

import json

import numpy as np
import pytest

from tests.builders.convert import convert_labelme, convert_voc
from tests.builders.files import examples_by_id
from tests.builders.voc import SIZE, picture

RECTANGLE = {"label": "cat", "points": [[30.5, 20.0], [10.0, 5.25]], "shape_type": "rectangle"}


def add(folder, name, *shapes, **changes):
    """A picture and its JSON, as labelme writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    picture(seed=sum(name.encode())).save(folder / f"{name}.jpg")
    entries = [{"group_id": None, "description": "", "flags": {}, "mask": None, **shape} for shape in shapes]
    document: dict = {"version": "5.5.0", "flags": {}, "shapes": entries, "imagePath": f"{name}.jpg", "imageData": "x"}
    document |= {"imageHeight": SIZE[1], "imageWidth": SIZE[0], **changes}
    (folder / f"{name}.json").write_text(json.dumps(document))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mine"


def convert(root, **flags):
    return convert_labelme(dataset_directory=root, output_directory=root.parent / "records", **flags)


def boxes(root):
    return examples_by_id(root.parent / "records", "train")["a"]["boxes_yxyx"] * np.tile(SIZE[::-1], 2)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (RECTANGLE, (5.25, 10, 20, 30.5)),
        ({"label": "cat", "points": [[10, 5], [30, 9], [20, 25]], "shape_type": "polygon"}, (5, 10, 25, 30)),
        ({"label": "cat", "points": [[20, 15], [23, 19]], "shape_type": "circle"}, (10, 15, 20, 25)),
        ({"label": "cat", "points": [[10, 5], [30, 25]], "shape_type": "mask"}, (5, 10, 25, 30)),
        (
            {"label": "cat", "points": [[20, 5], [30, 15], [20, 25], [10, 15]], "shape_type": "oriented_rectangle"},
            (5, 10, 25, 30),
        ),
    ],
)
def test_a_shape_is_the_box_around_its_points(root, shape, wanted):
    add(root, "a", shape)
    info = convert(root)
    assert info["class_names"] == ["cat"] and info["pixel_extent"] == 0.0
    np.testing.assert_allclose(boxes(root), [wanted], atol=1e-4)


def test_points_and_lines_are_counted_and_a_picture_without_a_json_is_left_out(root):
    add(root, "a", RECTANGLE, {"label": "tip", "points": [[3, 4]], "shape_type": "point"})
    add(root, "none")
    picture().save(root / "bare.jpg")
    info = convert(root)
    assert info["class_names"] == ["cat"]
    assert sorted(examples_by_id(root.parent / "records", "train")) == ["a", "none"]
    assert info["splits"]["train"]["images_without_objects"] == 1
    assert any(told.startswith("1 points and lines are no objects, the first in ") for told in info["remarks"])
    assert any(told.startswith("1 pictures without a JSON of labelme are left out") for told in info["remarks"])


def test_folders_of_splits_and_pictures_elsewhere(root):
    add(root / "train", "a", RECTANGLE)
    add(root / "val", "b", RECTANGLE, imagePath="..\\pictures\\b.jpg")
    (root / "pictures").mkdir()
    (root / "val" / "b.jpg").rename(root / "pictures" / "b.jpg")
    info = convert(root)
    assert {name: split["images"] for name, split in info["splits"].items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": [{**RECTANGLE, "points": []}]}, r"a\.json: shape 1 \(cat\) has no points"),
        ({"shapes": [{**RECTANGLE, "points": [[1]]}]}, r"a\.json is no JSON of labelme: .*points"),
        ({"shapes": [{**RECTANGLE, "label": " "}]}, r"a\.json: shape 1: the label '' is empty"),
        ({"shapes": 3}, r"a\.json is no JSON of labelme: "),
        ({"imagePath": "nowhere.jpg"}, r"a\.json: there is no picture .*nowhere\.jpg, nor one of the JSON's own name"),
    ],
)
def test_a_broken_json_is_named_or_left_out(root, changes, message):
    add(root, "a", RECTANGLE, **changes)
    add(root, "b", RECTANGLE)
    if "imagePath" in changes:
        (root / "a.jpg").unlink()
    with pytest.raises(ValueError, match=message):
        convert(root)
    assert convert(root, skip_bad_images=True)["splits"]["train"]["images"] == 1


def test_the_format_is_named_where_another_was_asked_for(root):
    add(root, "a", RECTANGLE)
    with pytest.raises(FileNotFoundError, match=r"a\.json, so it may be labelme's: give --format=labelme"):
        convert_voc(dataset_directory=root, output_directory=root.parent / "records")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "via.json",
            '{"_via_img_metadata": {"a": {"regions": [{"shape_attributes": {}, "region_attributes": {}}]}}}',
            "globox",
        ),
        ("x.json", '[{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]}]', "CreateML's"),
        ("project-1.json", '[{"annotations": [{"result": [{"from_name": "label"}]}]}]', "Label Studio's own"),
        ("000000.txt", "Car 0.00 0 -1.57 1.0 2.0 3.0 4.0 1.5 1.6 3.9 -0.6 1.7 9.4 -1.6\n", "KITTI's.*datumaro"),
        ("boxes.csv", "ImageID,Source,LabelName,Confidence\n", "Open Images': give --format=openimages"),
    ],
)
def test_what_is_not_read_is_named_with_what_helps(root, name, text, said):
    root.mkdir()
    (root / name).write_text(text)
    with pytest.raises(FileNotFoundError, match=rf"there is .*{name}, so it may be .*{said}"):
        convert_voc(dataset_directory=root, output_directory=root.parent / "records")

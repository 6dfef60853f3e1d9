"""COCO's instances JSON as a source of the converter."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataset.records import record_files
from dataset.sources import coco
from dataset.sources.annotations import Annotation, LabelledObject
from tests.builders.coco import CocoBuilder
from tests.builders.convert import convert_coco
from tests.builders.files import contents, examples_by_id


@pytest.fixture
def builder(tmp_path):
    return CocoBuilder(tmp_path / "coco").add(7, (1, 2, 30, 20)).add(5)


def convert(builder, output, **flags):
    return convert_coco(annotations=builder.path, images=builder.folder, output_directory=output, **flags)


def test_categories_become_class_ids_in_the_order_of_their_ids(builder, tmp_path):
    builder.add(9, (0, 0, 5, 5), category_id=90)
    info = convert(builder, tmp_path / "records")
    assert info["class_names"] == ["hot dog", "toothbrush"]
    assert info["category_ids"] == [3, 90]
    assert record_files.pixel_extent(tmp_path / "records") == 0.0
    assert (tmp_path / "records" / "labels.txt").read_text() == "hot dog\ntoothbrush\n"
    examples = examples_by_id(tmp_path / "records", "train")
    assert {image_id: example["labels"].tolist() for image_id, example in examples.items()} == {
        "5": [], "7": [1], "9": [2],
    }  # fmt: skip


def test_a_record_holds_edges_over_the_size_and_the_ids_of_coco(builder, tmp_path):
    builder.add(21, (0, 0, 60, 40), (0.5, 10.25, 3, 2.25), name="one.two.PNG", iscrowd=1)
    convert(builder, tmp_path / "records")
    example = examples_by_id(tmp_path / "records", "train")["21"]
    pixels = np.array([[0, 0, 40, 60], [10.25, 0.5, 12.5, 3.5]])
    np.testing.assert_array_equal(example["boxes_yxyx"], (pixels / [40, 60, 40, 60]).astype(np.float32))
    assert example["difficult"].tolist() == [True, True]


def test_everything_is_told(builder, tmp_path):
    builder.add(8, (50, 30, 20, 5), (9, 9, 0, 4), (9, 9, -1, 4), (70, 9, 4, 4), iscrowd=1)
    info = convert(builder, tmp_path / "records", train_shards=2)
    train = record_files.read_dataset_info(tmp_path / "records")["splits"]["train"]
    assert train == info["splits"]["train"]
    assert (train["images"], train["images_without_objects"], train["shards"], train["clipped"]) == (3, 1, 2, 1)
    assert train["objects"] == {"hot dog": 3, "toothbrush": 0}
    assert train["difficult"] == {"hot dog": 2, "toothbrush": 0}
    assert (train["dropped"], train["corners_swapped"]) == ({"outside the image": 1, "zero area": 1}, 1)
    assert train["remarks"][0].startswith("instances.json, image 8: object 1 (hot dog): xmin 50 ymin 30 xmax 70")
    assert train["annotations"] == str(builder.path.resolve())
    with pytest.raises(ValueError, match=r"--strict: 4 faults .*the first: instances\.json, image 8"):
        convert(builder, tmp_path / "strict", strict=True)
    assert contents(tmp_path / "strict") == {}


def test_training_and_validation_at_once_or_one_of_them(builder, tmp_path):
    other = CocoBuilder(tmp_path / "other", "val.json").add(3, (1, 1, 9, 9)).add(2).add(7)
    validation = {"validation_annotations": other.path, "validation_images": other.folder}
    info = convert(builder, tmp_path / "both", **validation, validation_shards=1)
    assert {prefix: split["images"] for prefix, split in info["splits"].items()} == {"train": 2, "val": 3}
    assert list(examples_by_id(tmp_path / "both", "val")) == ["3", "2", "7"]
    convert_coco(output_directory=tmp_path / "val", **validation)
    assert not list((tmp_path / "val").glob("train-*"))
    del other.document["categories"][0]
    other.save()
    with pytest.raises(ValueError, match=r"instances\.json and .*val\.json have different categories: id 90"):
        convert(builder, tmp_path / "none", **validation)


def test_the_same_bytes_whatever_the_threads(builder, tmp_path):
    for number in range(30, 50):
        builder.add(number, (1, 1, 9, 9))
    convert(builder, tmp_path / "one", num_threads=1, train_shards=3)
    convert(builder, tmp_path / "seven", num_threads=7, train_shards=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "seven")


def test_a_missing_or_broken_image_is_named_or_skipped(builder, tmp_path):
    builder.add(30).add(31)
    (builder.folder / "000000000030.jpg").unlink()
    with pytest.raises(ValueError, match=r"000000000030\.jpg: there is no such file.*\(1 of 4 .*--skip_bad_images"):
        convert(builder, tmp_path / "records")
    (builder.folder / "000000000031.jpg").write_bytes(b"no picture")
    train = convert(builder, tmp_path / "records", skip_bad_images=True)["splits"]["train"]
    assert train["images"] == 2
    assert ["30.jpg" in line or "31.jpg" in line for line in train["skipped"]] == [True, True]


def entry(kind, number=0, **changes):
    """Change an entry of one of the lists; None takes a key away."""

    def spoil(document):
        item = document[kind][number]
        item.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del item[key]

    return spoil


def twice(kind):
    return lambda document: document[kind].append(document[kind][0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda document: document.pop("images"), "no list 'images', or it is empty"),
        (lambda document: document.update(categories=[]), "no list 'categories', or it is empty"),
        (lambda document: document.update(annotations={}), "no list 'annotations'"),
        (lambda document: document["images"].append("a.jpg"), "entry 3 of 'images' is a.jpg: Expected `object`"),
        (entry("images", file_name=None), "entry 1 of 'images' is .*: Object missing required field `file_name`"),
        (entry("annotations", bbox=None), "entry 1 of 'annotations' is .*: Object missing required field `bbox`"),
        (entry("categories", 1, id="3"), "entry 2 of 'categories' is .*'id': '3'.*: Expected `int`, .* `id`"),
        (twice("images"), "entry 3 of 'images' has the id 7, as one before it"),
        (twice("annotations"), "entry 2 of 'annotations' has the id 1000"),
        (twice("categories"), "entry 3 of 'categories' has the id 90"),
        (entry("annotations", image_id=999), "annotation 1000: 'image_id' is 999, and the file has no such id"),
        (entry("annotations", category_id=4), "annotation 1000: 'category_id' is 4, and the file has no such id"),
        (
            entry("annotations", category_id=[3]),
            r"'category_id': \[3\].*Expected `int`, got `array` - at `category_id`",
        ),
        (entry("annotations", bbox=[1, 2, 3]), r"'bbox': \[1, 2, 3\].*length 4, got 3 - at `bbox`"),
        (entry("annotations", bbox=[1, 2, 3, "4"]), r"'bbox': \[1, 2, 3, '4'\].*Expected `float`.* `bbox\[3\]`"),
        (entry("annotations", bbox="9" * 10**6), "'bbox': '9+.*Expected `array`, got `str` - at `bbox`"),
        (entry("annotations", bbox=[1, 2, 3, 10**400]), r"out of range - at `bbox\[3\]`"),
        (entry("annotations", bbox=[1, 2, 3, float("nan")]), r"annotation 1000: 'bbox' is .*nan\], not four finite"),
        (entry("annotations", bbox=[1e308, 2, 1e308, 3]), "not four finite numbers"),
        (entry("annotations", image_id=float("nan")), "Expected `int`, got `float` - at `image_id`"),
        (entry("annotations", iscrowd=float("nan")), "annotation 1000: 'iscrowd' is nan, neither 0 nor 1"),
        (entry("annotations", iscrowd=2), "annotation 1000: 'iscrowd' is 2, neither 0 nor 1"),
        (entry("annotations", iscrowd="yes"), "got `str` - at `iscrowd`"),
        (entry("images", id=True), "'id': True.*Expected `int`, got `bool` - at `id`"),
        (entry("images", file_name=5), "'file_name': 5.*Expected `str`, got `int` - at `file_name`"),
        (
            entry("images", file_name="../a.jpg"),
            r"image 7: 'file_name' is '\.\./a\.jpg', which leads out of the folder",
        ),
        (entry("images", file_name="a\\..\\..\\b.jpg"), "leads out of the folder"),
        (entry("images", file_name="/etc/passwd"), "is absolute"),
        (entry("images", file_name="C:\\a.jpg"), "is absolute"),
        (entry("images", file_name="\ud800.jpg"), r"has the character '\\ud800'"),
        (entry("categories", name="a\0b"), r"'categories' by id: name 2 is .*, which has the character '\\x00'"),
        (entry("categories", name="x" * 10**6), "which has 1000000 characters, more than 200"),
        (entry("categories", name=" "), "'categories' by id: name 2 is blank"),
        (entry("categories", name="hot  dog"), "'hot dog' is on names 1 and 2"),
        (entry("categories", name="Background"), "name 2 is 'Background'; background is always id 0"),
    ],
)
def test_a_json_with_a_fault_is_refused_with_its_place(builder, tmp_path, spoil, message):
    spoil(builder.document)
    builder.save()
    with pytest.raises(ValueError, match=rf"instances\.json.*{message}") as caught:
        convert(builder, tmp_path / "records", skip_bad_images=True)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert contents(tmp_path / "records") == {}


def test_a_file_that_is_no_instances_json_is_named(builder, tmp_path):
    for content, message in (
        (b"{", r"is not JSON \("),
        (b"", r"is not JSON \("),
        (b"\0" * 10**6, r"is not JSON \("),
        (b"[" * 5000, r"is not JSON .*nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", r"is not JSON \(Exceeds the limit \(4300 digits\)"),
        (b'{"a": "k\xe4fer"}', "is not UTF-8"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b"[]", r"must hold an object \{\.\.\.\}, but holds \[\]"),
        (b"null", r"must hold an object .*, but holds None"),
        (b"{}", "has no list 'categories', or it is empty"),
    ):
        builder.path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"instances\.json {message}") as caught:
            coco.read_instances(builder.path)
        assert len(str(caught.value)) < 300
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        coco.read_instances(tmp_path / "nowhere.json")
    builder.save()
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        convert_coco(annotations=builder.path, images=tmp_path / "nowhere", output_directory=tmp_path / "records")


@pytest.mark.parametrize(
    ("name", "place"),
    [("sub/./a..b.jpg", "sub/a..b.jpg"), ("sub/../a.jpg", "a.jpg"), ("..a.jpg", "..a.jpg"), ("a:b.jpg", "a:b.jpg")],
)
def test_names_of_files_below_the_images(builder, tmp_path, name, place):
    (builder.folder / "sub").mkdir()
    (builder.folder / "000000000007.jpg").rename(builder.folder / place)
    entry("images", file_name=name)(builder.document)
    builder.save()
    assert convert(builder, tmp_path / "records")["splits"]["train"]["images"] == 2


@pytest.mark.parametrize("value", [0, 1, False, True, 0.0, 1.0])
def test_a_crowd_is_difficult(builder, value):
    entry("annotations", iscrowd=value)(builder.document)
    builder.save()
    (found,) = coco.read_instances(builder.path).annotations[7].objects
    assert found.difficult is bool(value)


def test_what_is_not_used_may_be_anything(builder, tmp_path):
    """pandas writes NaN for a number that is missing."""
    entry("annotations", area=float("nan"), score=float("inf"), track=10**400)(builder.document)
    entry("images", date_captured=float("nan"))(builder.document)
    builder.document["info"] = {"seed": 2**100}
    builder.save()
    builder.path.write_text(builder.path.read_text().replace('"area": NaN', '"area": NaN, "area": 1', 1))
    assert convert(builder, tmp_path / "records")["splits"]["train"]["objects"]["hot dog"] == 1


@pytest.mark.parametrize(
    "side",
    [{"width": None}, {"width": 0}, {"width": "60"}, {"height": -1.5}, {"width": float("nan")}, {"width": 10**400}],
)
def test_a_size_that_is_not_given_does_not_matter(builder, tmp_path, side):
    entry("images", **side)(builder.document)
    builder.save()
    info = convert(builder, tmp_path / "records")
    assert info["splits"]["train"]["remarks"] == []
    assert examples_by_id(tmp_path / "records", "train")["7"]["width"] == 60


def test_genuine_coco(coco_tiny, tmp_path):
    """Each box is in the records, where the JSON has it to a thousandth of a pixel, and nothing else is."""
    annotations = coco_tiny / "annotations"
    info = convert_coco(
        annotations=annotations / "instances_train2017.json",
        images=coco_tiny / "train2017",
        validation_annotations=annotations / "instances_val2017.json",
        validation_images=coco_tiny / "val2017",
        output_directory=tmp_path,
        num_threads=2,
    )
    assert (info["class_names"][0], info["class_names"][79], len(info["class_names"])) == ("person", "toothbrush", 80)
    assert (info["category_ids"][10:12], info["category_ids"][79]) == ([11, 13], 90)
    for split, empty in (("train", 1), ("val", 2)):
        told = info["splits"][split]
        assert (told["images"], told["images_without_objects"], told["remarks"]) == (50, empty, [])
        document = json.loads((annotations / f"instances_{split}2017.json").read_text())
        found = {int(image_id): example for image_id, example in examples_by_id(tmp_path, split).items()}
        assert list(found) == [image["id"] for image in document["images"]] or split == "train"
        assert found.keys() == {image["id"] for image in document["images"]}
        for image in document["images"]:
            mine = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
            example, size = found[image["id"]], [image["height"], image["width"]]
            ymin, xmin, ymax, xmax = (example["boxes_yxyx"] * [*size, *size]).T
            boxes_xywh = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)
            np.testing.assert_allclose(boxes_xywh, np.reshape([entry["bbox"] for entry in mine], (-1, 4)), atol=1e-3)
            ids = [info["category_ids"][label - 1] for label in example["labels"]]
            assert ids == [entry["category_id"] for entry in mine]
            assert example["difficult"].tolist() == [entry["iscrowd"] == 1 for entry in mine]


def test_a_backslash_is_a_slash(builder, tmp_path):
    (builder.folder / "sub").mkdir()
    (builder.folder / "000000000007.jpg").rename(builder.folder / "sub" / "a.jpg")
    entry("images", file_name="sub\\a.jpg")(builder.document)
    builder.save()
    assert convert(builder, tmp_path / "records")["splits"]["train"]["images"] == 2


def test_what_is_probably_a_mistake_is_told(builder, tmp_path, capsys):
    builder.document["categories"].append({"id": 91, "name": "Hot Dog"})
    builder.document["annotations"].clear()
    builder.add(8, (20, 20, 60, 40), (30, 5, 50, 30), (1, 1, 9, 9))
    info = convert(builder, tmp_path / "records")
    corners, alike, without_objects = info["remarks"]
    assert corners.startswith(f"{builder.path}: the boxes look like x1, y1, x2, y2, but COCO's are x, y, width, height")
    assert "2 of 3 reach far beyond their image, and as corners 3 fit" in corners
    assert "Hot Dog (0), hot dog (3, the first in instances.json, image 8)" in alike
    assert without_objects.startswith("2 of 3 classes have no training object")
    assert record_files.read_dataset_info(tmp_path / "records")["remarks"] == info["remarks"]
    assert capsys.readouterr().out.count("WARNING: ") == 3
    with pytest.raises(ValueError, match=r"^--strict: .*instances\.json: the boxes look like x1"):
        convert(builder, tmp_path / "strict", strict=True)


def test_names_that_look_alike_are_no_fault(builder, tmp_path, capsys):
    builder.document["categories"].append({"id": 91, "name": "Hot Dog"})
    builder.save()
    alike, without_objects = convert(builder, tmp_path / "strict", strict=True)["remarks"]
    assert "Hot Dog (0), hot dog (1, " in alike and "2 of 3 classes have no training object" in without_objects
    assert capsys.readouterr().out.count("WARNING: ") == 2


def test_fractions_of_the_image_are_refused(builder, tmp_path):
    entry("annotations", bbox=[0.1, 0.2, 0.3, 0.5])(builder.document)
    builder.save()
    with pytest.raises(ValueError, match=r"instances\.json, image 7: the box xmin 0\.1 .* looks like fractions"):
        convert(builder, tmp_path / "records")


def annotation(*boxes_yxyx, height=100, width=200):
    objects = tuple(LabelledObject("cat", box, False, False) for box in boxes_yxyx)
    return Annotation("a", Path("a.xml"), height, width, objects)


def read_as_sizes(corners_xyxy, **size):
    x1, y1, x2, y2 = corners_xyxy
    return annotation((y1, x1, y1 + y2, x1 + x2), **size)


def random_corners(number, seed=0):
    rng = np.random.default_rng(seed)
    return [(*np.minimum(a, b), *np.maximum(a, b)) for a, b in rng.uniform(0, (200, 100), (number, 2, 2))]


def test_corners_in_the_place_of_sizes_are_told():
    found = [read_as_sizes(corners) for corners in random_corners(50)]
    (remark,) = coco.corners_for_sizes("a.json", found)
    assert remark.startswith("a.json: the boxes look like x1, y1, x2, y2, but COCO's are x, y, width, height")
    assert "as corners 50 fit" in remark


def test_sizes_are_not_taken_for_corners():
    genuine = [annotation((y1, x1, y2, x2)) for x1, y1, x2, y2 in random_corners(50)]
    assert coco.corners_for_sizes("a.json", genuine) == ()
    assert coco.corners_for_sizes("a.json", []) == ()
    unsized = [read_as_sizes(corners, height=0, width=0) for corners in random_corners(50)]
    assert coco.corners_for_sizes("a.json", unsized) == ()


def test_a_rotated_rectangle_of_cvat_is_the_box_around_it_and_counted(builder, tmp_path):
    builder.add(8, (10, 10, 20, 10), attributes={"rotation": 90.0, "occluded": False})
    builder.add(9, (10, 10, 20, 10), attributes={"rotation": 0.0})
    info = convert(builder, tmp_path / "records")
    found = examples_by_id(tmp_path / "records", "train")
    np.testing.assert_allclose(found["8"]["boxes_yxyx"] * [40, 60, 40, 60], [[5, 15, 25, 25]], atol=1e-4)
    np.testing.assert_allclose(found["9"]["boxes_yxyx"] * [40, 60, 40, 60], [[10, 10, 20, 30]], atol=1e-4)
    told = "1 rotated rectangles became the upright boxes around them, the first in instances.json, image 8"
    assert told in info["remarks"]


def test_one_picture_under_several_ids_is_refused_or_left_out(builder, tmp_path):
    builder.add(8, (1, 1, 9, 9), name="frame.png").add(9, (20, 20, 9, 9), name="frame.png")
    builder.document["images"][-1]["file_name"] = "./frame.png"
    builder.save()
    message = r"frame\.png is the picture of 2 images in .*instances\.json, with the ids 8, 9"
    with pytest.raises(ValueError, match=message):
        convert(builder, tmp_path / "records")
    info = convert(builder, tmp_path / "records", skip_bad_images=True)
    assert sorted(examples_by_id(tmp_path / "records", "train")) == ["5", "7"]
    assert len(info["splits"]["train"]["skipped"]) == 1


@pytest.mark.parametrize("name", ["../up/000000000007.jpg", "/data/up/000000000007.jpg", "C:\\up\\000000000007.jpg"])
def test_a_name_that_leads_elsewhere_is_that_of_a_picture_in_the_folder(builder, tmp_path, name):
    """As in Label Studio's export, whose pictures lie beside."""
    entry("images", file_name=name)(builder.document)
    builder.save()
    convert(builder, tmp_path / "records")
    assert sorted(examples_by_id(tmp_path / "records", "train")) == ["5", "7"]

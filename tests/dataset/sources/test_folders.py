"""Pictures with their XML in folders without image sets, and what a folder looks like."""

from pathlib import Path

import pytest

from dataset.sources import folders
from dataset.sources.folders import finite_number
from tests.builders.coco import CocoBuilder
from tests.builders.convert import convert_voc, convert_yolo
from tests.builders.files import examples_by_id
from tests.builders.voc import VocBuilder, box, picture
from tests.builders.yolo import YoloBuilder


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mine"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "records"


def add(picture_path, xml_path=None):
    """A picture with a cat; its annotation is beside it, or at another path below the same folder."""
    picture_path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed=sum(str(picture_path).encode())).save(picture_path)
    xml_path = xml_path or picture_path.with_suffix(".xml")
    xml_path.parent.mkdir(parents=True, exist_ok=True)
    xml_path.write_text(f"<annotation>{box(5, 6, 30, 31)}</annotation>")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".Trash-1000", ".thumbs", "@eaDir", "__MACOSX"])
def test_folders_that_programs_keep_for_themselves_are_not_looked_into(root, output, hidden):
    add(root / "a.jpg")
    add(root / "deep" / hidden / "b.jpg")
    assert convert(root, output) == {"train": ["a"]}
    yolo = YoloBuilder(root.parent / "yolo")
    yolo.add("a.jpg", "0 .5 .5 .2 .2", folder="images/train")
    yolo.add("a.jpg", None, folder=f"images/train/{hidden}")
    yolo.describe("train: images/train\nnames: [cat]")
    info = convert_yolo(dataset_directory=yolo.root, output_directory=output)
    assert (info["splits"]["train"]["images"], info["splits"]["train"]["images_without_objects"]) == (1, 0)


def convert(root, output, **flags):
    info = convert_voc(dataset_directory=root, output_directory=output, **flags)
    found = {split: examples_by_id(output, split) for split in info["splits"]}
    assert all(each["labels"].tolist() == [8] for examples in found.values() for each in examples.values())
    return {split: [*examples] if split == "val" else sorted(examples) for split, examples in found.items()}


def test_each_picture_with_its_xml_beside_it(root, output, capsys):
    for name in ("b.jpg", "a.PNG", "c.v2.webp", "deep/d.bmp"):
        add(root / name)
    (root / "._a.jpg").write_bytes(b"what macOS leaves in archives")
    (root / "notes.txt").touch()
    assert convert(root, output) == {"train": ["a", "b", "c.v2", "d"]}
    assert "train: the folder itself (all pictures), 4 images" in capsys.readouterr().out


@pytest.mark.parametrize("validation", ["valid", "val", "Validation", "test"])
def test_folders_of_splits(root, output, validation):
    for name in ("train/b.jpg", "train/a.jpg", f"{validation}/y.jpg", f"{validation}/x.tiff"):
        add(root / name)
    assert convert(root, output) == {"train": ["a", "b"], "val": ["x", "y"]}
    assert convert(root, output, train_splits=[validation], validation_splits=["train"])["val"] == ["a", "b"]


def test_test_is_not_used_where_there_is_a_validation_folder(root, output):
    for name in ("train/a.jpg", "valid/b.jpg", "test/c.jpg"):
        add(root / name)
    assert convert(root, output) == {"train": ["a"], "val": ["b"]}


@pytest.mark.parametrize(("pictures", "annotations"), [("JPEGImages", "Annotations"), ("images", "annotations")])
@pytest.mark.parametrize("split", ["", "VOC2007"])
def test_pictures_and_annotations_in_folders_of_their_own(root, output, pictures, annotations, split):
    for name in ("b", "a"):
        add(root / split / pictures / f"{name}.jpg", root / split / annotations / f"{name}.xml")
    assert convert(root, output) == {"train": ["a", "b"]}


def test_masks_of_the_same_names_are_not_pictures(root, output):
    add(root / "JPEGImages" / "a.jpg", root / "Annotations" / "a.xml")
    (root / "SegmentationClass").mkdir()
    picture().save(root / "SegmentationClass" / "a.png")
    assert convert(root, output) == {"train": ["a"]}


def test_pictures_of_one_name_in_several_folders(root, output):
    for name in ("one/1.jpg", "two/1.jpg", "two/2.jpg"):
        add(root / name)
    assert convert(root, output) == {"train": ["2", "one_1", "two_1"]}


def test_a_picture_or_annotation_without_the_other_is_named_or_left_out(root, output):
    for name in ("a", "b", "c", "d"):
        add(root / f"{name}.jpg")
    (root / "b.xml").unlink()
    (root / "d.xml").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg has no annotation, .*; nor have 1 others: .*--skip_bad_images"):
        convert(root, output)
    (root / "c.jpg").unlink()
    assert convert(root, output, skip_bad_images=True) == {"train": ["a"]}
    add(root / "b.jpg")
    add(root / "d.jpg")
    with pytest.raises(
        ValueError, match=r"c\.xml: there is no picture of this name in .*mine \(\.bmp, .*--skip_bad_images"
    ):
        convert(root, output)


def test_two_annotations_of_one_name_must_be_told_apart(root, output):
    add(root / "images" / "a.jpg", root / "one" / "a.xml")
    add(root / "images" / "a.jpg", root / "two" / "a.xml")
    with pytest.raises(ValueError, match=r"a\.jpg has several annotations, .*one/a\.xml and .*two/a\.xml"):
        convert(root, output)


def test_a_devkit_given_instead_of_the_folder_above_it(root, output):
    VocBuilder(root).add("000001", box(1, 1, 9, 9), split="mine", image_set="default")
    assert convert(root / "mine", output) == {"train": ["000001"]}
    for given in (root, root.parent):
        with pytest.raises(FileNotFoundError, match=rf"such as --dataset_directory={root} --train_splits=mine"):
            convert(given, output)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.Png", "a.webp", "a.BMP", "a.tif", "a.TIFF", "a.gif"])
def test_pictures_are_known_by_extension(name):
    assert folders.is_picture(Path(name)) and not folders.is_picture(Path(f"._{name}"))


def test_what_a_folder_of_another_format_looks_like_is_said(root, output, tmp_path):
    YoloBuilder(root).describe("names: [cat]").add("a.jpg", "0 .5 .5 .2 .2")
    with pytest.raises(FileNotFoundError, match=r"there is .*data\.yaml, so it may be YOLO's: give --format=yolo"):
        convert_voc(dataset_directory=root, output_directory=output)
    coco = CocoBuilder(tmp_path / "coco", "_annotations.coco.json").add(7, (1, 1, 9, 9))
    for convert_either in (convert_voc, convert_yolo):
        message = (
            r"there is (.*)/_annotations\.coco\.json, .*give --format=coco --annotations=\1/_annotations\.coco\.json "
        )
        with pytest.raises((OSError, ValueError), match=message):
            convert_either(dataset_directory=coco.path.parent, output_directory=output)
    add(tmp_path / "voc" / "a.jpg")
    with pytest.raises(ValueError, match=r"there is .*a\.xml, so it may be VOC's: give --format=voc"):
        convert_yolo(dataset_directory=tmp_path / "voc", output_directory=output)


@pytest.mark.parametrize("text", ["\u00b2", "0x10", "1,5", "", " ", "-", ".", "1e", "e5", "1 0", "nan", "inf"])
def test_what_is_no_number(text):
    assert finite_number(text) is None


def test_numbers():
    assert [finite_number(text) for text in ("1", " -.5 ", "+2.", "1e-3", "1E+2")] == [1, -0.5, 2, 0.001, 100]
    assert finite_number("1e999") is finite_number("1_0") is finite_number("\u0663") is None

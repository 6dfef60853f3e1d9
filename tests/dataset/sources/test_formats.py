"""What the label formats have in common."""

import re

import pytest

from dataset.records import record_files
from tests.builders import three_formats
from tests.builders.convert import convert_coco, convert_voc, convert_yolo
from tests.builders.files import contents, examples_by_id
from tests.builders.voc import VocBuilder, box, picture
from tests.builders.yolo import YoloBuilder


def converted(root, count, **flags):
    """The files that each format gives of the same pictures."""
    voc, coco, yolo = three_formats.write(root, count)
    names = root / "names.txt"
    names.write_text("\n".join(three_formats.NAMES))
    outputs = {name: root / f"records_{name}" for name in ("voc", "coco", "yolo")}
    convert_voc(dataset_directory=voc.root, labels_file=str(names), output_directory=outputs["voc"], **flags)
    convert_coco(annotations=coco.path, images=coco.folder, output_directory=outputs["coco"], **flags)
    convert_yolo(dataset_directory=yolo.root, output_directory=outputs["yolo"], **flags)
    return outputs


def test_the_same_pictures_are_the_same_records_by_each_format(tmp_path):
    """Byte for byte: shards and labels.txt; only dataset.json tells the formats apart."""
    voc, coco, yolo = (contents(output) for output in converted(tmp_path, 40, train_shards=3).values())
    for name in {*voc} - {record_files.INFO_NAME}:
        assert voc[name] == coco[name] == yolo[name], name
    assert {*voc} == {*coco} == {*yolo}
    assert sum(len(each["labels"]) for each in examples_by_id(tmp_path / "records_yolo", "train").values()) > 40


def test_each_format_divides_its_training_images(tmp_path):
    for output in converted(tmp_path, 20, validation_fraction=0.25).values():
        train, val = ({*examples_by_id(output, split)} for split in ("train", "val"))
        assert (len(train & val), len(train | val)) == (0, 20)
        assert 3 <= len(val) <= 7
        info = record_files.read_dataset_info(output)
        assert info["splits"]["val"]["validation_fraction"] == 0.25
        assert all(info["splits"]["val"]["objects"].values())


def test_a_part_for_validation_where_there_is_a_validation_set(tmp_path):
    builder = YoloBuilder(tmp_path / "yolo").describe("names: [cat]\ntrain: images/train\nval: images/val\n")
    builder.add("a.jpg", "0 .5 .5 .2 .2")
    builder.add("b.jpg", "0 .5 .5 .2 .2", folder="images/val")
    flags = {"dataset_directory": builder.root, "output_directory": tmp_path / "records", "validation_fraction": 0.2}
    message = r"^--validation_fraction=0\.2: there are validation images already, images/val .* leave one"
    with pytest.raises(ValueError, match=message):
        convert_yolo(**flags)


def test_what_looks_wrong_in_the_splits_is_told(tmp_path, capsys):
    """The same picture on both sides is an error with --strict; a class without a validation object never is."""
    voc = VocBuilder(tmp_path / "voc")
    voc.add("000001", box(1, 1, 9, 9), box(1, 1, 9, 9, name="dog"), image=picture(seed=7))
    voc.add("000002", box(1, 1, 9, 9), split="VOC2007TEST", image_set="test", image=picture(seed=7))
    flags = {"dataset_directory": voc.root, "labels_file": "auto", "output_directory": tmp_path / "records"}
    both, unscored = convert_voc(**flags)["remarks"]
    assert both.startswith("1 of 1 validation pictures are training pictures too") and "000002.jpg and" in both
    assert unscored.startswith("1 of 2 classes have no validation object") and unscored.endswith(": dog")
    assert capsys.readouterr().out.count("WARNING: ") == 2
    with pytest.raises(ValueError, match=r"^--strict: 1 of 1 validation pictures"):
        convert_voc(**flags, strict=True)
    voc.add("000002", box(1, 1, 9, 9), split="VOC2007TEST", image_set="test", image=picture(seed=8))
    (voc.root / "VOC2007TEST" / "ImageSets" / "Main" / "test.txt").write_text("000002")
    assert convert_voc(**flags, strict=True)["remarks"] == [unscored]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("voc_fractions", r"a\.xml: the box xmin 0\.1 ymin 0\.2 .* looks like fractions of the image"),
        ("coco_leads_out", r"image 1: 'file_name' is '.*etc/passwd', which leads out of the folder"),
        ("coco_corners", r"^--strict: .*x.json: the boxes look like x1, y1, x2, y2"),
    ],
)
def test_cases_that_went_wrong_are_one_line(cases, tmp_path, name, message):
    flags = {"output_directory": tmp_path / "records", "strict": True}
    with pytest.raises(ValueError, match=message):
        if name.startswith("voc"):
            convert_voc(dataset_directory=cases / name, labels_file="auto", **flags)
        else:
            convert_coco(annotations=cases / name / "x.json", images=cases / name / "im", **flags)
    assert contents(tmp_path / "records") == {}


def test_the_case_of_names_alike_is_told(cases, tmp_path, capsys):
    """It may be meant so, and so it is no error with --strict."""
    flags = {"labels_file": "auto", "output_directory": tmp_path / "records", "strict": True}
    convert_voc(dataset_directory=cases / "voc_names_by_case", **flags)
    assert re.search(
        r"WARNING: class names that differ only by case, .*: Cat \(1, .*\), cat \(1, ", capsys.readouterr().out
    )


def test_the_case_of_a_backslash_is_read(cases, tmp_path):
    case = cases / "coco_backslash"
    info = convert_coco(annotations=case / "x.json", images=case / "im", output_directory=tmp_path, strict=True)
    assert info["splits"]["train"]["images"] == 1

"""Which splits, images, annotations and class names of a VOCROOT are converted."""

import pytest

from dataset.records import record_files
from dataset.records.parsing import read_examples
from tests.builders.convert import convert_voc
from tests.builders.files import ids
from tests.builders.voc import VocBuilder, box


@pytest.fixture
def voc(tmp_path):
    return VocBuilder(tmp_path / "voc")


def run_convert(voc, output=None, **flags):
    output = output or voc.root.parent / "records"
    return convert_voc(dataset_directory=voc.root, output_directory=output, **flags), output


@pytest.mark.parametrize("name", ["000001.JPG", "000001.jpeg", "000001.JPEG", "000001.PNG"])
def test_images_are_found_whatever_the_extension(voc, name):
    voc.add("000001", box(1, 1, 30, 20), name=name)
    assert run_convert(voc)[0]["splits"]["train"]["images"] == 1


def test_annotations_as_they_come(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc.add("a.b.c", box(1.5, 2.5, 30, 20.25).replace("</object>", f"{part}</object>"), size=None)
    _, output = run_convert(voc)
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["image_id"] == b"a.b.c"
    assert (example["boxes_yxyx"] * [40, 60, 40, 60]).round(4).tolist() == [[2.5, 1.5, 20.25, 30]]


def test_splits_by_default_are_those_that_are_there(voc):
    voc.add("000001", split="VOC2012")
    info, output = run_convert(voc)
    assert info["splits"]["train"]["source_splits"] == ["VOC2012"]
    assert set(info["splits"]) == {"train"}
    voc.add("000002", split="VOC2007")
    voc.add("000003", split="VOC2007TEST", image_set="test")
    info, output = run_convert(voc)
    assert info["splits"]["train"]["source_splits"] == ["VOC2007", "VOC2012"]
    assert info["splits"]["val"]["source_splits"] == ["VOC2007TEST"]
    info, output = run_convert(voc, train_splits=["VOC2012"], validation_splits=[])
    assert ids(output, "train") == [["000001"]]
    assert not list(output.glob("val-*"))


def test_the_devkit_as_it_is_unpacked(voc):
    voc.add("000001")
    voc.add("000002", image_set="test")
    assert run_convert(voc)[0]["splits"]["val"]["source_splits"] == ["VOC2007"]


def test_another_image_set(voc):
    voc.add("000001", image_set="train")
    voc.add("000002", image_set="val")
    details = {"train_image_set": "train", "validation_image_set": "val", "validation_splits": ["VOC2007"]}
    _, output = run_convert(voc, **details)
    assert (ids(output, "train"), ids(output, "val")) == ([["000001"]], [["000002"]])


def test_names_of_classes(voc, tmp_path):
    voc.add("000001", box(1, 1, 30, 20, name="zebra"), box(1, 1, 30, 20, name="ant"))
    voc.add("000002", box(1, 1, 30, 20, name="bee"), split="VOC2007TEST", image_set="test")
    voc.add("000003", box(1, 1, 30, 20, name="ant"), image=b"not an image")
    with pytest.raises(ValueError, match=r"ant \(2\), bee \(1\), zebra \(1\); .*--labels_file=auto"):
        run_convert(voc)
    assert run_convert(voc, labels_file="auto", skip_bad_images=True)[0]["class_names"] == ["ant", "bee", "zebra"]
    labels = tmp_path / "names.txt"
    labels.write_text("zebra\nbee\nant\nyak\n")
    info, output = run_convert(voc, labels_file=str(labels), skip_bad_images=True)
    assert info["class_names"] == ["zebra", "bee", "ant", "yak"]
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["labels"].tolist() == [1, 3]
    labels.write_text("zebra\nbee\n")
    with pytest.raises(ValueError, match=r"not in .*names.txt: ant \(2\);"):
        run_convert(voc, labels_file=str(labels))


def test_no_split_at_all_lists_what_there_is(voc):
    voc.add("000001", split="mine")
    with pytest.raises(FileNotFoundError, match=r"neither VOC2007 nor VOC2012 .*there: mine.*--train_splits"):
        run_convert(voc)


def test_a_validation_image_in_two_splits_is_refused(voc):
    voc.add("000001")
    for split in ("one", "two"):
        voc.add("000002", split=split, image_set="test")
    with pytest.raises(ValueError, match="image 000002 is in several of the validation splits one, two"):
        run_convert(voc, validation_splits=["one", "two"])


def test_fractions_of_the_image_are_one_error(voc):
    for number in range(3):
        voc.add(f"00000{number}", box(0.1, 0.2, 0.5, 1))
    with pytest.raises(ValueError, match=r"000000\.xml: the box xmin 0\.1 .* looks like fractions .* 3 of 3 images"):
        run_convert(voc, skip_bad_images=True)


def test_names_that_differ_only_by_case_are_told(voc, capsys):
    voc.add("000001", box(1, 1, 9, 9, name="Cat"), box(1, 1, 9, 9), box(5, 5, 9, 9))
    info, output = run_convert(voc, labels_file="auto")
    (remark,) = info["remarks"]
    where = "the first in VOC2007/Annotations/000001.xml"
    assert f"Cat (1, {where}), cat (2, {where})" in remark
    assert record_files.read_dataset_info(output)["remarks"] == [remark]
    assert f"WARNING: {remark}\n" in capsys.readouterr().out


def test_not_all_of_a_thousand_unknown_names_are_listed(voc):
    voc.add("000001", *(box(1, 1, 9, 9, name=f"thing{number:04d}") for number in range(1000)))
    with pytest.raises(ValueError, match=r"thing0019 \(1\) and 980 more; take all names") as caught:
        run_convert(voc)
    assert len(str(caught.value)) < 800

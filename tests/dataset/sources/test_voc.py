"""VOC folders: which splits, images, annotations and class names are read, with all that is wrong in them."""

from itertools import chain

import numpy as np
import pytest

from dataset.records import record_files
from dataset.records.parsing import read_examples
from dataset.report.scoring import ImageSet
from dataset.sources import voc
from dataset.sources.annotations import LabelledObject
from tests.builders.convert import convert_voc
from tests.builders.files import ids
from tests.builders.voc import VocBuilder, box

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


@pytest.fixture
def builder(tmp_path):
    return VocBuilder(tmp_path / "voc")


def run_convert(builder, output=None, **flags):
    output = output or builder.root.parent / "records"
    return convert_voc(dataset_directory=builder.root, output_directory=output, **flags), output


@pytest.mark.parametrize("name", ["000001.JPG", "000001.jpeg", "000001.JPEG", "000001.PNG"])
def test_images_are_found_whatever_the_extension(builder, name):
    builder.add("000001", box(1, 1, 30, 20), name=name)
    assert run_convert(builder)[0]["splits"]["train"]["images"] == 1


def test_annotations_as_they_come(builder):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    builder.add("a.b.c", box(1.5, 2.5, 30, 20.25).replace("</object>", f"{part}</object>"), size=None)
    _, output = run_convert(builder)
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["image_id"] == b"a.b.c"
    assert (example["boxes_yxyx"] * [40, 60, 40, 60]).round(4).tolist() == [[2.5, 1.5, 20.25, 30]]


def test_splits_by_default_are_those_that_are_there(builder):
    builder.add("000001", split="VOC2012")
    info, output = run_convert(builder)
    assert info["splits"]["train"]["source_splits"] == ["VOC2012"]
    assert set(info["splits"]) == {"train"}
    builder.add("000002", split="VOC2007")
    builder.add("000003", split="VOC2007TEST", image_set="test")
    info, output = run_convert(builder)
    assert info["splits"]["train"]["source_splits"] == ["VOC2007", "VOC2012"]
    assert info["splits"]["val"]["source_splits"] == ["VOC2007TEST"]
    info, output = run_convert(builder, train_splits=["VOC2012"], validation_splits=[])
    assert ids(output, "train") == [["000001"]]
    assert not list(output.glob("val-*"))


def test_the_devkit_as_it_is_unpacked(builder):
    builder.add("000001")
    builder.add("000002", image_set="test")
    assert run_convert(builder)[0]["splits"]["val"]["source_splits"] == ["VOC2007"]


def test_another_image_set(builder):
    builder.add("000001", image_set="train")
    builder.add("000002", image_set="val")
    details = {"train_image_set": "train", "validation_image_set": "val", "validation_splits": ["VOC2007"]}
    _, output = run_convert(builder, **details)
    assert (ids(output, "train"), ids(output, "val")) == ([["000001"]], [["000002"]])


def test_names_of_classes(builder, tmp_path):
    builder.add("000001", box(1, 1, 30, 20, name="zebra"), box(1, 1, 30, 20, name="ant"))
    builder.add("000002", box(1, 1, 30, 20, name="bee"), split="VOC2007TEST", image_set="test")
    builder.add("000003", box(1, 1, 30, 20, name="ant"), image=b"not an image")
    with pytest.raises(ValueError, match=r"ant \(2\), bee \(1\), zebra \(1\); .*--labels_file=auto"):
        run_convert(builder)
    assert run_convert(builder, labels_file="auto", skip_bad_images=True)[0]["class_names"] == ["ant", "bee", "zebra"]
    labels = tmp_path / "names.txt"
    labels.write_text("zebra\nbee\nant\nyak\n")
    info, output = run_convert(builder, labels_file=str(labels), skip_bad_images=True)
    assert info["class_names"] == ["zebra", "bee", "ant", "yak"]
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["labels"].tolist() == [1, 3]
    labels.write_text("zebra\nbee\n")
    with pytest.raises(ValueError, match=r"not in .*names.txt: ant \(2\);"):
        run_convert(builder, labels_file=str(labels))


def test_no_split_at_all_lists_what_there_is(builder):
    builder.add("000001", split="mine")
    with pytest.raises(FileNotFoundError, match=r"neither VOC2007 nor VOC2012 .*there: mine.*--train_splits"):
        run_convert(builder)


def test_a_validation_image_in_two_splits_is_refused(builder):
    builder.add("000001")
    for split in ("one", "two"):
        builder.add("000002", split=split, image_set="test")
    with pytest.raises(ValueError, match="image 000002 is in several of the validation splits one, two"):
        run_convert(builder, validation_splits=["one", "two"])


def test_fractions_of_the_image_are_one_error(builder):
    for number in range(3):
        builder.add(f"00000{number}", box(0.1, 0.2, 0.5, 1))
    with pytest.raises(ValueError, match=r"000000\.xml: the box xmin 0\.1 .* looks like fractions .* 3 of 3 images"):
        run_convert(builder, skip_bad_images=True)


def test_names_that_differ_only_by_case_are_told(builder, capsys):
    builder.add("000001", box(1, 1, 9, 9, name="Cat"), box(1, 1, 9, 9), box(5, 5, 9, 9))
    info, output = run_convert(builder, labels_file="auto")
    (remark,) = info["remarks"]
    where = "the first in VOC2007/Annotations/000001.xml"
    assert f"Cat (1, {where}), cat (2, {where})" in remark
    assert record_files.read_dataset_info(output)["remarks"] == [remark]
    assert f"WARNING: {remark}\n" in capsys.readouterr().out


def test_not_all_of_a_thousand_unknown_names_are_listed(builder):
    builder.add("000001", *(box(1, 1, 9, 9, name=f"thing{number:04d}") for number in range(1000)))
    with pytest.raises(ValueError, match=r"thing0019 \(1\) and 980 more; take all names") as caught:
        run_convert(builder)
    assert len(str(caught.value)) < 800


def write_annotation(folder, body, name="000001.xml"):
    path = folder / name
    path.write_text(f"<annotation>{body}</annotation>")
    return path


def read_objects(folder, body):
    return voc.read_annotation(write_annotation(folder, body)).objects


def test_parts_of_a_person_are_not_objects(tmp_path):
    part = f"<part><name>head</name>{BOX.replace('0', '')}</part>"
    body = f"<object>{part}<name>person</name>{part}{BOX}{part}<difficult>1</difficult></object>"
    assert read_objects(tmp_path, body) == (LabelledObject("person", (2, 1, 40, 30), True, False),)


def test_everything_optional_may_be_missing(tmp_path):
    annotation = voc.read_annotation(write_annotation(tmp_path, f"<object>{BOX}<name> cat </name></object>"))
    assert annotation.objects == (LabelledObject("cat", (2, 1, 40, 30), False, False),)
    assert (annotation.height, annotation.width) == (0, 0)


def test_floats_and_any_order_of_children(tmp_path):
    box = "<ymax>4.75</ymax><!-- drawn twice --><xmax> 3.5 </xmax><ymin>2e0</ymin><xmin>-1.25</xmin>"
    (item,) = read_objects(tmp_path, f"<object><bndbox>{box}</bndbox><name>cat</name></object>")
    assert item.box_yxyx_px == (2, -1.25, 4.75, 3.5)


def test_an_image_without_objects(tmp_path):
    assert read_objects(tmp_path, "<size><width>5</width></size>") == ()


@pytest.mark.parametrize("text", ["0", "", "unknown", "-5", "nan"])
def test_a_useless_size_is_0(tmp_path, text):
    path = write_annotation(tmp_path, f"<size><height>{text}</height><width>500.0</width></size>")
    assert (voc.read_annotation(path).height, voc.read_annotation(path).width) == (0, 500)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("0", False), ("", False), ("Unspecified", False), ("true", True), ("1.0", True)],
)
def test_marks(tmp_path, text, value):
    marks = f"<difficult>{text}</difficult><truncated>{text}</truncated>"
    (item,) = read_objects(tmp_path, f"<object><name>cat</name>{BOX}{marks}</object>")
    assert (item.difficult, item.truncated) == (value, value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"<object>{BOX}</object>", "object 1 has no <name>"),
        (f"<object><name> </name>{BOX}</object>", "object 1 has no <name>"),
        (
            f"<object><name>cat</name>{BOX}</object><object><name>dog</name></object>",
            r"object 2 \(dog\) has no <bnd",
        ),
        (f"<object><name>cat</name>{BOX.replace('ymax', 'bottom')}</object>", r"object 1 \(cat\).*no <ymax>"),
        (f"<object><name>cat</name>{BOX.replace('40', 'forty')}</object>", "<ymax> is 'forty'"),
        (f"<object><name>cat</name>{BOX.replace('40', '')}</object>", "<ymax> is ''"),
        (
            f"<object><name>cat</name>{BOX.replace('40', 'NaN')}</object>",
            "<ymax> is 'NaN', not a finite number",
        ),
        (f"<object><name>cat</name>{BOX.replace('40', '1e999')}</object>", "not a finite number"),
        (f"<object><name>cat</name>{BOX.replace('40', '4_0')}</object>", "<ymax> is '4_0', not a finite number"),
        (f"<object><name>cat</name>{BOX.replace('40', '٤٠')}</object>", "<ymax> is '٤٠', not a finite number"),
        (f"<object><name>cat</name>{BOX.replace('40', 'x' * 10**6)}</object>", "<ymax> is 'x+...', not"),
        (f"<object><name>cat</name>{BOX}<difficult>perhaps</difficult></object>", "<difficult> is 'perhaps'"),
        (f"<object><name>cat</name>{BOX}<difficult>{'x' * 10**6}</difficult></object>", "<difficult> is 'x+...'"),
        (f"<object><name>{'x' * 10**6}</name>{BOX}</object>", "<name> is 'x+...', which has 1000000 characters"),
        (f"<object><name>{'x' * 150}</name></object>", r"object 1 \(x+\.\.\.\) has no <bndbox>"),
        (f"<object><name>hot&#10;dog</name>{BOX}</object>", r"<name> is .*, which has the character '\\n'"),
        (f"<object><{'x' * 10**6}></object>", "not well-formed XML"),
        ("<object>", "not well-formed XML"),
        ("&secret;", "not well-formed XML"),
    ],
)
def test_broken_annotations_are_named(tmp_path, body, message):
    path = write_annotation(tmp_path, body)
    with pytest.raises(voc.AnnotationError, match=message) as caught:
        voc.read_annotation(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not well-formed"),
        (b"not xml", "not well-formed"),
        (b"<html/>", "the root is <html>"),
        (
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "a.txt">]><annotation><object>&x;</object></annotation>',
            "DOCTYPE",
        ),
        (b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><annotation/>', "DOCTYPE"),
    ],
)
def test_what_is_not_an_annotation_is_named(tmp_path, content, message):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(voc.AnnotationError, match=message) as caught:
        voc.read_annotation(path)
    assert str(path) in str(caught.value)


def test_an_entity_of_the_file_itself_is_refused_too(tmp_path):
    for body in ("<annotation>&e;</annotation>", '<annotation of="&e;"/>'):
        (tmp_path / "a.xml").write_text(f'<!DOCTYPE a [<!ENTITY e "cat">]>{body}')
        with pytest.raises(voc.AnnotationError, match="DOCTYPE"):
            voc.read_annotation(tmp_path / "a.xml")


def test_a_missing_annotation_is_named(tmp_path):
    with pytest.raises(voc.AnnotationError, match=r"7\.xml: the annotation cannot be read: No such file"):
        voc.read_annotation(voc.annotation_path(tmp_path, "7"))


def write_image_set(split_dir, content, name="trainval.txt"):
    folder = split_dir / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"000005\n000007\n", ["000005", "000007"]),
        (b"\xef\xbb\xbfb\r\n\r\n  a.v2 \r\n", ["b", "a.v2"]),
        (b"000005 -1\n000007  1\n000009  0", ["000005", "000007", "000009"]),
        (b"my photo\nphoto 1\n", ["my photo", "photo 1"]),
    ],
)
def test_image_sets(tmp_path, content, ids):
    write_image_set(tmp_path, content)
    assert voc.read_image_set(tmp_path, "trainval") == ids


def test_an_id_that_ends_like_a_mark_is_told_by_its_annotation(tmp_path):
    write_image_set(tmp_path, b"photo 0\nphoto 1\n")
    (tmp_path / "Annotations").mkdir()
    write_annotation(tmp_path / "Annotations", "", "photo 0.xml")
    assert voc.read_image_set(tmp_path, "trainval") == ["photo 0", "photo 1"]


def test_bad_image_sets_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test\.txt does not exist; sets in that folder: none"):
        voc.read_image_set(tmp_path, "test")
    write_image_set(tmp_path, b"\n \n")
    write_image_set(tmp_path, b"a\nb\na\nb\nb\n", "val.txt")
    with pytest.raises(FileNotFoundError, match=r"sets in that folder: trainval, val"):
        voc.read_image_set(tmp_path, "test")
    with pytest.raises(ValueError, match=r"trainval\.txt is empty"):
        voc.read_image_set(tmp_path, "trainval")
    with pytest.raises(ValueError, match=r"val\.txt holds 2 ids more than once, the first is 'a'"):
        voc.read_image_set(tmp_path, "val")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"../a", r"the id '\.\./a' names another folder"),
        (b"sub\\a", ".*has a backslash"),
        (b"/a", ".*names another folder"),
        (b"a/./b", ".*names another folder"),
        (b"a\0b", r".*has the character '\\x00'"),
    ],
)
def test_an_id_that_cannot_name_a_file_is_refused(tmp_path, line, message):
    write_image_set(tmp_path, b"000005\n" + line)
    with pytest.raises(ValueError, match=rf"trainval\.txt: {message}") as caught:
        voc.read_image_set(tmp_path, "trainval")
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


def test_images_are_found_by_id(tmp_path):
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for name in ("c.JPG", "a.v1.2.jpeg", "b.Png", "notes.txt", "a.v1.2.xml"):
        (folder / name).touch()
    expected = {"a.v1.2": "a.v1.2.jpeg", "b": "b.Png", "c": "c.JPG"}
    assert {key: path.name for key, path in voc.index_images(tmp_path).items()} == expected
    assert list(voc.index_images(tmp_path)) == sorted(expected)
    (folder / "b.jpg").touch()
    with pytest.raises(ValueError, match=r"b\.Png and .*b\.jpg have the same image id"):
        voc.index_images(tmp_path)


def test_a_missing_image_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="JPEGImages does not exist"):
        voc.index_images(tmp_path)


def cvat(root, *sets):
    """CVAT's "PASCAL VOC": a folder that is one split, with a list for each of its subsets; ids may have folders."""
    builder = VocBuilder(root.parent)
    for image_set, image_id in sets:
        for folder in ("Annotations", "JPEGImages"):
            (root / folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        builder.add(image_id, box(1, 1, 30, 20), split=root.name, image_set=image_set)
    return root


@pytest.mark.parametrize(
    ("sets", "train", "val"),
    [
        ((("default", "shot 16.42.21"), ("default", "b")), ["shot 16.42.21", "b"], None),
        ((("default", "cam1/0000"), ("default", "cam2/0000")), ["cam1/0000", "cam2/0000"], None),
        ((("Train", "a"), ("Validation", "b"), ("Test", "c")), ["a"], ["b"]),
        ((("train", "a"), ("test", "c")), ["a"], ["c"]),
        ((("trainval", "a"), ("train", "a"), ("val", "b")), ["a"], None),
        ((("trainval", "a"), ("test", "c")), ["a"], ["c"]),
    ],
)
def test_image_sets_of_cvat(tmp_path, sets, train, val):
    root = cvat(tmp_path / "export", *sets)
    info = convert_voc(dataset_directory=root, output_directory=tmp_path / "records", labels_file="auto")
    assert sorted(chain(*ids(tmp_path / "records", "train"))) == sorted(train)
    assert (sorted(chain(*ids(tmp_path / "records", "val"))) if "val" in info["splits"] else None) == val


def test_ids_with_folders_are_scored_too(tmp_path):
    root = cvat(tmp_path / "export", ("default", "cam1/0000"), ("default", "cam2/0000"))
    found = ImageSet(tmp_path, root.name, "default").annotations()
    assert [annotation.image_id for annotation in found] == ["cam1/0000", "cam2/0000"]


@pytest.mark.parametrize(
    ("degrees", "wanted"),
    [
        ("0.0", (20, 40, 60, 100)),
        ("90", (10, 50, 70, 90)),
        ("180.0", (20, 40, 60, 100)),
        ("35", (6.411, 33.954, 73.589, 106.046)),
        ("325", (6.411, 33.954, 73.589, 106.046)),
    ],
)
def test_a_rotated_rectangle_of_cvat_is_the_box_around_it(tmp_path, degrees, wanted):
    """Of 60x40 pixels around 70, 40, turned about its centre."""
    attribute = f"<attributes><attribute><name>rotation</name><value>{degrees}</value></attribute></attributes>"
    corners = "<bndbox><xmin>40</xmin><ymin>20</ymin><xmax>100</xmax><ymax>60</ymax></bndbox>"
    (labelled,) = read_objects(tmp_path, f"<object><name>car</name>{attribute}{corners}</object>")
    np.testing.assert_allclose(labelled.box_yxyx_px, wanted, atol=2e-3)
    assert labelled.rotated == (float(degrees) != 0)

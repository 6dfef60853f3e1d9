"""VOC folders are read, with all that is wrong in them."""

import pytest

from dataset.sources import voc
from dataset.sources.annotations import LabelledObject

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


def write_annotation(folder, body, name="000001.xml"):
    path = folder / name
    path.write_text(f"<annotation>{body}</annotation>")
    return path


def read_objects(folder, body):
    return voc.read_annotation(write_annotation(folder, body)).objects


def test_a_genuine_annotation(voc_sample):
    annotation = voc.read_annotation(voc.annotation_path(voc_sample / "VOC2007", "000022"))
    assert (annotation.image_id, annotation.height, annotation.width) == ("000022", 332, 500)
    assert annotation.objects == (
        LabelledObject("horse", (103.0, 68.0, 283.0, 368.0), difficult=False, truncated=False),
        LabelledObject("person", (44.0, 186.0, 230.0, 255.0), difficult=False, truncated=False),
    )


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
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/hostname">]><annotation><object>&x;</object></annotation>',
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


def test_entities_that_would_fill_the_memory_are_refused(tmp_path):
    entities = '<!ENTITY e0 "ha">' + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    for body in ("<annotation>&e11;</annotation>", '<annotation of="&e11;"/>'):
        (tmp_path / "a.xml").write_text(f"<!DOCTYPE a [{entities}]>{body}")
        with pytest.raises(voc.AnnotationError):
            voc.read_annotation(tmp_path / "a.xml")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.xml").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(voc.AnnotationError, match=r"a\.xml: the annotation has 1000 MB, more than 50"):
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
        (b"../a", r"the id '\.\./a' has a '/', and so names another folder"),
        (b"sub\\a", ".*and so names another folder"),
        (b"a\0b", r".*has the character '\\x00'"),
        (b"x" * 10**6, r"the id 'x+\.\.\.' has a part of more than 255 bytes"),
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


@pytest.mark.parametrize(("split", "image_set", "count"), [("VOC2007", "trainval", 300), ("VOC2007TEST", "test", 150)])
def test_the_genuine_folders_are_read_whole(voc_sample, split, image_set, count):
    ids = voc.read_image_set(voc_sample / split, image_set)
    assert len(ids) == count
    assert set(ids) <= set(voc.index_images(voc_sample / split))

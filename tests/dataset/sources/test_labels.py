"""Class names: what is written is read, and each way to get them wrong is named."""

import pytest

from dataset.sources import labels


def test_voc_classes_are_the_reference_ids():
    assert len(labels.VOC_CLASSES) == 20
    assert list(labels.VOC_CLASSES) == sorted(labels.VOC_CLASSES)
    assert labels.VOC_CLASSES.index("person") + 1 == 15


@pytest.mark.parametrize("names", [labels.VOC_CLASSES, ("one",), ("traffic light", "chat noir", "Käfer", "猫")])
def test_written_names_are_read_back(tmp_path, names):
    labels.write_labels(tmp_path / "new" / "labels.txt", names)
    assert labels.read_labels(tmp_path / "new" / "labels.txt") == tuple(names)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.txt"]


def test_what_editors_leave_behind_does_not_count(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n dog \r\n\r\n")
    assert labels.read_labels(path) == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no class name"),
        (b" \n\n", "no class name"),
        (b"cat\ndog\ncat\n", "'cat' is on lines 1 and 3"),
        (b"background\ncat\n", "line 1 is 'background'"),
        (b"cat\n\ndog\n", "line 2 is blank"),
        (b"k\xe4fer\n", "not UTF-8"),
        (b"cat\na\0b\n", r"line 2 is .*, which has the character '\\x00'"),
        (b'{"a": ' + b"1" * 10**6 + b"}", "line 1 is .*which has 1000007 characters, more than 200"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        labels.read_labels(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt does not exist"):
        labels.read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize("names", [(), ("cat", "cat"), ("Background",), (" cat",), ("a\nb",), ("",)])
def test_names_that_would_not_be_read_back_are_not_written(tmp_path, names):
    with pytest.raises(ValueError, match=r"labels\.txt"):
        labels.write_labels(tmp_path / "labels.txt", names)
    assert not (tmp_path / "labels.txt").exists()


@pytest.mark.parametrize(
    "name", ["cat", "traffic light", "Käfer", "猫", "می‌خواهم", "👩‍👩‍👧", "a/b", "$\\x$", "x" * 200]
)
def test_names(name):
    assert labels.fault_of_name(name) == ""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a\0", r"has the character '\x00'"),
        ("a\nb", r"has the character '\n'"),
        ("\x85", r"has the character '\x85'"),
        ("a\u2028b", r"has the character '\u2028'"),
        ("\ud800", r"has the character '\ud800'"),
        ("x" * 201, "has 201 characters, more than 200"),
    ],
)
def test_faults_of_names(name, fault):
    assert labels.fault_of_name(name) == fault

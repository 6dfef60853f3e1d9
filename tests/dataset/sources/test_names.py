"""Texts that cannot be names, and names that look alike."""

import pytest

from dataset.sources import labels


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


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "猫" * 85])
def test_a_file_may_have_a_name_as_long_as_file_systems_take(name):
    assert labels.fault_of_image_id(name) == labels.fault_of_relative_path(f"sub/{name}") == ""


@pytest.mark.parametrize(
    ("image_id", "fault"),
    [
        ("a\0", r"has the character '\x00'"),
        ("\ud800", r"has the character '\ud800'"),
        ("x" * 256, "has a part of more than 255 bytes"),
    ],
)
def test_faults_of_image_ids(image_id, fault):
    assert labels.fault_of_image_id(image_id) == fault


@pytest.mark.parametrize("image_id", ["../x", "a/b", "a\\b", "/x"])
def test_an_image_id_that_leads_elsewhere(image_id):
    assert "and so names another folder" in labels.fault_of_image_id(image_id)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("a.jpg", ""),
        ("sub/./a..b.jpg", ""),
        ("sub/../a.jpg", ""),
        ("a:b.jpg", ""),
        ("/etc/passwd", "is absolute"),
        ("C:/a.jpg", "is absolute"),
        ("../a.jpg", "leads out of the folder"),
        ("a/../../images/a.jpg", "leads out of the folder"),
        ("a\0.jpg", r"has the character '\x00'"),
        ("sub/\ud800", r"has the character '\ud800'"),
        ("é" * 150, "has a part of more than 255 bytes"),
        ("x/" * 600, "has 1200 characters, more than 1000"),
    ],
)
def test_paths_below_a_folder(path, fault):
    assert labels.fault_of_relative_path(path) == fault


def test_names_that_look_alike_are_told_with_counts():
    counts = {"Cat": 3, "cat": 1, "hot dog": 2, "HotDog": 0, "café": 5, "cafe": 6, "dog": 7, "กิ": 1, "กา": 1}
    remarks = labels.look_alikes(counts, {"Cat": "a.xml", "cat": "b.xml"})
    assert [remark.partition("objects: ")[2].partition(";")[0] for remark in remarks] == [
        "Cat (3, the first in a.xml), cat (1, the first in b.xml)",
        "HotDog (0), hot dog (2)",
        "cafe (6), café (5)",
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (" Cat", "cat ", True),
        ("hot dog", "hot\u00a0dog", True),
        ("stra\u00dfe", "STRASSE", True),
        ("cafe\u0301", "caf\u00e9", True),  # composed or not
        ("A\u00f1o", "ano", True),
        ("\u304b", "\u304c", False),  # Japanese ka and ga
        ("\u0438", "\u0439", False),  # Russian i and short i
        ("1 1", "11", False),
        ("speed 2", "speed \u00b2", False),
    ],
)
def test_letters_that_are_others_are_not_alike(one, other, alike):
    assert bool(labels.look_alikes({one: 1, other: 1}, {})) == alike

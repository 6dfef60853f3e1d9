"""JSON is read within limits, and compared with declared types before it is used."""

import json
import math
from dataclasses import dataclass
from typing import TypedDict

import pytest

from utility.files import json_files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ("[" * 10**6, "nested too deeply"),
        ('{"a":' * 10**6, "nested too deeply"),
        ("9" * 10**6, "a number of 1000000 digits"),
        ('{"a": -' + "9" * 41 + "}", "a number of 42 digits"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' comes twice"),
        ("[]", r"must hold an object {...}, but holds \[\]"),
        ("null", "must hold an object {...}, but holds None"),
        ('"' + "x" * 10**4 + '"', r"but holds x{77}\.\.\."),
    ],
)
def test_json_that_cannot_be_used_is_one_line_with_the_file_and_the_remedy(tmp_path, text, reason):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"^{path} .*{reason}.*: restore it$") as error:
        json_files.read_json(path, "restore it")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "some.json"
    path.write_text('{"a": "\u00e9"}', encoding=encoding)
    with pytest.raises(ValueError, match=rf"^{path} is not UTF-8 text"):
        json_files.read_json(path, "restore it")


def test_a_byte_order_mark_and_a_limit_of_bytes(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"a": [1, 2.5], "b": {"c": 1, "d": 2}}', encoding="utf-8-sig")
    assert json_files.read_json(path, "") == {"a": [1, 2.5], "b": {"c": 1, "d": 2}}
    assert json_files.read_foreign_json(path, "", "c") == {"a": [1, 2.5], "b": {"d": 2}}
    with pytest.raises(ValueError, match=r"some\.json has 0 MB, more than 0: make it smaller"):
        json_files.read_json(path, "make it smaller", most_bytes=10)


def test_a_file_of_another_program_may_hold_whatever_python_reads(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"a": NaN, "b": [-Infinity, 1e999], "c": 1, "c": 2, "d": ' + "9" * 4300 + "}")
    found = json_files.read_foreign_json(path, "restore it", "x")
    assert found == {"a": pytest.approx(math.nan, nan_ok=True), "b": [-math.inf, math.inf], "c": 2, "d": 10**4300 - 1}
    path.write_text('{"a": ' + "9" * 4301 + "}")
    message = rf"^{path} is not JSON \(Exceeds the limit \(4300 digits\)[^;]* has 4301 digits\): restore it$"
    with pytest.raises(ValueError, match=message):
        json_files.read_foreign_json(path, "restore it", "x")


@dataclass(frozen=True)
class Point:
    at: tuple[int, int]
    weights: tuple[float, ...] = ()
    name: str | None = None


class Entry(TypedDict, total=False):
    points: list[Point]
    counts: dict[str, int]


def test_values_become_what_is_declared():
    document = {"points": [{"at": [1, 2], "weights": [1, 2.5]}], "counts": {"a": 1}, "other": [[]]}
    found = json_files.checked(Entry, document)
    assert found == {"points": [Point((1, 2), (1.0, 2.5))], "counts": {"a": 1}, "other": [[]]}
    assert all(type(weight) is float for weight in found["points"][0].weights)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"points": {}}, r"points=\{\}: must be a list"),
        ({"points": [[]]}, r"points\[0\]=\[\]: must be an object"),
        ({"points": [{}]}, r"points\[0\]\.at is missing"),
        ({"points": [{"at": [1, 2], "x": 1}]}, r"unknown setting points\[0\]\.x"),
        ({"points": [{"at": [1]}]}, r"points\[0\]\.at=\[1\]: must be a list of 2, not of 1"),
        ({"points": [{"at": [1, 2.0]}]}, r"points\[0\]\.at=2\.0: must be a whole number"),
        ({"points": [{"at": [True, 2]}]}, r"points\[0\]\.at=True: must be a whole number"),
        ({"points": [{"at": [1, 2], "weights": [1e999]}]}, r"points\[0\]\.weights\[0\]=inf: must be a finite number"),
        ({"points": [{"at": [1, 2], "name": 3}]}, r"points\[0\]\.name=3: must be a text or null"),
        ({"counts": {"a": None}}, r"counts\.a=None: must be a whole number"),
        ({"counts": {"a" * 10**4: None}}, r"counts\.a{77}\.\.\.=None"),
        ({"counts": json.loads("[" * 900 + "]" * 900)}, r"counts=\[\[.*must be an object"),
    ],
)
def test_a_value_of_another_type_is_named(document, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        json_files.checked(Entry, document)
    assert len(str(error.value)) < 250

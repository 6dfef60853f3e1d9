"""JSON is compared with declared types before it is used."""

import json
import math
from dataclasses import dataclass
from typing import Annotated, TypedDict

import pytest
from msgspec import Meta

from utility.errors import UserError
from utility.files import json_files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 5000, "nested too deeply"),
        ('{"a":' * 10**6, "nested too deeply"),
        ("9" * 10**6, "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": -Infinity}', "not JSON"),
        ('{"a": 1e999}', "out of range"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ('"' + "x" * 10**4 + '"', "must be an object"),
    ],
)
def test_json_that_cannot_be_used_is_one_line_with_the_file_and_the_remedy(tmp_path, text, reason):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{path}.* .*{reason}.*: restore it$") as error:
        json_files.read_json(path, "restore it")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "some.json"
    path.write_text('{"a": "\u00e9"}', encoding=encoding)
    with pytest.raises(ValueError, match=rf"^{path} is not UTF-8 text"):
        json_files.read_json(path, "restore it")


def test_a_byte_order_mark_is_no_part_of_it(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"a": [1, 2.5], "b": {"c": 1, "d": 2}}', encoding="utf-8-sig")
    assert json_files.read_json(path, "") == {"a": [1, 2.5], "b": {"c": 1, "d": 2}}
    assert json_files.read_foreign_json(path, "", "c") == {"a": [1, 2.5], "b": {"d": 2}}


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
    weights: tuple[Annotated[float, Meta(ge=0)], ...] = ()
    name: str | None = None


class Entry(TypedDict, total=False):
    points: list[Point]
    counts: dict[str, int]


def test_values_become_what_is_declared():
    found = json_files.converted({"at": [1, 2], "weights": [1, 2.5]}, Point)
    assert found == Point((1, 2), (1.0, 2.5)) and all(type(weight) is float for weight in found.weights)


def test_entries_that_are_not_declared_stay(tmp_path):
    document = {"points": [{"at": [1, 2], "weights": [1, 2.5]}], "counts": {"a": 1}, "other": [[]]}
    (tmp_path / "some.json").write_text(json.dumps(document))
    assert json_files.read_json(tmp_path / "some.json", "", Entry) == document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"points": {}}, r"points=\{\}: must be a list"),
        ({"points": [[]]}, r"points\[0\]=\[\]: must be an object"),
        ({"points": [{}]}, r"points\[0\]=\{\}: .*missing required field at"),
        ({"points": [{"at": [1]}]}, r"points\[0\]\.at=\[1\]: must be a list .* 2, got 1"),
        ({"points": [{"at": [1, 2.5]}]}, r"points\[0\]\.at\[1\]=2\.5: must be a whole number"),
        ({"points": [{"at": [True, 2]}]}, r"points\[0\]\.at\[0\]=True: must be a whole number"),
        ({"points": [{"at": [1, 2], "weights": ["x"]}]}, r"points\[0\]\.weights\[0\]=x: must be a number"),
        ({"points": [{"at": [1, 2], "weights": [math.nan]}]}, r"points\[0\]\.weights\[0\]=nan: must be a number >= 0"),
        ({"points": [{"at": [1, 2], "name": 3}]}, r"points\[0\]\.name=3: must be a text"),
        ({"counts": {"a": None}}, r"counts\[\.\.\.\]: must be a whole number"),
        ({"counts": json.loads("[" * 900 + "]" * 900)}, r"counts=\[\[.*must be an object"),
    ],
)
def test_a_value_of_another_type_is_named(document, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        json_files.converted(document, Entry)
    assert len(str(error.value)) < 250

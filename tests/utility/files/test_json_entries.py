"""JSON written entry by entry."""

import json

import pytest

from utility.files.json_files import JsonLines, JsonList


def test_lines_are_whole_as_soon_as_they_are_written(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonLines(path) as lines:
        for number in range(3):
            lines.write({"frame": number, "name": "Straße\n"})
            written = path.read_text(encoding="utf-8").splitlines()
            assert json.loads(written[-1]) == {"frame": number, "name": "Straße\n"} and len(written) == number + 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_has_all_entries(tmp_path, count):
    with JsonList(tmp_path / "a.json") as entries:
        for number in range(count):
            entries.write([number])
    assert json.loads((tmp_path / "a.json").read_text()) == [[number] for number in range(count)]


def test_a_list_is_ended_by_an_exception_and_not_replaced_by_none(tmp_path):
    def write(count):
        with pytest.raises(ZeroDivisionError), JsonList(tmp_path / "a.json") as entries:
            for number in range(count):
                entries.write(number)
            raise ZeroDivisionError

    for count in (2, 0):
        write(count)
        assert json.loads((tmp_path / "a.json").read_text()) == [0, 1]

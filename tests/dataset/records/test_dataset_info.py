"""dataset.json: whatever is in it, it is used as what it must be, or refused in one line."""

import json

import pytest

from dataset.records import record_files

WHOLE = {
    "class_names": ["cat", "dog"],
    "category_ids": [7, 9],
    "splits": {"train": {"images": 3, "skipped": ["one"], "remarks": []}},
}


def test_it_is_returned_as_it_is(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(WHOLE))
    assert record_files.read_dataset_info(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ({**WHOLE, "class_names": "cat"}, "class_names=cat: must be a list"),
        ({**WHOLE, "class_names": [1, 2]}, r"class_names\[0\]=1: must be a text"),
        ({**WHOLE, "splits": []}, r"splits=\[\]: must be an object"),
        ({**WHOLE, "splits": {"train": 3}}, r"splits\[\.\.\.\]: must be an object"),
        ({**WHOLE, "splits": {"train": {"images": "3"}}}, r"splits\[\.\.\.\]\.images: must be a whole number"),
        ({**WHOLE, "splits": {"train": {"skipped": 3}}}, r"splits\[\.\.\.\]\.skipped: must be a list"),
        ({**WHOLE, "category_ids": [7, None]}, r"category_ids\[1\]=None: must be a whole number"),
        ({**WHOLE, "views": {"max_side": 5}}, "views.max_side=5: must be a whole number >= 32"),
        ({**WHOLE, "category_ids": [7]}, "category_ids and class_names of different numbers"),
    ],
)
def test_an_entry_of_another_type_is_one_line(tmp_path, document, message):
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/dataset\.json.*{message}.*convert the data set again$"):
        record_files.read_dataset_info(tmp_path)


def test_a_missing_entry_is_one_line_where_it_is_asked_for(tmp_path):
    (tmp_path / "dataset.json").write_text('{"splits": {"train": {}}}')
    with pytest.raises(ValueError, match=r"dataset\.json has no 'class_names': convert"):
        record_files.class_names(str(tmp_path), None)
    info = record_files.read_dataset_info(tmp_path)
    with pytest.raises(ValueError, match=r"dataset\.json, splits, has no 'val': convert"):
        info["splits"]["val"]
    with pytest.raises(ValueError, match=r"splits\.train, has no 'images': convert"):
        info["splits"]["train"]["images"]


def test_deep_nesting_is_one_line(tmp_path):
    (tmp_path / "dataset.json").write_text('{"a":' * 10**5)
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON .*nested too deeply"):
        record_files.read_dataset_info(tmp_path)

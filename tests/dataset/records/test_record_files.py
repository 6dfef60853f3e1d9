"""The files of a data set are found, and agree with each other."""

import json

import pytest

from dataset.records import record_files
from dataset.records.record_files import count_records
from dataset.sources import labels
from tests.builders.records import record, write_shards
from utility.errors import UserError

WHOLE = {
    "class_names": ["cat", "dog"],
    "category_ids": [7, 9],
    "splits": {"train": {"images": 3, "skipped": ["one"], "remarks": []}},
}


def write_files(folder, prefix, indices, count, content=b"x"):
    for index in indices:
        (folder / f"{prefix}-{index:05d}-of-{count:05d}").write_bytes(content)


def test_shards_are_found_in_order(tmp_path):
    write_files(tmp_path, "train", range(12), 12)
    write_files(tmp_path, "val", range(2), 2)
    (tmp_path / "train-00000-of-00012.tmp").write_bytes(b"")
    found = record_files.find_shards(tmp_path, "train")
    assert found == [str(path) for path in record_files.shard_paths(tmp_path, "train", 12)]
    assert record_files.find_shards(str(tmp_path), "val")[1].endswith("val-00001-of-00002")


def test_bad_sets_of_shards_are_refused_and_named(tmp_path):
    pattern = "train-\\*-of-\\*"
    with pytest.raises(ValueError, match=rf"no record files .*{pattern}.*convert_tfrecords"):
        record_files.find_shards(tmp_path / "nowhere", "train")
    write_files(tmp_path, "val", range(2), 2)
    with pytest.raises(ValueError, match=pattern):
        record_files.find_shards(tmp_path, "train")
    write_files(tmp_path, "train", (0, 2), 4)
    with pytest.raises(ValueError, match=rf"{pattern}: 2 of 4 are missing, the first is train-00001-of-00004"):
        record_files.find_shards(tmp_path, "train")
    write_files(tmp_path, "train", range(4), 4, b"")
    with pytest.raises(ValueError, match=rf"{pattern} hold no records"):
        record_files.find_shards(tmp_path, "train")
    write_files(tmp_path, "train", range(3), 3)
    with pytest.raises(ValueError, match="sets of 3 and 4 shards"):
        record_files.find_shards(tmp_path, "train")


def test_one_empty_shard_among_others_is_fine(tmp_path):
    write_files(tmp_path, "train", range(2), 2)
    (tmp_path / "train-00001-of-00002").write_bytes(b"")
    assert len(record_files.find_shards(tmp_path, "train")) == 2


def test_the_data_set_tells_about_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json does not exist"):
        record_files.read_dataset_info(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON"):
        record_files.read_dataset_info(tmp_path)


def test_class_names_are_those_of_the_data_set(tmp_path):
    assert record_files.class_names(str(tmp_path), None) == labels.VOC_CLASSES
    assert record_files.class_names(str(tmp_path), 21) == labels.VOC_CLASSES
    labels.write_labels(tmp_path / "labels.txt", ["Platelets", "RBC", "WBC"])
    for num_classes in (None, 4):
        assert record_files.class_names(str(tmp_path), num_classes) == ("Platelets", "RBC", "WBC")


@pytest.mark.parametrize(("names", "num_classes"), [(None, 20), (None, 4), (["a", "b"], 2), (["a", "b"], 21)])
def test_another_number_of_classes_is_an_error_that_names_the_flag(tmp_path, names, num_classes):
    if names:
        labels.write_labels(tmp_path / "labels.txt", names)
    makes = 3 if names else 21
    with pytest.raises(ValueError, match=rf"--num_classes={num_classes}.*labels\.txt.* {makes} classes"):
        record_files.class_names(str(tmp_path), num_classes)


def test_names_other_than_the_converters_are_an_error(tmp_path):
    """Their order tells the class ids: an edited labels.txt gives every object another name."""
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": ["a", "b"], "splits": {}}))
    labels.write_labels(tmp_path / "labels.txt", ["a", "b"])
    assert record_files.class_names(str(tmp_path), None) == ("a", "b")
    labels.write_labels(tmp_path / "labels.txt", ["b", "a"])
    with pytest.raises(ValueError, match=r"labels\.txt has the classes b, a, but .* converted with a, b"):
        record_files.class_names(str(tmp_path), None)


def test_empty_record_files_are_named(tmp_path):
    shards = [str(path) for path in record_files.shard_paths(tmp_path, "train", 2)]
    for shard in shards:
        (tmp_path / shard).write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-\*-of-\* hold no records"):
        record_files.find_shards(tmp_path, "train")
    with pytest.raises(ValueError, match=r"train-00000-of-00002.* no record"):
        count_records(shards)


@pytest.mark.parametrize("left", [1, 7, 8, 11, 12, 500, -1, -4, -5])
def test_a_truncated_record_file_is_named(tmp_path, left):
    first, second = write_shards(tmp_path, [record(0), record(1), record(2)], 2)
    data = (tmp_path / second).read_bytes()
    (tmp_path / second).write_bytes(data[:left])
    with pytest.raises(ValueError, match=r"train-00001-of-00002 is cut off"):
        count_records([first, second])


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "train-00000-of-00001").write_text("<html>404 not found</html>")
    with pytest.raises(ValueError, match=r"train-00000-of-00001 is cut off or no TFRecord"):
        count_records(record_files.find_shards(tmp_path, "train"))


@pytest.mark.parametrize("zeros", [16, 160, 163])
def test_zeros_are_no_records(tmp_path, zeros):
    first, second = write_shards(tmp_path, [record(0), record(1)], 2)
    whole = (tmp_path / second).read_bytes()
    for start in (b"", whole):
        (tmp_path / second).write_bytes(start + bytes(zeros))
        with pytest.raises(ValueError, match=r"train-00001-of-00002 is cut off or no TFRecord"):
            count_records([first, second])


def test_records_other_than_the_converter_wrote_are_an_error(tmp_path):
    shards = write_shards(tmp_path, [record(0), record(1), record(2)], 2)
    (tmp_path / "dataset.json").write_text(
        json.dumps({"class_names": [], "splits": {"train": {"images": 3, "skipped": []}}})
    )
    paths = [str(tmp_path / shard) for shard in shards]
    assert count_records(paths) == 3
    (tmp_path / shards[1]).write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"train-\*-of-\* hold 2 images, but dataset.json lists 3; .*00001-of-00002 is"
    ):
        count_records(paths)


def test_missing_record_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no record files .*train-\*-of-\*"):
        record_files.find_shards(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="train-00000-of-00001"):
        count_records([str(tmp_path / "train-00000-of-00001")])


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
        (
            {**WHOLE, "splits": {"train": {"images": "3", "skipped": []}}},
            r"splits\[\.\.\.\]\.images: must be a whole number",
        ),
        ({**WHOLE, "splits": {"train": {"images": 3, "skipped": 3}}}, r"splits\[\.\.\.\]\.skipped: must be a list"),
        ({**WHOLE, "category_ids": [7, None]}, r"category_ids\[1\]=None: must be a whole number"),
        ({**WHOLE, "category_ids": [7]}, "category_ids and class_names of different numbers"),
    ],
)
def test_an_entry_of_another_type_is_one_line(tmp_path, document, message):
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/dataset\.json.*{message}.*convert the data set again$"):
        record_files.read_dataset_info(tmp_path)


@pytest.mark.parametrize("missing", ["class_names", "splits", "splits.train.images"])
def test_a_missing_entry_is_one_line(tmp_path, missing):
    document = json.loads(json.dumps(WHOLE))
    *folders, last = missing.split(".")
    entries = document
    for name in folders:
        entries = entries[name]
    del entries[last]
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=rf"dataset\.json.*{last}.*: convert the data set again$"):
        record_files.read_dataset_info(tmp_path)


def test_deep_nesting_is_one_line(tmp_path):
    (tmp_path / "dataset.json").write_text('{"a":' * 2000)
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON .*nested too deeply"):
        record_files.read_dataset_info(tmp_path)

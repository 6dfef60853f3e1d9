"""The files of a data set are found, and agree with each other."""

import json

import pytest

from dataset.records import record_files
from dataset.sources import labels


def write_shards(folder, prefix, indices, count, content=b"x"):
    for index in indices:
        (folder / f"{prefix}-{index:05d}-of-{count:05d}").write_bytes(content)


def test_shards_are_found_in_order(tmp_path):
    write_shards(tmp_path, "train", range(12), 12)
    write_shards(tmp_path, "val", range(2), 2)
    (tmp_path / "train-00000-of-00012.tmp").write_bytes(b"")
    found = record_files.find_shards(tmp_path, "train")
    assert found == [str(path) for path in record_files.shard_paths(tmp_path, "train", 12)]
    assert record_files.find_shards(str(tmp_path), "val")[1].endswith("val-00001-of-00002")


def test_bad_sets_of_shards_are_refused_and_named(tmp_path):
    pattern = "train-\\*-of-\\*"
    with pytest.raises(ValueError, match=rf"no record files .*{pattern}.*convert_tfrecords"):
        record_files.find_shards(tmp_path / "nowhere", "train")
    write_shards(tmp_path, "val", range(2), 2)
    with pytest.raises(ValueError, match=pattern):
        record_files.find_shards(tmp_path, "train")
    write_shards(tmp_path, "train", (0, 2), 4)
    with pytest.raises(ValueError, match=rf"{pattern}: 2 of 4 are missing, the first is train-00001-of-00004"):
        record_files.find_shards(tmp_path, "train")
    write_shards(tmp_path, "train", range(4), 4, b"")
    with pytest.raises(ValueError, match=rf"{pattern} hold no records"):
        record_files.find_shards(tmp_path, "train")
    write_shards(tmp_path, "train", range(3), 3)
    with pytest.raises(ValueError, match="sets of 3 and 4 shards"):
        record_files.find_shards(tmp_path, "train")


def test_one_empty_shard_among_others_is_fine(tmp_path):
    write_shards(tmp_path, "train", range(2), 2)
    (tmp_path / "train-00001-of-00002").write_bytes(b"")
    assert len(record_files.find_shards(tmp_path, "train")) == 2


def test_the_data_set_tells_about_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json does not exist"):
        record_files.read_dataset_info(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": ["a"]}))
    assert record_files.read_dataset_info(tmp_path) == {"class_names": ["a"]}
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
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    labels.write_labels(tmp_path / "labels.txt", ["a", "b"])
    assert record_files.class_names(str(tmp_path), None) == ("a", "b")
    labels.write_labels(tmp_path / "labels.txt", ["b", "a"])
    with pytest.raises(ValueError, match=r"labels\.txt has the classes b, a, but .* converted with a, b"):
        record_files.class_names(str(tmp_path), None)

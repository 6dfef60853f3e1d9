"""The schema of records, finding their files, and their class names."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.records import record_files
from dataset.records.contents import read_examples
from dataset.records.schema import RecordObject, serialize
from dataset.records.tfrecord import frame
from dataset.sources import labels

OBJECTS = st.lists(
    st.tuples(st.tuples(*[st.floats(0, 1, width=32)] * 4), st.integers(1, 90), st.booleans(), st.text(max_size=5)),
    max_size=6,
)


def make_record(objects=(), filename="000001.jpg", height=375, width=500, encoded=b"\xff\xd8jpeg"):
    found = [RecordObject(box, label, text, difficult, False) for box, label, difficult, text in objects]
    return serialize(encoded, filename, height, width, found)


def parsed(tmp_path, serialized):
    (tmp_path / "shard").write_bytes(frame(serialized))
    (example,) = read_examples([str(tmp_path / "shard")])
    return example


@settings(max_examples=10, deadline=None)
@given(OBJECTS)
def test_there_and_back(tmp_path_factory, objects):
    example = parsed(tmp_path_factory.mktemp("records"), make_record(objects))
    assert example["image_encoded"] == b"\xff\xd8jpeg"
    assert (example["height"], example["width"]) == (375, 500)
    assert example["boxes_yxyx"].dtype == np.float32
    assert example["boxes_yxyx"].shape == (len(objects), 4)
    assert example["labels"].dtype == np.int64
    assert example["difficult"].dtype == bool
    read = [(tuple(box), label) for box, label in zip(example["boxes_yxyx"], example["labels"], strict=True)]
    assert read == [(box, label) for box, label, _, _ in objects]
    assert example["difficult"].tolist() == [difficult for _, _, difficult, _ in objects]


@pytest.mark.parametrize(
    ("filename", "image_id"),
    [
        ("000001.jpg", b"000001"),
        ("2008_000001.JPEG", b"2008_000001"),
        ("a.b.c.png", b"a.b.c"),
        ("none", b"none"),
        ("mit Leerzeichen ä.jpg", "mit Leerzeichen ä".encode()),
    ],
)
def test_the_id_is_the_name_without_its_last_extension(tmp_path, filename, image_id):
    assert parsed(tmp_path, make_record(filename=filename))["image_id"] == image_id


def test_all_features_of_the_reference_are_there():
    one = ((0.25, 0.5, 0.75, 1.0), 7, True, "car")
    example = tf.train.Example.FromString(make_record([one], encoded=b"\xff\xd8"))
    expected = {
        "image/height": [375], "image/width": [500], "image/channels": [3], "image/shape": [375, 500, 3],
        "image/encoded": [b"\xff\xd8"], "image/format": [b"JPEG"], "image/filename": [b"000001.jpg"],
        "image/object/bbox/ymin": [0.25], "image/object/bbox/xmin": [0.5],
        "image/object/bbox/ymax": [0.75], "image/object/bbox/xmax": [1.0],
        "image/object/bbox/label": [7], "image/object/bbox/label_text": [b"car"],
        "image/object/bbox/difficult": [1], "image/object/bbox/truncated": [0],
    }  # fmt: skip
    feature = example.features.feature
    read = {key: list(getattr(feature[key], feature[key].WhichOneof("kind")).value) for key in feature}
    assert read == expected


def test_a_record_of_the_reference_is_read(tmp_path):
    """As its _convert_to_example builds one, for an image without objects: lists that are set but empty."""
    example = tf.train.Example()
    feature = example.features.feature
    for key, values in (("height", [3]), ("width", [4]), ("channels", [3]), ("shape", [3, 4, 3])):
        feature[f"image/{key}"].int64_list.value.extend(values)
    for key, value in (("encoded", b"x"), ("format", b"JPEG"), ("filename", b"2007_000027.jpg")):
        feature[f"image/{key}"].bytes_list.value.append(value)
    for key in ("ymin", "xmin", "ymax", "xmax"):
        feature[f"image/object/bbox/{key}"].float_list.SetInParent()
    for key in ("label", "difficult", "truncated"):
        feature[f"image/object/bbox/{key}"].int64_list.SetInParent()
    feature["image/object/bbox/label_text"].bytes_list.SetInParent()
    read = parsed(tmp_path, example.SerializeToString())
    assert read["image_id"] == b"2007_000027"
    assert read["boxes_yxyx"].shape == (0, 4)


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

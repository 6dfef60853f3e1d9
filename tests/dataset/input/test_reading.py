"""Counting and checking records, and reading their objects back."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset.input import eval_input_fn, first_examples, ground_truth_of
from dataset.records import record_files
from dataset.records.record_files import count_records
from dataset.records.schema import RecordObject, frame, serialize
from dataset.sources import labels, voc
from tests.builders.convert import convert_voc
from tests.builders.records import (
    CAT,
    DOG,
    config,
    elements,
    encoded,
    ids_of,
    one_epoch,
    record,
    write_shards,
)


def reference_example(number, boxes, classes, difficult):
    """As the reference's _convert_to_example builds one, feature by feature."""
    ints = {
        "image/height": [40],
        "image/width": [48],
        "image/channels": [3],
        "image/shape": [40, 48, 3],
        "image/object/bbox/label": classes,
        "image/object/bbox/difficult": difficult,
        "image/object/bbox/truncated": [0] * len(classes),
    }
    texts = {
        "image/object/bbox/label_text": [b"cat"] * len(classes),
        "image/format": [b"JPEG"],
        "image/filename": [b"2008_%06d.jpg" % number],
        "image/encoded": [encoded(number)],
    }
    sides = ("ymin", "xmin", "ymax", "xmax")
    floats = {f"image/object/bbox/{side}": [box[i] for box in boxes] for i, side in enumerate(sides)}
    example = tf.train.Example()
    for name, value in ints.items():
        example.features.feature[name].int64_list.value.extend(value)
        example.features.feature[name].int64_list.SetInParent()
    for name, value in texts.items():
        example.features.feature[name].bytes_list.value.extend(value)
        example.features.feature[name].bytes_list.SetInParent()
    for name, value in floats.items():
        example.features.feature[name].float_list.value.extend(value)
        example.features.feature[name].float_list.SetInParent()
    return example.SerializeToString()


def test_records_of_the_reference_are_read(tmp_path):
    shards = [str(path) for path in record_files.shard_paths(tmp_path, "train", 2)]
    for number, shard in enumerate(shards):
        with tf.io.TFRecordWriter(shard) as writer:
            writer.write(reference_example(number, [CAT[0], DOG[0]], [8, 12], [0, 1]))
            writer.write(reference_example(number + 2, [], [], []))
    assert count_records(record_files.find_shards(tmp_path, "train")) == 4
    assert record_files.class_names(str(tmp_path), 21) == labels.VOC_CLASSES
    found = one_epoch(shards, 4)
    assert set(found) == {f"2008_{number:06d}" for number in range(4)}
    boxes, classes = found["2008_000001"]
    assert classes.tolist() == [8]
    np.testing.assert_allclose(boxes, [CAT[0]], atol=1e-6)
    assert found["2008_000003"][1].tolist() == [0]
    (batch,) = elements(eval_input_fn(shards, config(), batch_size=8))
    assert ids_of([batch]) == ["2008_000000", "2008_000002", "2008_000001", "2008_000003"]


def test_records_are_counted_without_reading_them(twenty, mixed):
    assert count_records(twenty) == 20
    assert count_records(mixed[:1]) == 3


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
    (tmp_path / "dataset.json").write_text(json.dumps({"splits": {"train": {"images": 3}}}))
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


def test_records_with_labels_without_a_name_are_an_error(mixed):
    first_examples(mixed, labels.VOC_CLASSES[:15])
    with pytest.raises(ValueError, match=r"image 002 has class ids \[8, 12, 15\], but there are 14 class names"):
        first_examples(mixed, labels.VOC_CLASSES[:14])


def test_ground_truth_is_exactly_that_of_the_annotations(tmp_path, voc_sample):
    """Whole pixels go through float32 parts of the image and come back as they were."""
    convert_voc(dataset_directory=voc_sample, output_directory=tmp_path, train_splits=[], validation_shards=3)
    found = ground_truth_of(record_files.find_shards(tmp_path, "val"), labels.VOC_CLASSES)
    split = voc_sample / "VOC2007TEST"
    ids = voc.read_image_set(split, "test")
    assert [annotation.image_id for annotation in found] == ids
    objects = 0
    for annotation in found:
        wanted = voc.read_annotation(voc.annotation_path(split, annotation.image_id))
        assert (annotation.height, annotation.width) == (wanted.height, wanted.width)
        assert [(each.name, each.box_yxyx_px, each.difficult) for each in annotation.objects] == [
            (each.name, each.box_yxyx_px, each.difficult) for each in wanted.objects
        ]
        objects += len(annotation.objects)
    assert objects > 300


def test_pixels_of_the_widest_images_come_back_too(tmp_path):
    sides = np.array([[1, 1, 6000, 5999], [17, 4999, 3333, 5000]])
    boxes = sides / 6000
    objects = [RecordObject(boxes[0], 1, "a", True, False), RecordObject(boxes[1], 2, "b", False, False)]
    serialized = serialize(b"never decoded", "wide.jpg", 6000, 6000, objects)
    (tmp_path / "val").write_bytes(frame(serialized))
    (annotation,) = ground_truth_of([str(tmp_path / "val")], ("a", "b"))
    assert [each.box_yxyx_px for each in annotation.objects] == [tuple(map(float, box)) for box in sides.tolist()]
    assert [(each.name, each.difficult) for each in annotation.objects] == [("a", True), ("b", False)]
    with pytest.raises(ValueError, match=r"image wide has class ids \[1, 2\], but there are 1 class names"):
        ground_truth_of([str(tmp_path / "val")], ("a",))

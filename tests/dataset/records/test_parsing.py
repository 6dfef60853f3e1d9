"""A broken record is found and named, or left out; objects are read back as annotations."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset import input
from dataset.input import eval_input_fn
from dataset.records import parsing, record_files
from dataset.records.parsing import first_examples, ground_truth_of, read_examples
from dataset.records.schema import RecordObject, serialize
from dataset.sources import labels, voc
from tests.builders import broken_records
from tests.builders.convert import convert_voc
from tests.builders.records import config, elements, encoded, ids_of, mixed_images, record, train_input
from utility.errors import UserError
from utility.files import tfrecord
from utility.files.tfrecord import frame

OF_ONE_RECORD = [*broken_records.RECORDS, *broken_records.BYTES]
SOME = ["no example", "another kind", "more labels", "flipped bit"]  # found by four ways


def named(reason):
    return rf"the record file .*train-00001-of-00002, record 2: .*{reason}"


@pytest.mark.parametrize("kind", OF_ONE_RECORD)
def test_evaluation_stops_at_a_fault_and_names_it(tmp_path, kind):
    """TensorFlow's parser refuses what is searched for then."""
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=named(reason)) as caught, parsing.faults_named(shards, 20):
        elements(eval_input_fn(shards, config(), batch_size=2))
    message = str(caught.value)
    assert "--skip_bad_records" in message and "\n" not in message and len(message) < 400 + len(shards[1])
    assert "{{node" not in message and "assertion failed" not in message


@pytest.mark.parametrize("kind", broken_records.ENDS)
def test_the_end_of_a_file_is_named(tmp_path, kind):
    (_, shard), reason = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=named(reason)), parsing.faults_named([shard], 20):
        raise tf.errors.DataLossError(None, None, "somewhere")
    with pytest.raises(UserError, match=named(reason)):
        ground_truth_of([shard], labels.VOC_CLASSES)


@pytest.mark.parametrize("kind", [*SOME, "label 21"])
def test_training_stops_at_it_and_names_it(tmp_path, kind):
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=named(reason)):
        ground_truth_of(shards, labels.VOC_CLASSES)
    for skip_empty_images in (False, True):
        with pytest.raises(UserError, match=named(reason)):
            input.training_records(shards, config(), skip_empty_images)


@pytest.mark.parametrize("kind", [*SOME, "label 0"])
def test_the_inspector_names_it_whatever_the_class_names(tmp_path, kind):
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=named(reason.replace("there are 20 class names", "class ids begin with 1"))):
        list(read_examples(shards))


@pytest.mark.parametrize("kind", ["flipped bit", "NaN", "more labels", "label 21"])
def test_a_fault_beyond_the_first_records_is_found_in_the_training(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(parsing, "_FIRST", 1)
    shards, reason = broken_records.write(tmp_path, kind)
    records = input.training_records(shards, config())
    with pytest.raises(UserError, match=named(reason)), records.faults_named(config()):
        elements(train_input(shards, config()), 5)


@pytest.mark.parametrize("kind", broken_records.ENDS)
def test_a_file_that_cannot_be_counted_is_named_with_the_record(tmp_path, kind):
    shards, _ = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=r"train-00001-of-00002 is cut off or no TFRecord, record 2: "):
        record_files.count_records(shards)


def test_another_error_stays_what_it_is(tmp_path):
    shards, _ = broken_records.write(tmp_path, "NaN")
    original = tf.errors.InvalidArgumentError(None, None, "of the network")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught, parsing.faults_named(shards[:1], 20):
        raise original
    assert caught.value is original
    with pytest.raises(tf.errors.ResourceExhaustedError), parsing.faults_named(shards, 20):
        raise tf.errors.ResourceExhaustedError(None, None, "memory")


@pytest.mark.parametrize("kind", [*SOME, "label 21", *broken_records.ENDS])
def test_broken_records_are_left_out_counted_and_logged(tmp_path, capsys, kind):
    shards, _ = broken_records.write(tmp_path, kind)
    (tmp_path / "dataset.json").write_text(
        json.dumps({"class_names": [], "splits": {"train": {"images": 6, "skipped": []}}})
    )
    records = input.training_records(shards, config(), skip_bad_records=True)
    assert [*records.images_by_file.values()] == [1, 1 if kind in broken_records.ENDS else 4]
    assert next(iter(records.images_by_file)) == shards[0], "a file without faults is read where it is"
    printed = capsys.readouterr().out
    assert "1 broken records in 1 of 2 record files are left out" in printed and "train-00001-of-00002, rec" in printed
    assert ("all that follows in 1 of the files" in printed) == (kind in broken_records.ENDS)
    left = ids_of(elements(eval_input_fn([*records.images_by_file], config(), batch_size=9)))
    assert left == (["009", "000"] if kind in broken_records.ENDS else ["009", "000", "002", "003", "004"])
    again = input.training_records(shards, config(), skip_empty_images=True, skip_bad_records=True)
    assert [*again.images_by_file.values()] == [*records.images_by_file.values()]


def with_picture(encoded_picture):
    return broken_records.with_values("image/encoded", "bytes", [encoded_picture])


def write_with(folder, serialized):
    """Two files, the second of which has this record as its second."""
    made = [record(9), record(0), serialized, record(2)]
    paths = record_files.shard_paths(folder, "train", 2)
    for path, part in zip(paths, (made[:1], made[1:]), strict=True):
        path.write_bytes(b"".join(map(tfrecord.frame, part)))
    return [str(path) for path in paths]


JPEG, PNG = encoded(1), encoded(1, "PNG")
PICTURES = {
    "cut off": JPEG[:-30],
    "of another size": JPEG.replace(JPEG[JPEG.index(b"\xff\xc0") :][5:9], b"\xff\xff\xff\xff"),
    "cut off PNG": PNG[:-30],
    "text": b"no picture",
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_cannot_be_decoded_is_named_or_left_out(tmp_path, capfd, kind):
    shards = write_with(tmp_path, with_picture(PICTURES[kind]))
    is_jpeg = PICTURES[kind].startswith(b"\xff\xd8")
    with pytest.raises(UserError, match=named("its picture cannot be decoded")), parsing.faults_named(shards, 20):
        elements(eval_input_fn(shards, config(), batch_size=2))
    printed = capfd.readouterr()
    assert "looking for the broken record in 2 record files" in printed.out
    records = input.training_records(shards, config())
    reason = "its picture cannot be decoded" if is_jpeg else "its picture is no JPEG, which training needs"
    with pytest.raises(UserError, match=named(reason)), records.faults_named(config()):
        elements(train_input(shards, config()), 9)
    left = parsing.without_faults(shards, 20)
    assert "1 broken records in 1 of 2 record files are left out" in capfd.readouterr().out
    assert ids_of(elements(eval_input_fn(left, config(), batch_size=9))) == ["009", "000", "002"]
    assert input.training_records(shards, config(), skip_bad_records=True).images == 3


def test_evaluation_takes_a_png_and_training_names_it(tmp_path):
    shards = write_with(tmp_path, with_picture(PNG))
    assert len(ids_of(elements(eval_input_fn(shards, config(), batch_size=9)))) == 4
    assert parsing.without_faults(shards, 20) == shards
    records = input.training_records(shards, config())
    with pytest.raises(UserError, match=named("its picture is no JPEG")), records.faults_named(config()):
        elements(train_input(shards, config()), 9)
    assert input.training_records(shards, config(), skip_bad_records=True).images == 3


@pytest.mark.parametrize("kind", ["NaN", "another kind"])
def test_what_tensorflow_says_on_the_way_of_an_error_is_not_printed(tmp_path, capfd, kind):
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(UserError, match=named(reason)):
        ground_truth_of(shards, labels.VOC_CLASSES)
    assert capfd.readouterr().err == ""


def test_files_without_faults_are_not_copied(twenty_records):
    assert parsing.without_faults(twenty_records, 20) == twenty_records


@pytest.fixture
def twenty_records(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    path.write_bytes(b"".join(tfrecord.frame(record(number)) for number in range(20)))
    return [str(path)]


def test_a_record_without_objects_or_with_unset_lists_is_sound(tmp_path):
    lists = [name for name in tf.train.Example.FromString(record(1)).features.feature if "/object/" in name]
    name = broken_records.with_values("image/filename", "bytes", ["漢\ufffd😀.jpg".encode()])
    path = tmp_path / "shard"
    path.write_bytes(b"".join(map(tfrecord.frame, [record(1, ()), broken_records.without(*lists), name])))
    found = [*read_examples([str(path)], 20)]
    assert [len(example["labels"]) for example in found] == [0, 0, 1]
    assert found[2]["image_id"].decode() == "漢\ufffd😀"


def test_records_with_labels_without_a_name_are_an_error(tmp_path):
    shards = mixed_images(tmp_path)
    assert len(first_examples(shards, labels.VOC_CLASSES[:15])) == 5
    with pytest.raises(UserError, match="image 002 has class ids from 8 to 15, but there are 14 class names"):
        first_examples(shards, labels.VOC_CLASSES[:14])


def test_ground_truth_is_exactly_that_of_the_annotations(tmp_path, drawn_voc):
    """Whole pixels go through float32 parts of the image and come back as they were."""
    convert_voc(
        dataset_directory=drawn_voc, output_directory=tmp_path, train_splits=[], validation_shards=3, labels_file="auto"
    )
    names = record_files.class_names(tmp_path, None)
    found = ground_truth_of(record_files.find_shards(tmp_path, "val"), names)
    split = drawn_voc / "VOC2007TEST"
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
    assert objects > 12


def test_pixels_of_the_widest_images_come_back_too(tmp_path):
    sides = np.array([[1, 1, 6000, 5999], [17, 4999, 3333, 5000]])
    boxes = sides / 6000
    objects = [RecordObject(boxes[0], 1, "a", True, False), RecordObject(boxes[1], 2, "b", False, False)]
    serialized = serialize(b"never decoded", "wide.jpg", 6000, 6000, objects)
    (tmp_path / "val").write_bytes(frame(serialized))
    (annotation,) = ground_truth_of([str(tmp_path / "val")], ("a", "b"))
    assert [each.box_yxyx_px for each in annotation.objects] == [tuple(map(float, box)) for box in sides.tolist()]
    assert [(each.name, each.difficult) for each in annotation.objects] == [("a", True), ("b", False)]
    with pytest.raises(UserError, match="image wide has class ids from 1 to 2, but there are 1 class names"):
        ground_truth_of([str(tmp_path / "val")], ("a",))

"""A broken record is found and named, in Python and in the graph, or left out."""

import pytest
import tensorflow.compat.v1 as tf

from dataset.input import reading, training
from dataset.input.evaluation import eval_input_fn
from dataset.records import contents, faults, record_files, scanning, tfrecord
from dataset.sources import labels
from tests.builders import broken_records
from tests.builders.records import config, elements, ids_of, record, train_input

OF_ONE_RECORD = [*broken_records.RECORDS, *broken_records.BYTES]
WITHOUT_NAMES = [kind for kind in OF_ONE_RECORD if kind != "label 21"]


def named(reason):
    return rf"the record file .*train-00001-of-00002, record 2: .*{reason}"


@pytest.mark.parametrize("kind", [*OF_ONE_RECORD, *broken_records.ENDS])
def test_a_fault_is_found_where_it_is(tmp_path, kind):
    (_, shard), reason = broken_records.write(tmp_path, kind)
    (fault,) = faults.faults_in(shard, 20)
    assert fault.number == 2 and fault.ends_file == (kind in broken_records.ENDS)
    with pytest.raises(ValueError, match=named(reason)) as caught, scanning.faults_named([shard], 20):
        raise tf.errors.DataLossError(None, None, "somewhere")
    message = str(caught.value)
    assert "--skip_bad_records" in message and "\n" not in message and len(message) < 400 + len(shard)


@pytest.mark.parametrize("kind", OF_ONE_RECORD)
def test_training_and_evaluation_stop_at_it_and_name_it(tmp_path, kind):
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(ValueError, match=named(reason)):
        reading.ground_truth_of(shards, labels.VOC_CLASSES)
    for skip_empty_images in (False, True):
        with pytest.raises(ValueError, match=named(reason)):
            training.training_records(shards, config(), skip_empty_images)
    with pytest.raises(ValueError, match=named(reason)), scanning.faults_named(shards, 20):
        elements(eval_input_fn(shards, config(), batch_size=2))


@pytest.mark.parametrize("kind", WITHOUT_NAMES)
def test_the_inspector_names_it(tmp_path, kind):
    shards, reason = broken_records.write(tmp_path, kind)
    with pytest.raises(ValueError, match=named(reason.replace("there are 20 class names", "class ids begin with 1"))):
        list(contents.read_examples(shards))


@pytest.mark.parametrize("kind", ["flipped bit", "NaN", "more labels", "label 21"])
def test_a_fault_beyond_the_first_records_is_found_in_the_training(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(reading, "_CHECKED_PER_FILE", 1)
    shards, reason = broken_records.write(tmp_path, kind)
    records = training.training_records(shards, config())
    with pytest.raises(ValueError, match=named(reason)), records.faults_named(config()):
        elements(train_input(shards, config()), 5)


@pytest.mark.parametrize("kind", broken_records.ENDS)
def test_a_file_that_cannot_be_counted_is_named_with_the_record(tmp_path, kind):
    shards, _ = broken_records.write(tmp_path, kind)
    with pytest.raises(ValueError, match=r"train-00001-of-00002 is cut off or no TFRecord, record 2: "):
        record_files.count_records(shards)


def test_another_error_stays_what_it_is(tmp_path):
    shards, _ = broken_records.write(tmp_path, "NaN")
    original = tf.errors.InvalidArgumentError(None, None, "of the network")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught, scanning.faults_named(shards[:1], 20):
        raise original
    assert caught.value is original
    with pytest.raises(tf.errors.ResourceExhaustedError), scanning.faults_named(shards, 20):
        raise tf.errors.ResourceExhaustedError(None, None, "memory")


@pytest.mark.parametrize("kind", [*OF_ONE_RECORD, *broken_records.ENDS])
def test_broken_records_are_left_out_counted_and_logged(tmp_path, capsys, kind):
    shards, _ = broken_records.write(tmp_path, kind)
    (tmp_path / "dataset.json").write_text('{"splits": {"train": {"images": 6}}}')
    records = training.training_records(shards, config(), skip_bad_records=True)
    assert [*records.images_by_file.values()] == [1, 1 if kind in broken_records.ENDS else 4]
    assert next(iter(records.images_by_file)) == shards[0], "a file without faults is read where it is"
    printed = capsys.readouterr().out
    assert "1 broken records in 1 of 2 record files are left out" in printed and "train-00001-of-00002, rec" in printed
    assert ("all that follows in 1 of the files" in printed) == (kind in broken_records.ENDS)
    left = ids_of(elements(eval_input_fn([*records.images_by_file], config(), batch_size=9)))
    assert left == (["009", "000"] if kind in broken_records.ENDS else ["009", "000", "002", "003", "004"])
    again = training.training_records(shards, config(), skip_empty_images=True, skip_bad_records=True)
    assert [*again.images_by_file.values()] == [*records.images_by_file.values()]


def test_files_without_faults_are_not_copied(twenty_records):
    assert scanning.without_faults(twenty_records, 20) == twenty_records


@pytest.fixture
def twenty_records(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    path.write_bytes(b"".join(tfrecord.frame(record(number)) for number in range(20)))
    return [str(path)]


def test_a_record_without_objects_or_with_unset_lists_is_sound():
    assert faults.fault_of(record(1, ())) == ""
    none = [name for name in tfrecord.decode_example(record(1)) if "/object/" in name]
    features = {name: value for name, value in tfrecord.decode_example(record(1)).items() if name not in none}
    assert faults.fault_of(broken_records.encode(features)) == ""
    assert faults.fault_of(broken_records.with_values("image/filename", "bytes", ["漢\ufffd😀.jpg".encode()])) == ""


def test_the_flipped_bit_of_a_genuine_photograph(tmp_path):
    from tests.conftest import _shared

    folder = _shared("cases/crc_flip")
    shards = record_files.find_shards(folder, "train")
    with pytest.raises(ValueError, match=r"crc_flip/train-0000\d-of-00005, record 1: its bytes are damaged"):
        training.training_records(shards, config())
    assert training.training_records(shards, config(), skip_bad_records=True).images == 4

"""Scalars of TensorBoard's event files."""

import tensorflow.compat.v1 as tf

from tests.builders.events import write_events
from utility.files.event_files import read_scalars

TAGS = ("loss", "rate")


def test_scalars_by_tag_and_step_and_no_others(tmp_path):
    write_events(tmp_path, 5, {"loss": {1: 3.0, 2: 2.0}, "rate": {2: 0.5}, "other": {1: 1.0}})
    assert read_scalars(tmp_path, TAGS) == {"loss": {1: 3.0, 2: 2.0}, "rate": {2: 0.5}}
    assert read_scalars(tmp_path / "missing", TAGS) == {}


def test_what_tensorflow_itself_writes_is_read(tmp_path):
    with tf.Graph().as_default(), tf.summary.FileWriter(str(tmp_path), tf.get_default_graph()) as writer:
        writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="loss", simple_value=2.5)]), 7)
    assert read_scalars(tmp_path, TAGS) == {"loss": {7: 2.5}}


def test_of_steps_in_two_runs_the_later_one_counts(tmp_path):
    """It went on from step 20: the first one's steps from 30 on were lost, those that the later has no value of too."""
    write_events(tmp_path, 9, {"loss": dict.fromkeys((1, 10, 20, 30, 35, 40), 1.0), "rate": {20: 1.0, 40: 1.0}})
    write_events(tmp_path, 10, {"loss": dict.fromkeys((30, 50), 2.0)})
    found = read_scalars(tmp_path, TAGS)
    assert found == {"loss": {1: 1.0, 10: 1.0, 20: 1.0, 30: 2.0, 50: 2.0}, "rate": {20: 1.0}}
    assert list(found["loss"]) == [1, 10, 20, 30, 50]


def test_a_run_that_has_not_written_a_scalar_yet_takes_nothing_away(tmp_path):
    write_events(tmp_path, 5, {"loss": {1: 3.0}})
    write_events(tmp_path, 6, {"other": {1: 3.0}})
    write_events(tmp_path, 7, {})
    (tmp_path / "events.out.tfevents.8.host").write_bytes(b"")
    assert read_scalars(tmp_path, TAGS) == {"loss": {1: 3.0}}


def test_of_a_cut_off_or_broken_file_the_part_before_counts(tmp_path):
    path = write_events(tmp_path, 5, {"loss": dict.fromkeys(range(10), 1.0)})
    whole = path.read_bytes()
    for broken in (whole[:-7], whole[:-40] + bytes(40), whole[:-20] + b"more" + whole[-16:]):
        path.write_bytes(broken)
        assert set(range(8)) <= set(read_scalars(tmp_path, TAGS)["loss"]) < set(range(10))
    path.write_bytes(b"no event file at all")
    assert read_scalars(tmp_path, TAGS) == {}
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff no event")
    assert read_scalars(tmp_path, TAGS) == {}

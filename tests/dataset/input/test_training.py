"""The input function of training: which images come, in which order, with which labels."""

import json
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset import input
from dataset.input import Parallelism, eval_input_fn, training_records
from dataset.records import record_files
from dataset.records.record_files import count_records
from dataset.sources import labels
from tests.builders.convert import convert_voc
from tests.builders.records import (
    CAT,
    DIFFICULT,
    DOG,
    assert_same,
    config,
    elements,
    encoded,
    ids_of,
    images_of,
    mixed_images,
    one_epoch,
    record,
    train_input,
    write_shards,
)
from tests.builders.voc import VocBuilder, box
from utility.run.layout import RunLayout


@pytest.mark.parametrize(("readers", "threads"), [(1, 1), (3, 2), (40, 7)])
def test_a_seed_gives_the_same_stream_whatever_the_parallelism(twenty, stream, readers, threads):
    again = train_input(twenty, config(), parallelism=Parallelism(readers, threads, deterministic=True))
    assert_same(elements(again, 15), stream)


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
def test_a_seed_of_64_bits(twenty, stream, seed):
    """Both ends, also in the second epoch."""
    first, second = (elements(train_input(twenty, config(), seed=seed), 6) for _ in range(2))
    assert_same(first, second)
    assert ids_of(first) != ids_of(stream[:6])


@pytest.mark.parametrize("step", [1, 4, 5, 7, 10, 14])
def test_a_stream_that_starts_at_a_step_is_the_rest_of_the_whole_one(twenty, stream, step):
    """Five steps are an epoch of the 20 images; the graph may hold other operations by then."""
    late = train_input(twenty, config(), first_step=step)

    def in_another_graph():
        tf.random.uniform([])
        return late()

    assert_same(elements(in_another_graph, 15 - step), stream[step:])


def test_an_epoch_ends_in_the_middle_of_a_batch_too(twenty):
    def batches_of_three(first_step, count):
        return elements(train_input(twenty, config(batch_size=3), first_step=first_step), count)

    whole = batches_of_three(0, 16)
    for step in (6, 7, 13, 14):
        assert_same(batches_of_three(step, 16 - step), whole[step:])


def test_images_that_are_left_out_do_not_count_for_the_place_in_the_data(mixed):
    """Three of the five images have an object to learn from."""

    def batches_of_two(first_step, count):
        return elements(train_input(mixed, config(batch_size=2), first_step=first_step, skip_empty_images=True), count)

    whole = batches_of_two(0, 8)
    assert sorted(ids_of(whole)[:3]) == sorted(ids_of(whole)[3:6]) == ["001", "002", "004"]
    for step in (1, 2, 3, 5):
        assert_same(batches_of_two(step, 8 - step), whole[step:])


def test_the_images_of_an_epoch(mixed):
    assert training_records(mixed, config(), skip_empty_images=True).images == 3
    assert training_records(mixed, config(targets__use_difficult=True), skip_empty_images=True).images == 4
    assert training_records(mixed, config()).images == 5


def test_the_stream_starts_at_the_step_of_the_time_when_it_is_made(twenty, stream):
    steps = iter((0, 4))
    records = training_records(twenty, config())
    input_fn = input.training_input_fn(
        records, config(), RunLayout(4), 7, lambda: next(steps), Parallelism(deterministic=True)
    )
    assert_same(elements(input_fn, 2), stream[:2])
    assert_same(elements(input_fn, 2), stream[4:6])


def test_without_deterministic_a_late_stream_has_the_rest_of_the_epoch_first(twenty):
    seen = ids_of(elements(train_input(twenty, config(), parallelism=Parallelism(readers=1, deterministic=True)), 4))
    late = train_input(twenty, config(), first_step=4, parallelism=Parallelism(readers=1, threads=1))
    assert set(ids_of(elements(late, 1))) == {f"{number:03d}" for number in range(20)} - set(seen)


@pytest.mark.parametrize(
    ("making", "using", "least", "most"), [(0.04, 0.0, 0.75, 1.0), (0.04, 0.02, 0.2, 0.75), (0.0, 0.04, 0.0, 0.25)]
)
def test_the_wait_for_an_element_is_what_the_step_stands_still(making, using, least, most):
    """An element takes so long to make, and a step so long; what is made meanwhile need not be waited for."""

    def slow(number):
        time.sleep(making)
        return number

    def input_fn():
        dataset = tf.data.Dataset.range(1000).map(lambda number: tf.numpy_function(slow, [number], tf.int64))
        return input._timed(dataset.map(lambda number: ({"number": number}, {})).prefetch(2))

    with tf.Graph().as_default(), tf.Session() as session:
        features, _ = tf.data.make_one_shot_iterator(input_fn()).get_next()
        session.run(features)
        waited, start = 0.0, time.monotonic()
        for _ in range(20):
            waited += session.run(features)["host_wait"]
            time.sleep(using)
        assert least <= waited / (time.monotonic() - start) <= most


def test_another_seed_gives_another_stream(twenty, stream):
    other = elements(train_input(twenty, config(), seed=8), 15)
    assert ids_of(other) != ids_of(stream)
    # the same image is augmented in another way
    one, two = (images_of(batches[:5]) for batches in (stream, other))
    assert sum(np.abs(one[name] - two[name]).mean() > 1 for name in one) > 15


def test_each_pass_has_every_image_once_in_an_order_of_its_own(stream):
    ids = ids_of(stream)
    passes = [ids[:20], ids[20:40], ids[40:]]
    for ids_of_pass in passes:
        assert sorted(ids_of_pass) == [f"{number:03d}" for number in range(20)]
    assert len({tuple(ids_of_pass) for ids_of_pass in passes}) == 3


def test_an_image_is_augmented_anew_in_each_pass(stream):
    first, second = images_of(stream[:5]), images_of(stream[5:10])
    changed = [np.abs(first[name] - second[name]).mean() > 1 for name in first]
    assert np.mean(changed) > 0.8


def test_no_augmentation_comes_twice_neither_in_a_stream_nor_with_another_seed(tmp_path):
    shards = write_shards(tmp_path, [record(0)], 1)
    views = []
    for seed in (7, 8):
        input_fn = train_input(shards, config(batch_size=30), seed)
        ((features, _),) = elements(input_fn, 1)
        views += [image.tobytes() for image in features["image"]]
    assert len(set(views)) == 60


def test_without_deterministic_all_images_come_too(twenty):
    batches = elements(train_input(twenty, config(), parallelism=Parallelism(readers=3, threads=2)), 15)
    assert set(ids_of(batches)) == {f"{number:03d}" for number in range(20)}


def test_elements_are_as_promised(stream):
    for features, truth in stream:
        assert features["image"].shape == (4, 32, 32, 3) and features["image"].dtype == np.float32
        assert np.isfinite(features["image"]).all() and np.abs(features["image"]).max() < 256
        assert truth["boxes_yxyx"].shape == (*truth["labels"].shape, 4) and truth["boxes_yxyx"].dtype == np.float32
        assert truth["labels"].dtype == np.int64
        assert set(np.unique(truth["labels"])) <= {0, 8}
        assert truth["boxes_yxyx"].min(initial=0) >= 0 and truth["boxes_yxyx"].max(initial=0) <= 1


def test_batches_are_padded_with_label_0_and_difficult_objects_left_out(mixed):
    found = one_epoch(mixed, 5)
    wanted = {"000": [], "001": [CAT], "002": [DOG, CAT], "003": [], "004": [DOG]}
    assert set(found) == set(wanted)
    for image_id, objects in wanted.items():
        boxes, classes = found[image_id]
        assert classes.tolist() == [label for _, label, _ in objects] + [0] * (2 - len(objects))
        np.testing.assert_allclose(boxes[: len(objects)], np.reshape([box for box, *_ in objects], (-1, 4)), atol=1e-6)
        assert (boxes[len(objects) :] == 0).all()


def test_difficult_objects_are_learnt_from_when_asked_for(mixed):
    found = one_epoch(mixed, 5, targets__use_difficult=True)
    assert {name: classes.tolist() for name, (_, classes) in found.items()} == {
        "000": [0, 0, 0],
        "001": [8, 0, 0],
        "002": [12, 15, 8],
        "003": [15, 0, 0],
        "004": [12, 0, 0],
    }


@pytest.mark.parametrize(("use_difficult", "left"), [(False, {"001", "002", "004"}), (True, set("1234"))])
def test_images_without_objects_are_left_out_when_asked_for(mixed, use_difficult, left):
    left = {name.zfill(3) for name in left}
    found = one_epoch(mixed, len(left), skip_empty_images=True, targets__use_difficult=use_difficult)
    assert set(found) == left


@pytest.mark.parametrize("objects", [(), (DIFFICULT,)], ids=["no object", "difficult"])
def test_leaving_out_every_image_is_an_error_not_an_endless_wait(tmp_path, objects):
    shards = write_shards(tmp_path, [record(number, objects) for number in range(3)], 1)
    with pytest.raises(ValueError, match=r"--skip_empty_images.*train-00000-of-00001"):
        training_records(shards, config(), skip_empty_images=True)
    assert len(elements(train_input(shards, config(), parallelism=Parallelism()), 2)) == 2


@pytest.fixture
def files_read(monkeypatch):
    """The record files whose images with objects were counted by reading all records, in order."""
    read: list[str] = []
    original = input._count_with_objects

    def counted(shards, config):
        read.extend(shards)
        return original(shards, config)

    monkeypatch.setattr(input, "_count_with_objects", counted)
    return read


@pytest.mark.parametrize(("use_difficult", "wanted"), [(False, [2, 1]), (True, [2, 2])])
def test_images_with_objects_are_read_once_or_not_if_the_converter_has_counted_them(
    tmp_path, files_read, use_difficult, wanted
):
    shards, setting = mixed_images(tmp_path), config(targets__use_difficult=use_difficult)
    by_shard = {"images": [3, 2], "with_objects": [2, 2], "with_objects_not_difficult": [2, 1]}

    def counted(**changes):
        files_read.clear()
        split = {"images": 5, "skipped": [], "images_by_shard": {**by_shard, **changes}}
        (tmp_path / "dataset.json").write_text(json.dumps({"class_names": [], "splits": {"train": split}}))
        return [*training_records(shards, setting, skip_empty_images=True).images_by_file.values()]

    assert counted() == wanted and files_read == []
    used = "with_objects" if use_difficult else "with_objects_not_difficult"
    cases: tuple[dict, ...] = ({"images": [2, 3]}, {"images": []}, {used: [1]})
    for wrong in cases:
        assert counted(**wrong) == wanted and files_read == shards
    (tmp_path / "dataset.json").unlink()
    files_read.clear()
    assert [*training_records(shards, setting, skip_empty_images=True).images_by_file.values()] == wanted
    assert files_read == shards


def test_what_the_converter_counts_is_what_reading_finds(tmp_path, files_read):
    """Some of the pictures have difficult objects only, and some none."""
    voc = VocBuilder(tmp_path / "voc")
    kinds: tuple[list, ...] = (
        [box(1, 1, 9, 9)],
        [box(1, 1, 9, 9, difficult=1)],
        [],
        [box(1, 1, 9, 9), box(2, 2, 8, 8, difficult=1)],
    )
    for number in range(10):
        voc.add(f"{number}", *kinds[number % 4])
    convert_voc(dataset_directory=voc.root, output_directory=tmp_path, validation_splits=[], train_shards=4)
    shards = record_files.find_shards(tmp_path, "train")
    for use_difficult in (False, True):
        setting = config(targets__use_difficult=use_difficult)
        told = training_records(shards, setting, skip_empty_images=True).images_by_file
        assert files_read == []
        (tmp_path / "dataset.json").rename(tmp_path / "away")
        assert training_records(shards, setting, skip_empty_images=True).images_by_file == told
        (tmp_path / "away").rename(tmp_path / "dataset.json")
        assert files_read == shards
        files_read.clear()


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

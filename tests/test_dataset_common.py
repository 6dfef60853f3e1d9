"""Input functions: which images come, in which order, with which labels; and reading records back."""

import io
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset import convert_tfrecords, dataset_common, labels, records, voc
from dataset.tfrecord import frame
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from tests.helpers import voc_config
from tests.voc_builder import picture
from utility.config import NO_AUGMENTATION

SIDE = (32, 32)
CAT = ((0.25, 0.25, 0.75, 0.75), 8, False)
DOG = ((0.1, 0.2, 0.6, 0.9), 12, False)
DIFFICULT = ((0.5, 0.5, 1.0, 1.0), 15, True)


def config(batch_size=4, **values):
    return voc_config(network__image_size=SIDE, schedule__batch_size=batch_size, **values)


def encoded(number, kind="JPEG"):
    buffer = io.BytesIO()
    picture((48, 40), seed=number).save(buffer, kind)
    return buffer.getvalue()


def record(number, objects=(CAT,), kind="JPEG"):
    return records.serialize(
        image_encoded=encoded(number, kind),
        filename=f"{number:03d}.jpg",
        height=40,
        width=48,
        boxes_yxyx=np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
        labels=[label for _, label, _ in objects],
        label_texts=["" for _ in objects],
        difficult=[difficult for _, _, difficult in objects],
        truncated=[False for _ in objects],
    )


def write_shards(folder, serialized, shards, prefix="train"):
    """Write records to shards, the first ones into the first shard; returns the paths as text."""
    paths = records.shard_paths(folder, prefix, shards)
    for path, part in zip(paths, np.array_split(np.arange(len(serialized)), shards), strict=True):
        path.write_bytes(b"".join(frame(serialized[number]) for number in part))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """20 images with a cat each in 5 shards."""
    return write_shards(tmp_path_factory.mktemp("twenty"), [record(number) for number in range(20)], 5)


def elements(input_fn, count=None, graph_seed=20180503):
    """The first elements of an input function (None: all), run in a graph as the Estimator does."""
    found: list[Any] = []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(graph_seed)
        element = tf.data.make_one_shot_iterator(input_fn()).get_next()
        while count is None or len(found) < count:
            try:
                found.append(session.run(element))
            except tf.errors.OutOfRangeError:
                break
    return found


def ids_of(batches):
    return [image_id.decode() for features, _ in batches for image_id in features["image_id"]]


def images_of(batches):
    pairs = (zip(features["image_id"], features["image"], strict=True) for features, _ in batches)
    return {image_id: image for pair in pairs for image_id, image in pair}


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, other)


@pytest.fixture(scope="module")
def stream(twenty):
    """Three passes over the 20 images, deterministic."""
    return elements(dataset_common.training_input_fn(twenty, config(), 7, deterministic=True), 15)


@pytest.mark.parametrize(("readers", "threads"), [(1, 1), (3, 2), (40, 7)])
def test_a_seed_gives_the_same_stream_whatever_the_parallelism(twenty, stream, readers, threads):
    again = dataset_common.training_input_fn(twenty, config(), 7, readers, threads, deterministic=True)
    assert_same(elements(again, 15), stream)


def test_another_seed_gives_another_stream(twenty, stream):
    other = elements(dataset_common.training_input_fn(twenty, config(), 8, deterministic=True), 15)
    assert ids_of(other) != ids_of(stream)
    # the same image is augmented in another way
    one, two = (images_of(batches[:5]) for batches in (stream, other))
    assert sum(np.abs(one[name] - two[name]).mean() > 1 for name in one) > 15


def test_each_pass_has_every_image_once_in_an_order_of_its_own(stream):
    ids = ids_of(stream)
    passes = [ids[:20], ids[20:40], ids[40:]]
    for one_pass in passes:
        assert sorted(one_pass) == [f"{number:03d}" for number in range(20)]
    assert len({tuple(one_pass) for one_pass in passes}) == 3


def test_an_image_is_augmented_anew_in_each_pass(stream):
    first, second = images_of(stream[:5]), images_of(stream[5:10])
    changed = [np.abs(first[name] - second[name]).mean() > 1 for name in first]
    assert np.mean(changed) > 0.8


def test_no_augmentation_comes_twice_neither_in_a_stream_nor_with_another_seed(tmp_path):
    shards = write_shards(tmp_path, [record(0)], 1)
    views = []
    for seed in (7, 8):
        input_fn = dataset_common.training_input_fn(shards, config(batch_size=30), seed, deterministic=True)
        ((features, _),) = elements(input_fn, 1)
        views += [image.tobytes() for image in features["image"]]
    assert len(set(views)) == 60


def test_without_deterministic_all_images_come_too(twenty):
    batches = elements(dataset_common.training_input_fn(twenty, config(), 7, readers=3, threads=2), 15)
    assert set(ids_of(batches)) == {f"{number:03d}" for number in range(20)}


def share(shards, worker, workers, count, batch_size=4):
    """The first elements of one worker of several."""
    input_fn = dataset_common.training_input_fn(
        shards, config(batch_size), 7, deterministic=True, replicas=workers, worker=worker, workers=workers
    )
    return elements(input_fn, count)


def test_two_workers_together_read_what_one_process_reads(twenty, stream):
    shares = [share(twenty, worker, 2, 15) for worker in (0, 1)]
    for number, (features, _) in enumerate(stream):
        for place in range(4):
            theirs = shares[place % 2][number][0]
            assert theirs["image_id"][place // 2] == features["image_id"][place]
            np.testing.assert_array_equal(theirs["image"][place // 2], features["image"][place])


def test_workers_have_files_of_their_own_if_these_can_be_dealt_out(twenty):
    for worker in range(5):
        one_pass = ids_of(share(twenty, worker, 5, 4, batch_size=5))
        assert sorted(one_pass) == [f"{number:03d}" for number in range(4 * worker, 4 * worker + 4)]


def test_no_two_workers_draw_the_same_augmentation(tmp_path):
    """Records that are all the same image; only the place in the stream tells them apart."""
    shards = write_shards(tmp_path, [record(0)] * 8, 4)
    views = [image for worker in range(4) for image in share(shards, worker, 4, 2)]
    assert len({features["image"].tobytes() for features, _ in views}) == 8


def test_a_batch_that_cannot_be_shared_is_an_error(twenty):
    with pytest.raises(ValueError, match="--batch_size=4: must be a multiple of the 3 devices of 3 workers"):
        share(twenty, 0, 3, 1)
    with pytest.raises(ValueError, match="--batch_size=4: must be a multiple of the 3 GPUs: 3; --nomulti_gpu"):
        dataset_common.training_input_fn(twenty, config(), 7, replicas=3)
    with pytest.raises(ValueError, match=r"--batch_size=4: must be a multiple of the --accumulate_steps=3: 3$"):
        dataset_common.training_input_fn(twenty, config(), 7, parts=3)
    with pytest.raises(ValueError, match="multiple of the 2 GPUs times --accumulate_steps=4: 8"):
        dataset_common.training_input_fn(twenty, config(), 7, replicas=2, parts=4)


def test_elements_are_as_promised(stream):
    for features, truth in stream:
        assert features["image"].shape == (4, 32, 32, 3) and features["image"].dtype == np.float32
        assert np.isfinite(features["image"]).all() and np.abs(features["image"]).max() < 256
        assert truth["boxes_yxyx"].shape == (*truth["labels"].shape, 4) and truth["boxes_yxyx"].dtype == np.float32
        assert truth["labels"].dtype == np.int64
        assert set(np.unique(truth["labels"])) <= {0, 8}
        assert truth["boxes_yxyx"].min(initial=0) >= 0 and truth["boxes_yxyx"].max(initial=0) <= 1


def one_pass(shards, images, **settings):
    """One pass without augmentation, as {image_id: (boxes, labels)}; one batch."""
    switches = {name: settings.pop(name) for name in ("skip_empty_images",) if name in settings}
    setting = config(batch_size=images, augment=NO_AUGMENTATION, **settings)
    ((features, truth),) = elements(dataset_common.training_input_fn(shards, setting, 1, **switches), 1)
    rows = zip(features["image_id"], truth["boxes_yxyx"], truth["labels"], strict=True)
    return {image_id.decode(): (boxes, found) for image_id, boxes, found in rows}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Five images: no object, a cat, all three, only a difficult one, and a dog."""
    contents = [(), (CAT,), (DOG, DIFFICULT, CAT), (DIFFICULT,), (DOG,)]
    made = [record(number, objects) for number, objects in enumerate(contents)]
    return write_shards(tmp_path_factory.mktemp("mixed"), made, 2)


def test_batches_are_padded_with_label_0_and_difficult_objects_left_out(mixed):
    found = one_pass(mixed, 5)
    wanted = {"000": [], "001": [CAT], "002": [DOG, CAT], "003": [], "004": [DOG]}
    assert set(found) == set(wanted)
    for image_id, objects in wanted.items():
        boxes, classes = found[image_id]
        assert classes.tolist() == [label for _, label, _ in objects] + [0] * (2 - len(objects))
        np.testing.assert_allclose(boxes[: len(objects)], np.reshape([box for box, *_ in objects], (-1, 4)), atol=1e-6)
        assert (boxes[len(objects) :] == 0).all()


def test_difficult_objects_are_learnt_from_when_asked_for(mixed):
    found = one_pass(mixed, 5, targets__use_difficult=True)
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
    found = one_pass(mixed, len(left), skip_empty_images=True, targets__use_difficult=use_difficult)
    assert set(found) == left


@pytest.mark.parametrize("objects", [(), (DIFFICULT,)], ids=["no object", "difficult"])
def test_leaving_out_every_image_is_an_error_not_an_endless_wait(tmp_path, objects):
    shards = write_shards(tmp_path, [record(number, objects) for number in range(3)], 1)
    with pytest.raises(ValueError, match=r"--skip_empty_images.*train-00000-of-00001"):
        dataset_common.training_input_fn(shards, config(), 1, skip_empty_images=True)
    assert len(elements(dataset_common.training_input_fn(shards, config(), 1), 2)) == 2


def test_evaluation_gives_every_image_once_in_order(tmp_path):
    """Three shards, one of them empty; a PNG among the JPEGs, as other writers leave them."""
    made = [record(number, (CAT, DIFFICULT), "PNG" if number == 3 else "JPEG") for number in range(7)]
    first, empty, last = records.shard_paths(tmp_path, "val", 3)
    first.write_bytes(b"".join(map(frame, made[:4])))
    empty.write_bytes(b"")
    last.write_bytes(b"".join(map(frame, made[4:])))
    shards = records.find_shards(tmp_path, "val")
    batches = elements(dataset_common.eval_input_fn(shards, config(), batch_size=3))
    assert ids_of(batches) == [f"{number:03d}" for number in range(7)]
    assert [len(features["image"]) for features, _ in batches] == [3, 3, 1]
    images, sizes = (np.concatenate([features[key] for features, _ in batches]) for key in ("image", "size"))
    assert sizes.tolist() == [[40, 48]] * 7 and sizes.dtype == np.int32
    for number, image in enumerate(images):
        original = decode(encoded(number, "PNG" if number == 3 else "JPEG"))
        wanted = preprocess_for_eval(original, SIDE, config().network.channel_means_rgb)
        np.testing.assert_array_equal(image, wanted)
    for _, truth in batches:
        assert (truth["labels"] == 8).all() and truth["labels"].shape[1] == 1
        assert (truth["boxes_yxyx"] == np.array(CAT[0], np.float32)).all()


def test_evaluation_is_the_same_whatever_the_threads_and_the_batch(twenty):
    one, other = (
        elements(dataset_common.eval_input_fn(twenty, config(), batch_size, threads))
        for batch_size, threads in ((20, 1), (7, 5))
    )
    assert ids_of(one) == ids_of(other) == [f"{number:03d}" for number in range(20)]
    images = np.concatenate([features["image"] for features, _ in other])
    np.testing.assert_array_equal(one[0][0]["image"], images)


def test_pictures_at_hand_come_in_order():
    made = [("a", np.asarray(picture((48, 40)))), ("b", np.asarray(picture((20, 70), seed=1)))]
    batches = elements(dataset_common.pictures_input_fn(lambda: iter(made), config()))
    assert [features["image_id"][0] for features in batches] == [b"a", b"b"]
    assert [features["size"][0].tolist() for features in batches] == [[40, 48], [70, 20]]
    for (_, original), features in zip(made, batches, strict=True):
        wanted = preprocess_for_eval(original, SIDE, config().network.channel_means_rgb)
        np.testing.assert_array_equal(features["image"][0], wanted)


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
    shards = [str(path) for path in records.shard_paths(tmp_path, "train", 2)]
    for number, shard in enumerate(shards):
        with tf.io.TFRecordWriter(shard) as writer:
            writer.write(reference_example(number, [CAT[0], DOG[0]], [8, 12], [0, 1]))
            writer.write(reference_example(number + 2, [], [], []))
    assert dataset_common.count_records(records.find_shards(tmp_path, "train")) == 4
    assert dataset_common.class_names(str(tmp_path), 21) == labels.VOC_CLASSES
    found = one_pass(shards, 4)
    assert set(found) == {f"2008_{number:06d}" for number in range(4)}
    boxes, classes = found["2008_000001"]
    assert classes.tolist() == [8]
    np.testing.assert_allclose(boxes, [CAT[0]], atol=1e-6)
    assert found["2008_000003"][1].tolist() == [0]
    (batch,) = elements(dataset_common.eval_input_fn(shards, config(), batch_size=8))
    assert ids_of([batch]) == ["2008_000000", "2008_000002", "2008_000001", "2008_000003"]


def test_records_are_counted_without_reading_them(twenty, mixed):
    assert dataset_common.count_records(twenty) == 20
    assert dataset_common.count_records(mixed[:1]) == 3


def test_empty_record_files_are_named(tmp_path):
    shards = [str(path) for path in records.shard_paths(tmp_path, "train", 2)]
    for shard in shards:
        (tmp_path / shard).write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-\*-of-\* hold no records"):
        records.find_shards(tmp_path, "train")
    with pytest.raises(ValueError, match=r"train-00000-of-00002.* no record"):
        dataset_common.count_records(shards)


@pytest.mark.parametrize("left", [1, 7, 8, 11, 12, 500, -1, -4, -5])
def test_a_truncated_record_file_is_named(tmp_path, left):
    first, second = write_shards(tmp_path, [record(0), record(1), record(2)], 2)
    data = (tmp_path / second).read_bytes()
    (tmp_path / second).write_bytes(data[:left])
    with pytest.raises(ValueError, match=r"train-00001-of-00002 is cut off"):
        dataset_common.count_records([first, second])


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "train-00000-of-00001").write_text("<html>404 not found</html>")
    with pytest.raises(ValueError, match=r"train-00000-of-00001 is cut off or no TFRecord"):
        dataset_common.count_records(records.find_shards(tmp_path, "train"))


def test_missing_record_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no record files .*train-\*-of-\*"):
        records.find_shards(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="train-00000-of-00001"):
        dataset_common.count_records([str(tmp_path / "train-00000-of-00001")])


def test_class_names_are_those_of_the_data_set(tmp_path):
    assert dataset_common.class_names(str(tmp_path), None) == labels.VOC_CLASSES
    assert dataset_common.class_names(str(tmp_path), 21) == labels.VOC_CLASSES
    labels.write_labels(tmp_path / "labels.txt", ["Platelets", "RBC", "WBC"])
    for num_classes in (None, 4):
        assert dataset_common.class_names(str(tmp_path), num_classes) == ("Platelets", "RBC", "WBC")


@pytest.mark.parametrize(("names", "num_classes"), [(None, 20), (None, 4), (["a", "b"], 2), (["a", "b"], 21)])
def test_another_number_of_classes_is_an_error_that_names_the_flag(tmp_path, names, num_classes):
    if names:
        labels.write_labels(tmp_path / "labels.txt", names)
    makes = 3 if names else 21
    with pytest.raises(ValueError, match=rf"--num_classes={num_classes}.*labels\.txt.* {makes} classes"):
        dataset_common.class_names(str(tmp_path), num_classes)


def test_ground_truth_is_exactly_that_of_the_annotations(tmp_path, voc_sample):
    """Whole pixels go through float32 parts of the image and come back as they were."""
    convert_tfrecords.convert(
        dataset_directory=voc_sample, output_directory=tmp_path, train_splits=[], validation_shards=3
    )
    found = dataset_common.ground_truth_of(records.find_shards(tmp_path, "val"), labels.VOC_CLASSES)
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
    serialized = records.serialize(
        image_encoded=b"never decoded",
        filename="wide.jpg",
        height=6000,
        width=6000,
        boxes_yxyx=sides / 6000,
        labels=[1, 2],
        label_texts=["a", "b"],
        difficult=[True, False],
        truncated=[False, False],
    )
    (tmp_path / "val").write_bytes(frame(serialized))
    (annotation,) = dataset_common.ground_truth_of([str(tmp_path / "val")], ("a", "b"))
    assert [each.box_yxyx_px for each in annotation.objects] == [tuple(map(float, box)) for box in sides.tolist()]
    assert [(each.name, each.difficult) for each in annotation.objects] == [("a", True), ("b", False)]
    with pytest.raises(ValueError, match=r"image wide has class ids \[1, 2\], but there are 1 class names"):
        dataset_common.ground_truth_of([str(tmp_path / "val")], ("a",))

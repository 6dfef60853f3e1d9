"""The input functions of evaluation and demo."""

import numpy as np

from dataset.conversion.examples import objects_in
from dataset.input import eval_input_fn, pictures_input_fn
from dataset.records import record_files
from dataset.sources.annotations import LabelledObject
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from preprocessing.views import tile_windows
from tests.builders.records import CAT, DIFFICULT, DOG, SIDE, config, elements, encoded, ids_of, record, write_shards
from tests.builders.voc import picture
from utility.files.tfrecord import frame


def features_of(input_fn):
    return [features for features, _ in elements(input_fn)]


def test_evaluation_gives_every_image_once_in_order(tmp_path):
    """Three shards, one of them empty; a PNG among the JPEGs, as other writers leave them."""
    made = [record(number, (CAT, DIFFICULT), "PNG" if number == 3 else "JPEG") for number in range(7)]
    first, empty, last = record_files.shard_paths(tmp_path, "val", 3)
    first.write_bytes(b"".join(map(frame, made[:4])))
    empty.write_bytes(b"")
    last.write_bytes(b"".join(map(frame, made[4:])))
    shards = record_files.find_shards(tmp_path, "val")
    batches, _ = zip(*elements(eval_input_fn(shards, config(), batch_size=3)), strict=True)
    assert ids_of(batches) == [f"{number:03d}" for number in range(7)]
    assert [len(features["image"]) for features in batches] == [3, 3, 1]
    images, sizes = (np.concatenate([features[key] for features in batches]) for key in ("image", "size"))
    assert sizes.tolist() == [[40, 48]] * 7 and sizes.dtype == np.int32
    for number, image in enumerate(images):
        original = decode(encoded(number, "PNG" if number == 3 else "JPEG"))
        wanted = preprocess_for_eval(original, SIDE, config().network.channel_means_rgb)
        np.testing.assert_array_equal(image, wanted)


def test_evaluation_is_the_same_whatever_the_threads_and_the_batch(twenty):
    one, other = (
        features_of(eval_input_fn(twenty, config(), batch_size, threads)) for batch_size, threads in ((20, 1), (7, 5))
    )
    assert ids_of(one) == ids_of(other) == [f"{number:03d}" for number in range(20)]
    images = np.concatenate([features["image"] for features in other])
    np.testing.assert_array_equal(one[0]["image"], images)


def test_pictures_at_hand_come_in_order():
    made = [("a", np.asarray(picture((48, 40)))), ("b", np.asarray(picture((20, 70), seed=1)))]
    batches = elements(pictures_input_fn(lambda: iter(made), config()))
    assert [features["image_id"][0] for features in batches] == [b"a", b"b"]
    assert [features["size"][0].tolist() for features in batches] == [[40, 48], [70, 20]]
    for (_, original), features in zip(made, batches, strict=True):
        wanted = preprocess_for_eval(original, SIDE, config().network.channel_means_rgb)
        np.testing.assert_array_equal(features["image"][0], wanted)


TILES = {"views.tile_size": 32, "views.tile_overlap": 0.25}


def assert_tiles(batches, names, originals):
    """Compare all views with the tiles of pictures, one picture after the other."""
    views = [
        {key: values[row] for key, values in batch.items()} for batch in batches for row in range(len(batch["windows"]))
    ]
    for name, original in zip(names, originals, strict=True):
        height, width = original.shape[:2]
        windows = tile_windows(height, width, 32, 0.25)
        mine, views = views[: len(windows)], views[len(windows) :]
        for view, window in zip(mine, windows, strict=True):
            assert (view["image_id"].decode(), view["windows"]) == (name, len(windows))
            assert view["size"].tolist() == [height, width]
            np.testing.assert_allclose(view["window_yxyx"], window / [height, width, height, width], rtol=1e-6)
            ymin, xmin, ymax, xmax = window
            wanted = preprocess_for_eval(original[ymin:ymax, xmin:xmax], SIDE, config().network.channel_means_rgb)
            np.testing.assert_array_equal(view["image"], wanted)
    assert not views


def test_tiles_of_a_picture_follow_one_another(tmp_path):
    shard = tmp_path / "val-00000-of-00001"
    shard.write_bytes(b"".join(frame(record(number, (CAT,))) for number in range(5)))
    batches = features_of(eval_input_fn([str(shard)], config().replace(TILES), batch_size=7))
    assert_tiles(batches, [f"{n:03d}" for n in range(5)], [decode(encoded(n)).numpy() for n in range(5)])
    made = [("a", np.asarray(picture((48, 40)))), ("b", np.asarray(picture((20, 70), seed=1)))]
    batches = elements(pictures_input_fn(lambda: iter(made), config().replace(TILES)))
    assert_tiles(batches, *zip(*made, strict=True))


def test_large_pictures_and_tiles_are_reduced(tmp_path):
    """As the converter does it; a picture that is reduced already stays as it is."""
    shard = tmp_path / "val-00000-of-00001"
    shard.write_bytes(frame(record(0, (CAT,))))
    means = config().network.channel_means_rgb
    (batch,) = features_of(eval_input_fn([str(shard)], config().replace({"views.max_side": 32}), 1))
    np.testing.assert_array_equal(batch["image"][0], preprocess_for_eval(decode(encoded(0)), SIDE, means, 32))
    assert batch["size"].tolist() == [[40, 48]]
    (same,) = features_of(eval_input_fn([str(shard)], config().replace({"views.max_side": 48}), 1))
    np.testing.assert_array_equal(same["image"][0], preprocess_for_eval(decode(encoded(0)), SIDE, means))


def test_labels_are_those_without_difficult_objects(tmp_path):
    (shard,) = write_shards(tmp_path, [record(0, (DOG, DIFFICULT, CAT)), record(1, ())], 1)
    ((_, labels),) = elements(eval_input_fn([shard], config(), batch_size=2))
    assert labels["labels"].tolist() == [[12, 8], [0, 0]]  # padded
    np.testing.assert_allclose(labels["boxes_yxyx"], np.array([[DOG[0], CAT[0]], [[0] * 4] * 2]), rtol=1e-6)


def test_a_tile_has_the_labels_that_a_training_tile_has(tmp_path):
    """By the rule of the converter: boxes are clipped, and objects of which a tile shows too little are left out."""
    objects = [((0.0, 0.0, 0.5, 0.4), 1), ((0.5, 0.55, 0.9, 0.9), 2), ((0.1, 0.6, 0.2, 0.7), 3), ((0, 0, 1, 1), 4)]
    (shard,) = write_shards(tmp_path, [record(0, [(*each, False) for each in objects])], 1)
    ((features, labels),) = elements(eval_input_fn([shard], config().replace(TILES), batch_size=9))
    size = np.tile(features["size"][0], 2)
    corners = [(float(a), float(b), float(c), float(d)) for a, b, c, d in [box * size for box, _ in objects]]
    annotated = [LabelledObject(str(number), box, False, False) for number, box in enumerate(corners, start=1)]
    shown = 0
    for window, boxes, classes in zip(
        np.rint(features["window_yxyx"] * size), labels["boxes_yxyx"], labels["labels"], strict=True
    ):
        wanted = [each for each in objects_in(window, annotated) if not each.difficult]
        assert classes[classes > 0].tolist() == [int(each.name) for each in wanted]
        extent = np.tile(window[2:] - window[:2], 2)
        wanted_px = np.reshape([each.box_yxyx_px for each in wanted], (-1, 4))
        np.testing.assert_allclose(boxes[classes > 0] * extent, wanted_px, atol=1e-4)
        shown += len(wanted)
    assert shown == 4

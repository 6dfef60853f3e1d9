"""Detection picture by picture, with a checkpoint that does not fit the network, and in tiles."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.input import pictures_input_fn
from net.prediction import predict_pictures, whole_pictures
from net.run_config import build
from preprocessing.views import tile_windows
from tests.builders.tiny_ssd import batch, make_estimator
from tests.builders.voc import picture
from utility.checkpoints import checkpoint_files
from utility.config.settings import DetectionConfig


def test_detecting_with_a_checkpoint_of_another_network_is_one_line(tiny, parts, tmp_path):
    checkpoint = checkpoint_files.resolve(str(parts.folder))
    images = lambda: tf.data.Dataset.from_tensors(batch()[0])  # noqa: E731
    other = tiny.replace({"class_names": ("cat",)})
    with pytest.raises(ValueError, match=r"another network: .*cls_0/kernel has shape 3x3x\d+x8, .*config\.json"):
        list(predict_pictures(make_estimator(other, tmp_path), images, checkpoint))
    misnamed = build(tiny, make_estimator(tiny, tmp_path).config, "channels_last", model_scope="resnet")
    with pytest.raises(
        ValueError, match=r"resnet/conv1/kernel has no counterpart.* must be the scope of its network, one of ssd300"
    ):
        list(predict_pictures(misnamed, images, checkpoint))


def test_what_tiles_show_is_what_the_parts_of_a_picture_show(tiny, parts, tmp_path):
    """Without suppression, a picture has the detections of its four parts, each as a picture of its own."""
    checkpoint = checkpoint_files.resolve(str(parts.folder))
    whole = np.asarray(picture((120, 80), seed=4))
    config = tiny.replace(
        {"detection.nms_threshold": 1.0, "detection.select_threshold": 0.3, "detection.keep_topk": 50}
    )
    tiles = config.replace({"views.tile_size": 60, "views.tile_overlap": 0.0})
    windows = tile_windows(80, 120, 60, 0.0).tolist()
    parts_of_it = [(str(window), whole[window[0] : window[2], window[1] : window[3]]) for window in windows]
    (found,) = predict_pictures(
        make_estimator(tiles, tmp_path), pictures_input_fn(lambda: iter([("all", whole)]), tiles), checkpoint
    )
    alone = list(
        predict_pictures(
            make_estimator(config, tmp_path), pictures_input_fn(lambda: iter(parts_of_it), config), checkpoint
        )
    )
    assert (found["image_id"], found["size"].tolist()) == (b"all", [80, 120])
    wanted: list[tuple] = []
    for image, (ymin, xmin, *_) in zip(alone, windows, strict=True):
        boxes = image["boxes_yxyx"] * np.tile(image["size"], 2) + [ymin, xmin, ymin, xmin]
        wanted += zip(image["scores"].tolist(), image["classes"].tolist(), boxes.tolist(), strict=True)
    boxes = found["boxes_yxyx"] * np.tile(found["size"], 2)
    assert len(wanted) > 20 and len(found["scores"]) == len(wanted)
    assert (np.diff(found["scores"]) <= 0).all()
    left = set(range(len(wanted)))
    for score, class_id, box in wanted:  # scores that are nearly equal may be in another order
        distances = (
            np.abs(boxes - box).max(axis=1) + np.abs(found["scores"] - score) + 1e3 * (found["classes"] != class_id)
        )
        nearest = min(left, key=distances.__getitem__)
        assert distances[nearest] < 1e-3
        left.remove(nearest)


SETTINGS = DetectionConfig()


def tile(window_yxyx, windows, *found, image_id=b"a"):
    """A view with detections (score, class id, box in [0, 1] of the picture)."""
    start, end = np.array(window_yxyx[:2], np.float32), np.array(window_yxyx[2:], np.float32)
    boxes = np.array([box for _, _, box in found], np.float32).reshape(-1, 4)
    return {
        "image_id": image_id,
        "size": np.array([100, 200], np.int32),
        "window_yxyx": np.concatenate([start, end]),
        "windows": np.int32(windows),
        "boxes_yxyx": (boxes - np.tile(start, 2)) / np.tile(end - start, 2),
        "scores": np.array([score for score, _, _ in found], np.float32),
        "classes": np.array([class_id for _, class_id, _ in found], np.int32),
    }


LEFT, RIGHT = (0, 0, 1, 0.6), (0, 0.4, 1, 1)
SHARED, FAR = (0.1, 0.45, 0.3, 0.55), (0.5, 0.8, 0.7, 0.9)


def test_an_object_that_two_tiles_show_is_found_once():
    tiles = [tile(LEFT, 2, (0.7, 3, SHARED)), tile(RIGHT, 2, (0.9, 3, SHARED), (0.8, 1, FAR), (0.6, 2, SHARED))]
    (found,) = whole_pictures(iter(tiles), SETTINGS)
    assert set(found) == {"image_id", "size", "boxes_yxyx", "scores", "classes"}
    assert found["classes"].tolist() == [3, 1, 2]  # of another class it stays
    np.testing.assert_allclose(found["scores"], [0.9, 0.8, 0.6])
    np.testing.assert_allclose(found["boxes_yxyx"], [SHARED, FAR, SHARED], atol=1e-6)


def test_pictures_come_one_by_one_also_those_without_detections_and_whole_ones():
    whole = {"image_id": b"w", "boxes_yxyx": np.zeros((1, 4)), "scores": np.ones(1), "classes": np.ones(1)}
    nothing = [tile(LEFT, 2, image_id=b"n"), tile(RIGHT, 2, image_id=b"n")]
    found = list(whole_pictures([*nothing, tile((0, 0, 1, 1), 1, (0.5, 1, FAR)), whole], SETTINGS))
    assert [image["image_id"] for image in found] == [b"n", b"a", b"w"]
    assert [len(image["scores"]) for image in found] == [0, 1, 1]
    assert found[0]["boxes_yxyx"].shape == (0, 4) and found[2] is whole


def test_the_limits_are_those_of_a_picture():
    many = [(0.5 - n / 100, 1, (n / 20, 0, (n + 1) / 20, 0.1)) for n in range(10)]
    others = [(score, 2, box) for score, _, box in many]
    views = [tile((0, 0, 1, 1), 1, *many, *others)]
    (found,) = whole_pictures(views, DetectionConfig(nms_topk=4, max_detections=6))
    assert found["classes"].tolist() == [1, 2] * 3


BOXES = st.lists(st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 5)] * 2, st.integers(1, 20)), max_size=12)


@settings(max_examples=50, deadline=None)
@given(BOXES, st.sampled_from([0.3, 0.45, 1.0]))
def test_suppression_is_that_of_plain_python(drawn, threshold):
    boxes = [(y / 16, x / 16, (y + h) / 16, (x + w) / 16) for y, x, h, w, _ in drawn]
    scores = [score / 32 for *_, score in drawn]

    def iou(one, other):
        sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
        shared = max(sides[0], 0) * max(sides[1], 0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
        return shared / (sum(areas) - shared)

    kept: list[int] = []
    for number in sorted(range(len(drawn)), key=lambda n: -scores[n]):
        if all(iou(boxes[number], boxes[other]) <= threshold for other in kept):
            kept.append(number)
    view = tile((0, 0, 1, 1), 1, *((score, 1, box) for score, box in zip(scores, boxes, strict=True)))
    for most in (len(drawn) + 1, 2):
        (found,) = whole_pictures([view], DetectionConfig(nms_threshold=threshold, nms_topk=most))
        assert found["boxes_yxyx"].tolist() == [list(boxes[n]) for n in kept[:most]]
        assert found["scores"].tolist() == [scores[n] for n in kept[:most]]


def test_a_box_in_each_tile_of_a_real_grid_comes_back():
    windows = tile_windows(100, 200, 64, 0.25)
    views = [
        tile(window / [100, 200, 100, 200], len(windows), (0.9, 1, window / [100, 200, 100, 200])) for window in windows
    ]
    (found,) = whole_pictures(views, DetectionConfig(nms_threshold=1.0))
    pixels = found["boxes_yxyx"] * [100, 200, 100, 200]
    np.testing.assert_allclose(sorted(pixels.tolist()), sorted(windows.tolist()), atol=1e-4)

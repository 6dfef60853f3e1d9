"""Detections of tiles, brought together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from net.prediction import suppress, whole_pictures
from preprocessing.views import tile_windows
from utility.config.settings import DetectionConfig

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


@given(BOXES, st.sampled_from([0.3, 0.45, 1.0]))
def test_suppression_is_that_of_plain_python(drawn, threshold):
    boxes = np.array([(y, x, y + h, x + w) for y, x, h, w, _ in drawn], np.float64).reshape(-1, 4)
    scores = np.array([score for *_, score in drawn], np.float64)

    def iou(one, other):
        sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
        shared = max(sides[0], 0) * max(sides[1], 0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
        return shared / (sum(areas) - shared)

    kept: list[int] = []
    for number in sorted(range(len(drawn)), key=lambda n: -scores[n]):
        if all(iou(boxes[number], boxes[other]) <= threshold for other in kept):
            kept.append(number)
    assert suppress(boxes, scores, threshold, len(drawn)).tolist() == kept
    assert suppress(boxes, scores, threshold, 2).tolist() == kept[:2]


def test_a_box_in_each_tile_of_a_real_grid_comes_back():
    windows = tile_windows(100, 200, 64, 0.25)
    views = [
        tile(window / [100, 200, 100, 200], len(windows), (0.9, 1, window / [100, 200, 100, 200])) for window in windows
    ]
    (found,) = whole_pictures(views, DetectionConfig(nms_threshold=1.0))
    pixels = found["boxes_yxyx"] * [100, 200, 100, 200]
    np.testing.assert_allclose(sorted(pixels.tolist()), sorted(windows.tolist()), atol=1e-4)

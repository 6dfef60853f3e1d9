"""Detections with class names, in pixels."""

import json

import numpy as np

from net import demo


def test_objects_have_names_scores_and_boxes_in_pixels():
    found = {
        "boxes_yxyx": np.array([[0.1, 0.2, 0.5, 1.0], [0, 0, 1, 1]], np.float32),
        "scores": np.array([0.91234567, 0.5], np.float32),
        "classes": np.array([2, 1], np.int32),
        "size": np.array([100, 200], np.int32),
    }
    first, second = json.loads(json.dumps(demo.objects(found, ("cat", "dog"))))
    assert first == {"class": "dog", "score": 0.912346, "box": {"xmin": 40, "ymin": 10, "xmax": 200, "ymax": 50}}
    assert second == {"class": "cat", "score": 0.5, "box": {"xmin": 0, "ymin": 0, "xmax": 200, "ymax": 100}}


def test_nothing_found_is_an_empty_list():
    empty = {
        "boxes_yxyx": np.zeros((0, 4)),
        "scores": np.zeros(0),
        "classes": np.zeros(0, int),
        "size": np.array([9, 9]),
    }
    assert demo.objects(empty, ("cat",)) == []

"""Which detection finds which ground truth, by the devkit's rule."""

import numpy as np
import pytest

from dataset.scores import average_precision, voc_results
from dataset.scores.average_precision import evaluate
from tests.builders.detections import annotate, detect, detect_everything
from tests.dataset.scores.devkit import slow_ap


def test_more_detections_than_fit_into_one_block(monkeypatch):
    rng = np.random.default_rng(3)
    corners = rng.integers(1, 60, [400, 2])
    boxes = np.hstack([corners, corners + rng.integers(10, 40, [400, 2])])
    annotations = [
        annotate(str(i), *[("cat", box, box[0] % 5 == 0) for box in boxes[i * 10 : i * 10 + 10]]) for i in range(20)
    ]
    found = detect(*[(str(rng.integers(20)), rng.random(), box) for box in boxes])
    whole = evaluate({1: found}, annotations, ("cat",), 0.3)
    assert whole.classes["cat"].ap == pytest.approx(slow_ap(found, annotations, "cat", 0.3, True)[0], abs=1e-12)
    monkeypatch.setattr(average_precision, "_BLOCK", 7)
    assert evaluate({1: found}, annotations, ("cat",), 0.3) == whole


def test_small_boxes_keep_their_pixels():
    """Eight pixels a side: two pixels off is an IoU of .5 or less."""
    annotations = [annotate("a", ("cat", (1, 1, 8, 8)), ("cat", (93, 93, 100, 100)))]
    found = detect_everything(annotations, ("cat",))
    assert evaluate(found, annotations, ("cat",), 0.999).mean_ap == 1.0
    shifted = voc_results.Detections(found[1].image_ids, found[1].scores, found[1].boxes_yxyx_px + 2)
    assert evaluate({1: shifted}, annotations, ("cat",)).mean_ap == 0.0


def test_an_iou_equal_to_the_threshold_is_enough():
    annotations = [annotate("a", ("cat", (1, 1, 10, 10)))]
    assert evaluate({1: detect(("a", 1, (1, 1, 5, 10)))}, annotations, ("cat",)).mean_ap == 1.0
    assert evaluate({1: detect(("a", 1, (1, 1, 4, 10)))}, annotations, ("cat",)).mean_ap == 0.0


def test_difficult_objects_count_for_nothing():
    easy, hard = (1, 1, 20, 20), (41, 41, 60, 60)
    annotations = [annotate("a", ("cat", easy), ("cat", hard, True))]
    found = detect(("a", 0.9, hard), ("a", 0.8, hard), ("a", 0.7, easy))
    score = evaluate({1: found}, annotations, ("cat",)).classes["cat"]
    assert (score.ap, score.ground_truth, score.difficult) == (1.0, 1, 1)
    assert (score.detections, score.true_positives, score.ignored) == (3, 1, 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("cat", (41, 41, 60, 60)))]
    found = detect(("a", 0.9, (1, 1, 20, 20)), ("a", 0.8, (1, 1, 20, 20)), ("a", 0.7, (41, 41, 60, 60)))
    score = evaluate({1: found}, annotations, ("cat",), use_07_metric=False).classes["cat"]
    assert score.true_positives == 2
    assert score.ap == pytest.approx((1 + 2 / 3) / 2)
    assert score.precision_at_recall == pytest.approx([1.0] * 6 + [2 / 3] * 5)


@pytest.mark.parametrize("place", [0, 1, 99, 199])
def test_equal_scores_keep_the_order_of_the_file(place):
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    rows = [("a", 0.5, (60, 60, 90, 90))] * 200
    rows[place] = ("a", 0.5, (1, 1, 20, 20))
    assert evaluate({1: detect(*rows)}, annotations, ("cat",)).mean_ap == pytest.approx(1 / (place + 1))

"""The metric against golden numbers and against the devkit's loops in plain Python."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.scores import average_precision, voc_results
from dataset.scores.average_precision import evaluate, format_report
from dataset.scores.detection_store import ClassDetections
from dataset.sources import voc
from tests.builders.detections import annotate, detect, detect_everything
from tests.dataset.scores.devkit import slow_ap

CLASSES = ("cat", "dog", "owl")


@pytest.mark.parametrize("metric", ["11point", "area"])
def test_golden_numbers(golden, metric):
    expected = json.loads((golden / "voc_ap" / "expected.json").read_text())
    names = tuple(expected["counts"])
    ids = voc.read_image_set(golden / "voc_ap", "test")
    annotations = [voc.read_annotation(voc.annotation_path(golden / "voc_ap", image_id)) for image_id in ids]
    dets = golden / "voc_ap" / "dets"
    found = {class_id: voc_results.read_results(voc_results.results_path(dets, class_id)) for class_id in range(1, 6)}
    result = evaluate(found, annotations, names, use_07_metric=metric == "11point")
    assert result.mean_ap == pytest.approx(expected[metric]["mAP"], abs=1e-6)
    for name, counts in expected["counts"].items():
        score = result.classes[name]
        assert score.ap == pytest.approx(expected[metric][name], abs=1e-6)
        assert score.ground_truth + score.difficult == counts["gt"]
        assert (score.difficult, len(score.scores)) == (counts["difficult"], counts["dets"])


SIDES = st.integers(1, 12)

BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES).map(lambda b: (min(b[0], b[2]), b[1], max(b[0], b[2]) + 1, b[3] + 12))

OBJECTS = st.lists(st.tuples(st.sampled_from(CLASSES[:2]), BOXES, st.booleans()), max_size=4)

SCORES = st.sampled_from([0.1, 0.5, 0.5000001, 0.9, 1.0])

LOOSE_BOXES = st.tuples(*[st.integers(-3, 26)] * 4)

ROWS = st.lists(st.tuples(st.sampled_from("abc"), SCORES, BOXES | LOOSE_BOXES), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.tuples(OBJECTS, OBJECTS, OBJECTS), ROWS, st.sampled_from([0.01, 0.3, 0.5, 0.75, 1.0]), st.booleans())
def test_evaluate_agrees_with_the_devkits_loops(objects, rows, iou_threshold, use_07_metric):
    annotations = [annotate("c", ("owl", (1, 1, 2, 2)), *objects[0]), annotate("a", *objects[1])]
    annotations.append(annotate("b", *objects[2]))
    found = detect(*rows)
    result = evaluate(dict.fromkeys((1, 2, 3), found), annotations, CLASSES, iou_threshold, use_07_metric)
    for name in CLASSES:
        ap, true_positives, ignored = slow_ap(found, annotations, name, iou_threshold, use_07_metric)
        score = result.classes[name]
        assert (score.true_positive.sum(), score.ignored.sum()) == (true_positives, ignored)
        assert score.ap == pytest.approx(ap, abs=1e-12)
    assert result.mean_ap == pytest.approx(np.mean([s.ap for s in result.classes.values() if s.ap is not None]))


def test_images_outside_of_the_set_do_not_change_the_score():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    inside, outside = ("a", 0.5, (1, 1, 20, 20)), ("b", 0.9, (1, 1, 20, 20))
    score = evaluate({1: detect(outside, inside)}, annotations, ("cat",)).classes["cat"]
    assert (score.ap, len(score.scores)) == (1.0, 1)


def test_classes_without_ground_truth_or_detections():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("owl", (1, 1, 20, 20), True)), annotate("empty")]
    everywhere = detect(("a", 0.9, (1, 1, 20, 20)), ("empty", 0.9, (1, 1, 20, 20)))
    result = evaluate({2: everywhere, 3: everywhere}, annotations, CLASSES)
    assert [score.ap for score in result.classes.values()] == [0.0, None, None]
    assert result.mean_ap == 0.0
    assert format_report(result) == [
        "AP for cat = 0.0000",
        "AP for dog = n/a (no ground truth)",
        "AP for owl = n/a (no ground truth)",
        "Mean AP = 0.0000",
    ]


def test_broken_boxes_do_not_break_the_score():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("cat", (5, 5, 5, 5)), ("cat", (9, 9, 1, 1)))]
    boxes = [(9, 9, 1, 1), (5, 5, 5, 5), (-9, -9, -5, -5), (1, 1, 20, 20), (1e9, 1e9, 1e9, 1e9)]
    result = evaluate({1: detect(*[("a", 0.5, box) for box in boxes])}, annotations, ("cat",), 1e-9)
    assert (result.classes["cat"].ground_truth, result.classes["cat"].true_positive.sum()) == (1, 1)
    assert result.warnings == ("2 objects without area are left out, the first in image 'a'.",)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, math.nan])
def test_bad_thresholds(threshold):
    with pytest.raises(ValueError, match="iou_threshold is"):
        evaluate({}, [annotate("a", ("cat", (1, 1, 2, 2)))], CLASSES, threshold)


@pytest.mark.parametrize("class_id", [0, 4])
def test_a_class_id_without_a_name_is_refused(class_id):
    with pytest.raises(ValueError, match=rf"class ids \[{class_id}\], but there are 3 class names"):
        evaluate({class_id: detect(("a", 1, (1, 1, 2, 2)))}, [annotate("a")], CLASSES)


def test_a_score_of_0_has_its_reason():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("rat", (1, 1, 20, 20)))]

    def warnings(*rows):
        return " ".join(evaluate({1: detect(*rows)}, annotations, CLASSES).warnings)

    assert "no detection at all" in warnings()
    assert "1 objects of classes that are not in the labels are left out: rat (1)" in warnings()
    strangers = warnings(("a", 1, (1, 1, 9, 9)), ("x", 1, (1, 1, 9, 9)), ("x", 1, (1, 1, 9, 9)))
    assert "2 detections are left out: their 1 images, such as 'x', are not in the image set" in strangers
    assert "fractions of the image" in warnings(("a", 1, (0, 0, 1, 0.5)))
    assert "fractions" not in strangers
    with pytest.raises(ValueError, match=r"none of the 1 detections is in one of the 1 images.*'x'"):
        warnings(("x", 1, (1, 1, 9, 9)))


def test_nothing_to_find_is_an_error():
    with pytest.raises(ValueError, match=r"no ground truth of the 3 classes \(cat, dog, owl\).*rat \(1\)"):
        evaluate({}, [annotate("a", ("rat", (1, 1, 20, 20)))], CLASSES)
    with pytest.raises(ValueError, match="'a' is annotated twice"):
        evaluate({}, [annotate("a"), annotate("a")], CLASSES)


class ReadOnce(dict):
    """Detections that note which class was asked for."""

    def __init__(self, found):
        super().__init__(found)
        self.asked = []

    def get(self, class_id, default=None):
        self.asked.append(class_id)
        return super().get(class_id, default)

    def values(self):
        raise AssertionError("all classes at once")

    __getitem__ = items = values  # type: ignore[assignment]


def test_each_class_is_asked_for_once_so_that_one_is_in_memory_at_a_time():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    found = ReadOnce({1: detect(("a", 0.5, (1, 1, 20, 20))), 3: detect(("x", 0.5, (1, 1, 20, 20)))})
    result = evaluate(found, annotations, CLASSES)
    assert found.asked == [1, 2, 3]
    assert (result.mean_ap, len(result.warnings)) == (1.0, 1)


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
    in_blocks = evaluate({1: found}, annotations, ("cat",), 0.3).classes["cat"]
    np.testing.assert_array_equal(in_blocks.own, whole.classes["cat"].own)
    np.testing.assert_array_equal(in_blocks.own_iou, whole.classes["cat"].own_iou)
    assert in_blocks.ap == whole.classes["cat"].ap


def test_small_boxes_keep_their_pixels():
    """Eight pixels a side: two pixels off is an IoU of .5 or less."""
    annotations = [annotate("a", ("cat", (1, 1, 8, 8)), ("cat", (93, 93, 100, 100)))]
    found = detect_everything(annotations, ("cat",))
    assert evaluate(found, annotations, ("cat",), 0.999).mean_ap == 1.0
    shifted = ClassDetections(found[1].image_ids, found[1].scores, found[1].boxes_yxyx_px + 2)
    assert evaluate({1: shifted}, annotations, ("cat",)).mean_ap == 0.0


def test_an_iou_equal_to_the_threshold_is_enough():
    annotations = [annotate("a", ("cat", (1, 1, 10, 10)))]
    assert evaluate({1: detect(("a", 1, (1, 1, 5, 10)))}, annotations, ("cat",)).mean_ap == 1.0
    assert evaluate({1: detect(("a", 1, (1, 1, 4, 10)))}, annotations, ("cat",)).mean_ap == 0.0


@pytest.mark.parametrize(("pixel_extent", "iou", "ap"), [(0.0, 40 / 88, 0.0), (1.0, 54 / 108, 1.0)])
def test_edges_and_inclusive_pixels_have_ious_of_their_own(pixel_extent, iou, ap):
    """Two boxes of 8 pixels, 3 apart: as edges, in COCO, no hit; as inclusive pixels, in VOC, of 9 pixels and a hit."""
    truth, found = [annotate("a", ("cat", (0, 0, 8, 8)))], {1: detect(("a", 0.9, (0, 3, 8, 11)))}
    result = evaluate(found, truth, ("cat",), pixel_extent=pixel_extent)
    assert result.classes["cat"].own_iou.tolist() == [iou] and result.mean_ap == ap


def test_difficult_objects_count_for_nothing():
    easy, hard = (1, 1, 20, 20), (41, 41, 60, 60)
    annotations = [annotate("a", ("cat", easy), ("cat", hard, True))]
    found = detect(("a", 0.9, hard), ("a", 0.8, hard), ("a", 0.7, easy))
    score = evaluate({1: found}, annotations, ("cat",)).classes["cat"]
    assert (score.ap, score.ground_truth, score.difficult) == (1.0, 1, 1)
    assert (len(score.scores), score.true_positive.sum(), score.ignored.sum()) == (3, 1, 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("cat", (41, 41, 60, 60)))]
    found = detect(("a", 0.9, (1, 1, 20, 20)), ("a", 0.8, (1, 1, 20, 20)), ("a", 0.7, (41, 41, 60, 60)))
    score = evaluate({1: found}, annotations, ("cat",), use_07_metric=False).classes["cat"]
    assert score.true_positive.sum() == 2
    assert score.ap == pytest.approx((1 + 2 / 3) / 2)
    precision = average_precision.precision_at(score.true_positive, 2, average_precision.ELEVEN_RECALLS)
    assert precision == pytest.approx([1.0] * 6 + [2 / 3] * 5)


@pytest.mark.parametrize("place", [0, 1, 99, 199])
def test_equal_scores_keep_the_order_of_the_file(place):
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    rows = [("a", 0.5, (60, 60, 90, 90))] * 200
    rows[place] = ("a", 0.5, (1, 1, 20, 20))
    assert evaluate({1: detect(*rows)}, annotations, ("cat",)).mean_ap == pytest.approx(1 / (place + 1))

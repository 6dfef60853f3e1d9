"""Kinds of error, what they cost, thresholds, confusions and sizes of cases done by hand, and tidecv's numbers."""

from functools import partial

import numpy as np
import pytest

from dataset.report.analysis import (
    KINDS,
    ap_by_size,
    confusion_matrix,
    costliest_images,
    error_costs,
    f1_curves,
    judge,
)
from dataset.scores.average_precision import area_under_curve, evaluate, precision_at
from tests.builders.detections import annotate, detect
from tests.dataset.report.cases import NAMES, random_case

LEFT, RIGHT, LOW = (1, 1, 40, 40), (1, 61, 40, 100), (61, 61, 100, 100)
TWO_FIFTHS = {RIGHT: (1, 61, 40, 76), LOW: (61, 61, 100, 76)}  # an IoU of .4 with the box


def judged_of(detections, annotations, names):
    return judge(evaluate(detections, annotations, names), annotations)


@pytest.fixture
def by_hand():
    """Three cats and two dogs; one cat is found, one has a box that is too small, and a dog is taken for a cat."""
    annotations = [
        annotate("a", ("cat", LEFT), ("dog", RIGHT)),
        annotate("b", ("cat", LOW)),
        annotate("c", ("dog", LEFT)),
        annotate("d", ("cat", LEFT)),
    ]
    cats = detect(
        ("a", 0.9, LEFT),
        ("a", 0.8, LEFT),
        ("a", 0.7, RIGHT),
        ("b", 0.6, TWO_FIFTHS[LOW]),
        ("b", 0.5, (1, 1, 20, 20)),
        ("a", 0.4, TWO_FIFTHS[RIGHT]),
    )
    return judged_of({1: cats}, annotations, ("cat", "dog"))


def test_each_kind_by_hand(by_hand):
    kinds = [[*KINDS][kind] if kind >= 0 else "" for kind in by_hand.classes[0].kind]
    assert kinds == ["", "duplicate", "classification", "localisation", "background", "both"]
    assert by_hand.found.tolist() == [True, False, False, False, False]


def test_costs_by_hand(by_hand):
    """AP of cats 1/3, of dogs 0. A dog found: 1/2; the box mended: (1 + 2/4) / 3; without the cat of d: 1/2."""
    costs = {cost.kind: (cost.number, cost.cost) for cost in error_costs(by_hand, area_under_curve)}
    assert costs["classification"] == (1, pytest.approx(1 / 4))
    assert costs["localisation"] == (1, pytest.approx((1 / 2 - 1 / 3) / 2))
    assert costs["missed"] == (2, pytest.approx((1 / 2 - 1 / 3) / 2))
    assert [costs[kind] for kind in ("both", "duplicate", "background")] == [(1, 0), (1, 0), (1, 0)]


def test_confusion_matrix_by_hand(by_hand):
    assert confusion_matrix(by_hand, {1: 0.4}).tolist() == [[0, 4, 0], [2, 1, 0], [1, 1, 0]]
    assert confusion_matrix(by_hand, {1: 0.7}).tolist() == [[0, 1, 0], [2, 1, 0], [1, 1, 0]]
    assert confusion_matrix(by_hand, {}).tolist() == [[0, 0, 0], [3, 0, 0], [2, 0, 0]]


def test_f1_by_hand(by_hand):
    """The first detection is right: F1 is 2 / (1 + 3); with all six, 2 / (6 + 3)."""
    f1 = f1_curves(by_hand)
    assert f1.best.keys() == {1}
    assert (f1.best[1].score, f1.best[1].f1, f1.best[1].precision) == (0.9, 0.5, 1.0)
    assert f1.best[1].recall == pytest.approx(1 / 3)
    cats = dict(zip(f1.scores.round(3).tolist(), f1.curves[1].tolist(), strict=True))
    assert (cats[0.0], cats[0.85], cats[1.0]) == (pytest.approx(2 / 9), 0.5, 0.0)
    assert f1.best_for_all is not None and 0.8 < f1.best_for_all <= 0.9
    assert not f1.curves[2].any()


def test_a_threshold_takes_all_detections_of_a_score_or_none():
    rows = [("a", 0.5, LEFT), ("a", 0.5, RIGHT), ("a", 0.5, LOW)]
    best = f1_curves(judged_of({1: detect(*rows)}, [annotate("a", ("cat", LEFT))], ("cat",))).best[1]
    assert (best.score, best.f1) == (0.5, 0.5)


def test_sizes_by_hand():
    """Sides of 31, 32 and 96 pixels; the best detection is small, and wrong."""
    small, medium, large = (1, 1, 31, 31), (101, 101, 132, 132), (201, 201, 296, 296)
    rows = [("a", 0.9, (60, 60, 70, 70)), *(("a", 0.8, box) for box in (small, medium, large))]
    objects = [("cat", box) for box in (small, medium, large)]
    judged = judged_of(
        {1: detect(*rows)}, [annotate("a", *objects, ("cat", (301, 301, 310, 310), True))], ("cat", "dog")
    )
    sizes = ap_by_size(judged, area_under_curve)
    assert {name: found[0] for name, found in sizes.items()} == {
        "small": (1, 0.5),
        "medium": (1, 1.0),
        "large": (1, 1.0),
    }
    assert sizes["small"][1] == (0, None)


def test_difficult_objects_are_neither_missed_nor_background():
    annotations = [annotate("a", ("cat", LEFT, True), ("cat", LOW), ("dog", RIGHT))]
    found = {1: detect(("a", 0.9, LEFT), ("a", 0.5, LOW)), 2: detect(("a", 0.8, LEFT), ("a", 0.7, RIGHT))}
    judged = judged_of(found, annotations, ("cat", "dog"))
    assert judged.classes[0].ignored.tolist() == [True, False]
    costs = {cost.kind: (cost.number, cost.cost) for cost in error_costs(judged, area_under_curve)}
    assert costs["classification"] == (1, pytest.approx(1 / 4))  # without it the dog is first
    assert costs["missed"] == (0, 0)
    assert confusion_matrix(judged, {1: 0, 2: 0}).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_nothing_detected_costs_all_that_is_missed():
    judged = judged_of({}, [annotate("a", ("cat", LEFT)), annotate("b")], ("cat", "dog"))
    assert [cost.cost for cost in error_costs(judged, area_under_curve)] == [0, 0, 0, 0, 0, 1]
    assert f1_curves(judged).best_for_all is None
    assert confusion_matrix(judged, {}).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    (image,) = costliest_images(judged)
    assert (image.annotation.image_id, image.cost, image.errors[0].kind) == ("a", 1, "missed")


# What tidecv 1.0.1 gives for `random_case` (TIDE().evaluate at .5, boxes as x, y, width + 1, height + 1): AP by 101
# recalls, and for each kind the number of errors and the rise of AP, in percent.
TIDECV_AP = 26.264365047738735
TIDECV = {
    "classification": (8, 5.987765803536057),
    "localisation": (9, 9.416616625126146),
    "both": (4, 0.17441134869790176),
    "duplicate": (14, 1.7529037844076356),
    "background": (20, 9.696856074373478),
    "missed": (7, 6.374380914429345),
}


def at_101_recalls(true_positive, positives):
    return float(precision_at(true_positive, positives, np.arange(101) / 100).mean())


def test_the_numbers_of_tidecv():
    annotations, detections = random_case()
    judged = judged_of(detections, annotations, NAMES)
    aps = [at_101_recalls(found.counted(), found.ground_truth) for found in judged.classes]
    assert 100 * np.mean(aps) == pytest.approx(TIDECV_AP)
    costs = {cost.kind: (cost.number, 100 * cost.cost) for cost in error_costs(judged, at_101_recalls)}
    assert costs == {kind: (count, pytest.approx(cost)) for kind, (count, cost) in TIDECV.items()}


def test_judging_agrees_with_the_metric():
    annotations, detections = random_case()
    result = evaluate(detections, annotations, NAMES, use_07_metric=False)
    judged = judged_of(detections, annotations, NAMES)
    for found, score in zip(judged.classes, result.classes.values(), strict=True):
        assert area_under_curve(found.counted(), found.ground_truth) == score.ap
    matrix = confusion_matrix(judged, {1: 0.0, 2: 0.0, 3: 0.0})
    assert np.diag(matrix)[1:].tolist() == [score.true_positive.sum() for score in result.classes.values()]
    assert matrix[1:].sum(axis=1).tolist() == [score.ground_truth for score in result.classes.values()]
    assert matrix[:, 1:].sum(axis=0).tolist() == [len(score.scores) for score in result.classes.values()]


def test_the_cost_of_a_detection_is_what_the_curve_gains_without_it():
    annotations, detections = random_case()
    judged = judged_of(detections, annotations, NAMES)
    area = partial(area_itself, judged)
    expected = {}
    for found in judged.classes:
        for row in np.flatnonzero(~found.true_positive).tolist():
            key = (judged.annotations[found.images[row]].image_id, round(float(found.scores[row]), 6))
            expected[key] = area(found, np.delete(found.true_positive, row)) - area(found, found.true_positive)
    shown = costliest_images(judged, most=len(annotations))
    errors = [
        (image.annotation.image_id, error) for image in shown for error in image.errors if error.score is not None
    ]
    assert len(errors) > 10
    for image_id, error in errors:
        assert error.score is not None
        assert error.cost * 3 == pytest.approx(expected[image_id, round(error.score, 6)])
    assert [image.cost for image in shown] == sorted((image.cost for image in shown), reverse=True)


def area_itself(judged, found, true_positive):
    """The area under precision over recall, without the envelope, in plain Python."""
    precisions, hits = [], 0
    for number, right in enumerate(true_positive.tolist(), start=1):
        hits += right
        if right:
            precisions.append(hits / number)
    return sum(precisions) / found.ground_truth

"""The loss against golden numbers and plain numpy."""

import json

import numpy as np
import pytest
import tensorflow as tf2
from hypothesis import given, settings
from hypothesis import strategies as st

from net import multibox_loss as ml
from net.matching import Targets
from net.ssd_net import SsdOutput


def loss_of(logits, offsets, classes, target_offsets, ratio=3.0, without=3):
    output = SsdOutput(tf2.constant(offsets, tf2.float32), tf2.constant(logits, tf2.float32))
    targets = Targets(tf2.constant(classes, tf2.int32), tf2.constant(target_offsets, tf2.float32))
    return ml.MultiboxLoss(*(x.numpy() for x in ml.multibox_loss(output, targets, ratio, without)))


def plain_loss(logits, offsets, classes, target_offsets, ratio, without):
    total, localization = 0.0, 0.0
    for image in range(len(classes)):
        shifted = logits[image] - logits[image].max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        positives = np.flatnonzero(classes[image] > 0)
        negatives = np.flatnonzero(classes[image] == 0)
        count = int(ratio * len(positives)) if len(positives) else without
        hardest = negatives[np.argsort(log_probability[negatives, 0], kind="stable")][:count]
        total -= log_probability[positives, classes[image][positives]].sum() + log_probability[hardest, 0].sum()
        distance = np.abs(offsets[image][positives] - target_offsets[image][positives])
        localization += np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
    normalizer = max(1, (classes > 0).sum())
    return total / normalizer, localization / normalizer


def test_loss_is_golden(golden):
    recipe, arrays = json.loads((golden / "loss.json").read_text()), np.load(golden / "loss.npz")
    random = np.random.RandomState(3000)
    logits = (random.randn(4, 8732, 21) * 2).astype(np.float32)
    logits[:, :, 0] += 3
    offsets = (random.randn(4, 8732, 4) * 1.5).astype(np.float32)
    loss = loss_of(logits, offsets, arrays["cls_targets"], arrays["loc_targets"])
    assert loss.positives.tolist() == recipe["n_positives"]
    assert loss.negatives.tolist() == recipe["n_selected_negatives"]
    assert loss.cross_entropy == pytest.approx(recipe["cross_entropy_loss"], rel=1e-4)
    assert loss.localization == pytest.approx(recipe["location_loss"], rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 4), st.booleans())
def test_loss_agrees_with_plain_numpy(seed, ratio, equal):
    random = np.random.RandomState(seed)
    logits = np.zeros((3, 30, 4)) if equal else random.randn(3, 30, 4) * 5
    offsets, target_offsets = random.randn(3, 30, 4), random.randn(3, 30, 4)
    classes = random.choice([-1, 0, 0, 0, 1, 2, 3], (3, 30))
    classes[0][classes[0] > 0] = 0  # an image without positives
    found = loss_of(logits, offsets, classes, target_offsets, ratio)
    wanted = plain_loss(logits, offsets, classes, target_offsets, ratio, 3)
    np.testing.assert_allclose([found.cross_entropy, found.localization], wanted, rtol=1e-4, atol=1e-5)


def test_equal_losses_never_select_too_many_negatives():
    classes = np.zeros((1, 100), int)
    classes[0, :5] = 1
    loss = loss_of(np.zeros((1, 100, 3)), np.zeros((1, 100, 4)), classes, np.zeros((1, 100, 4)))
    assert loss.negatives.tolist() == [15]
    assert loss.cross_entropy == pytest.approx(20 * np.log(3) / 5, rel=1e-5)


def test_ignored_boxes_are_never_mined():
    classes = np.array([[1, -1, -1, -1, 0]])
    logits = np.zeros((1, 5, 2))
    logits[0, 1:4, 1] = 50  # the ignored are the hardest
    loss = loss_of(logits, np.zeros((1, 5, 4)), classes, np.zeros((1, 5, 4)))
    assert loss.negatives.tolist() == [1]
    assert loss.cross_entropy == pytest.approx(2 * np.log(2), rel=1e-5)


@pytest.mark.parametrize("value", [0, -1], ids=["background only", "ignored only"])
def test_a_batch_without_objects_has_a_finite_loss_and_gradient(value):
    logits, offsets = tf2.Variable(tf2.random.normal([2, 50, 3])), tf2.Variable(tf2.zeros([2, 50, 4]))
    targets = Targets(tf2.fill([2, 50], value), tf2.zeros([2, 50, 4]))
    with tf2.GradientTape() as tape:
        loss = ml.multibox_loss(SsdOutput(offsets, logits), targets, 3.0, 3)
        total = loss.cross_entropy + loss.localization
    gradients = tape.gradient(total, [logits, offsets])
    assert np.isfinite(total.numpy()) and all(np.isfinite(g.numpy()).all() for g in gradients)
    assert loss.negatives.numpy().tolist() == ([3, 3] if value == 0 else [0, 0])
    assert 0 <= loss.correct.numpy() <= loss.selected.numpy()


def test_probabilities_of_zero_are_still_ranked():
    logits = np.zeros((1, 4, 2))
    logits[0, :, 1] = [0, 200, 300, 400]  # background probability 0 in float32 for three of them
    classes = np.array([[0, 0, 0, 0]])
    loss = loss_of(logits, np.zeros((1, 4, 4)), classes, np.zeros((1, 4, 4)), without=1)
    assert loss.cross_entropy == pytest.approx(400)

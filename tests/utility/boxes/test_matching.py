"""Matching against the greedy loop of Caffe in plain Python."""

import numpy as np
import tensorflow as tf2
from hypothesis import given, settings
from hypothesis import strategies as st

from net.default_boxes import default_boxes
from net.matching import bipartite_match, match
from preprocessing import box_ops
from tests.builders.configs import voc_config

ANCHORS = default_boxes(voc_config())


def greedy(iou):
    """Caffe's bipartite matching: the pair with the largest IoU, then the largest of the remaining ones, and so on."""
    remaining, matches = iou.copy(), np.full(iou.shape[0], -1)
    while remaining.max() > 0:
        ground_truth, box = np.unravel_index(remaining.argmax(), remaining.shape)
        matches[ground_truth] = box
        remaining[ground_truth], remaining[:, box] = 0, 0
    return matches


def plain_match(iou, match_threshold, neg_threshold):
    matches = greedy(iou)
    indices, states = np.zeros(iou.shape[1], int), np.zeros(iou.shape[1], int)
    for box in range(iou.shape[1]):
        indices[box] = iou[:, box].argmax()
        best = iou[:, box].max()
        states[box] = 1 if best >= match_threshold else -1 if best >= neg_threshold else 0
    for ground_truth, box in enumerate(matches):
        if box >= 0:
            indices[box], states[box] = ground_truth, 1
    return indices, states


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12), st.booleans())
def test_matching_agrees_with_plain_python(seed, ground_truths, boxes, ties):
    random = np.random.RandomState(seed)
    iou = random.uniform(0, 1, (3, ground_truths, boxes)) * random.choice([0, 1], (3, ground_truths, boxes))
    iou = np.round(iou, 1 if ties else 6).astype(np.float32)
    indices, states = (x.numpy() for x in match(tf2.constant(iou), 0.5, 0.3))
    for image in range(3):
        wanted_indices, wanted_states = plain_match(iou[image], 0.5, 0.3)
        np.testing.assert_array_equal(states[image], wanted_states)
        positive = wanted_states == 1
        np.testing.assert_array_equal(indices[image][positive], wanted_indices[positive])


def test_equal_ground_truths_get_a_box_each():
    boxes = tf2.constant([[[0.2, 0.2, 0.5, 0.5]] * 4])
    iou = box_ops.iou(boxes, ANCHORS.corners_yxyx)
    assert len(set(bipartite_match(iou).numpy()[0])) == 4

"""Encoding, decoding, matching and the targets of training, against golden numbers and plain Python."""

import math

import numpy as np
import pytest
import tensorflow as tf2
from hypothesis import given, settings
from hypothesis import strategies as st

from net.default_boxes import DefaultBoxes, default_boxes
from net.matching import bipartite_match, decode, encode, encode_targets, match
from preprocessing import box_ops
from tests.builders.configs import voc_config

ANCHORS = default_boxes(voc_config())
ABSOLUTE = default_boxes(voc_config(targets__coordinates="absolute"))


def encoded(sets, anchors, threshold):
    return [
        np.array(part)
        for part in encode_targets(
            tf2.constant(sets["gt_boxes"]), tf2.constant(sets["gt_labels"]), anchors, 0.5, threshold
        )
    ]


def contested(sets, anchors):
    """Default boxes that are the best of two ground truths or matched by a tie: there the reference is arbitrary."""
    overlaps = box_ops.iou(tf2.constant(sets["gt_boxes"]), anchors.corners_yxyx).numpy()
    result = np.zeros(sets["cls_targets"].shape, bool)
    for image, count in enumerate(sets["gt_count"]):
        best = [set(np.flatnonzero((row > row.max() - 1e-6) & (row > 0))) for row in overlaps[image, :count]]
        for one in range(count):
            best_of_others = set().union(*(best[other] for other in range(count) if other != one))
            if len(best[one]) > 1 or best[one] & best_of_others:
                # the next best default box differs too: the reference does not match it
                result[image, [*best[one], *np.argsort(-overlaps[image, one])[: count + 1]]] = True
    return result


@pytest.mark.parametrize(("name", "neg_threshold"), [("cls_targets", 0.5), ("cls_targets_ignore", 0.4)])
def test_targets_are_golden(golden, name, neg_threshold):
    sets = np.load(golden / "encode.npz")
    # the reference rounds ratios and scales to 4 digits; with its own default boxes that does not matter
    anchors = ANCHORS._replace(cyxhw=np.load(golden / "anchors.npz")["center_yxhw"])
    classes, offsets = encoded(sets, anchors, neg_threshold)
    compared = ~contested(sets, anchors)
    assert compared.mean() > 0.99
    np.testing.assert_array_equal(classes[compared], sets[name][compared])
    positive = compared & (classes > 0)
    assert positive.sum() > 100
    np.testing.assert_allclose(offsets[positive], sets["loc_targets"][positive], atol=1e-4, rtol=1e-4)


def test_decode_is_golden(golden):
    sets = np.load(golden / "decode.npz")
    anchors = ANCHORS._replace(cyxhw=ANCHORS.cyxhw[sets["rows"]])
    boxes = decode(tf2.constant(sets["pred"]), anchors).numpy()
    np.testing.assert_allclose(boxes, sets["boxes"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("anchors", [ANCHORS, ABSOLUTE], ids=["normalized", "absolute"])
def test_decode_inverts_encode(anchors):
    random = np.random.RandomState(0)
    low = random.uniform(0, 0.8, (8732, 2))
    boxes = np.concatenate([low, low + random.uniform(0.02, 0.2, (8732, 2))], axis=1).astype(np.float32)
    framed = anchors.frame.from_normalized(tf2.constant(boxes))
    again = decode(encode(framed, anchors), anchors)
    np.testing.assert_allclose(again.numpy(), framed.numpy(), rtol=1e-4, atol=1e-4 if anchors is ABSOLUTE else 1e-6)
    np.testing.assert_allclose(anchors.frame.to_normalized(framed).numpy(), boxes, atol=1e-6)


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((2, 0, 4)),
        np.zeros((2, 3, 4)),
        np.tile([0.5, 0.5, 0.5, 0.9], (2, 3, 1)),
        np.tile([0.9, 0.5, 0.5, 0.9], (2, 3, 1)),
        np.tile([2, 2, 3, 3], (2, 3, 1)),
    ],
    ids=["none", "zeros", "zero area", "inverted", "outside"],
)
@pytest.mark.parametrize("anchors", [ANCHORS, ABSOLUTE], ids=["normalized", "absolute"])
def test_unusable_ground_truth_leaves_background(boxes, anchors):
    labels = np.ones(boxes.shape[:2], np.int64)
    targets = encode_targets(tf2.constant(boxes, tf2.float32), tf2.constant(labels), anchors, 0.5, 0.5)
    assert (targets.classes.numpy() == 0).all() and (targets.offsets.numpy() == 0).all()


def test_padding_is_not_ground_truth():
    box = [0.1, 0.1, 0.6, 0.6]
    boxes = tf2.constant([[box, box, box]])
    padded = encode_targets(boxes, tf2.constant([[3, 0, 0]]), ANCHORS, 0.5, 0.5)
    alone = encode_targets(boxes[:, :1], tf2.constant([[3]]), ANCHORS, 0.5, 0.5)
    np.testing.assert_array_equal(padded.classes.numpy(), alone.classes.numpy())
    assert set(np.unique(padded.classes.numpy())) == {0, 3}


@pytest.mark.parametrize("anchors", [ANCHORS, ABSOLUTE], ids=["normalized", "absolute"])
def test_each_default_box_gets_the_offsets_of_its_own_object(anchors):
    degenerate, dog, cat = [0.5, 0.5, 0.5, 0.9], [0.1, 0.1, 0.4, 0.5], [0.5, 0.5, 0.9, 0.8]
    boxes = np.array([[dog, degenerate, cat], [cat, dog, dog], [dog, dog, dog]], np.float32)
    # padding and a degenerate box stand before and between what is learnt; the last image has no object
    labels = [[0, 2, 5], [4, 0, 3], [0, 0, 0]]
    targets = encode_targets(tf2.constant(boxes), tf2.constant(labels), anchors, 0.5, 0.5)
    classes, offsets = targets.classes.numpy(), targets.offsets.numpy()
    assert [set(row.tolist()) for row in classes] == [{0, 5}, {0, 3, 4}, {0}]
    for row, of_class in enumerate([{5: cat}, {4: cat, 3: dog}, {}]):
        assert not offsets[row][classes[row] == 0].any()
        for number, box in of_class.items():
            framed = anchors.frame.from_normalized(np.tile(np.array(box, np.float32), (len(anchors.cyxhw), 1)))
            wanted, matched = encode(tf2.constant(framed), anchors).numpy(), classes[row] == number
            np.testing.assert_allclose(offsets[row][matched], wanted[matched], rtol=1e-5, atol=1e-5)


def test_a_tiny_object_still_gets_its_box():
    targets = encode_targets(tf2.constant([[[0.5, 0.5, 0.505, 0.505]]]), tf2.constant([[7]]), ANCHORS, 0.5, 0.5)
    assert (targets.classes.numpy() == 7).sum() == 1
    assert np.isfinite(targets.offsets.numpy()).all()


def inclusive(box):
    """Centre and size of a box ymin, xmin, ymax, xmax in 0-based inclusive pixels."""
    ymin, xmin, ymax, xmax = map(float, box)
    return (ymin + ymax) / 2, (xmin + xmax) / 2, ymax - ymin + 1, xmax - xmin + 1


def plain_encode(box, anchor):
    (y, x, height, width), (anchor_y, anchor_x, anchor_height, anchor_width) = inclusive(box), map(float, anchor)
    return [
        (y - anchor_y) / anchor_height / 0.1,
        (x - anchor_x) / anchor_width / 0.1,
        math.log(height / anchor_height) / 0.2,
        math.log(width / anchor_width) / 0.2,
    ]


def plain_decode(offsets, anchor):
    anchor_y, anchor_x, anchor_height, anchor_width = map(float, anchor)
    y, x = offsets[0] * 0.1 * anchor_height + anchor_y, offsets[1] * 0.1 * anchor_width + anchor_x
    height, width = math.exp(offsets[2] * 0.2) * anchor_height, math.exp(offsets[3] * 0.2) * anchor_width
    return [y - (height - 1) / 2, x - (width - 1) / 2, y + (height - 1) / 2, x + (width - 1) / 2]


def test_absolute_encoding_is_that_of_inclusive_pixels():
    random = np.random.RandomState(1)
    picked = random.choice(8732, 300, replace=False)
    low = random.randint(0, 250, (300, 2))
    boxes = np.concatenate([low, low + random.randint(0, 49, (300, 2))], axis=1).astype(np.float64)
    exact = DefaultBoxes(  # in float32, pixels of 300 are good to 3e-5
        ABSOLUTE.cyxhw[picked].astype(np.float64), ABSOLUTE.frame, np.array([0.1, 0.1, 0.2, 0.2])
    )
    wanted = np.array([plain_encode(box, anchor) for box, anchor in zip(boxes, exact.cyxhw, strict=True)])
    found = encode(tf2.constant(boxes), exact).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    again = decode(tf2.constant(found), exact).numpy()
    np.testing.assert_allclose(again, boxes, atol=1e-5)
    plain = [plain_decode(offsets, anchor) for offsets, anchor in zip(wanted, exact.cyxhw, strict=True)]
    np.testing.assert_allclose(again, plain, atol=1e-9)
    single = encode(tf2.constant(boxes, tf2.float32), ABSOLUTE._replace(cyxhw=ABSOLUTE.cyxhw[picked]))
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-4, atol=1e-3)


# --- matching --------------------------------------------------------------------------------------------------------


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

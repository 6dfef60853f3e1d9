"""Detections against golden numbers and non-maximum suppression in plain Python."""

import numpy as np
import pytest
import tensorflow as tf2

from net.default_boxes import default_boxes
from net.detections import detect
from net.matching import encode
from net.ssd_net import SsdOutput
from tests.builders.configs import voc_config
from utility.config.settings import DetectionConfig

ANCHORS = default_boxes(voc_config())


def offsets_of(boxes_yxyx, anchors=ANCHORS):
    framed = anchors.frame.from_normalized(tf2.constant(boxes_yxyx, tf2.float32))
    return encode(framed, anchors)


def test_detections_are_golden(golden):
    arrays = np.load(golden / "postprocess.npz")
    boxes, logits = np.tile(np.array([0.2, 0.2, 0.8, 0.8], np.float32), (8732, 1)), np.zeros((1, 8732, 21), np.float32)
    logits[..., 0] = 20  # the default boxes that are not in the file are background
    boxes[arrays["rows"]], logits[0, arrays["rows"]] = arrays["bboxes_pred"], arrays["cls_pred"]
    found = detect(SsdOutput(offsets_of(boxes)[tf2.newaxis], tf2.constant(logits)), ANCHORS, DetectionConfig())
    boxes, scores, classes = (x.numpy()[0, : found.count.numpy()[0]] for x in found[:3])
    assert len(classes) == len(arrays["classes"]) == 239
    for number in range(1, 21):
        mine, wanted = classes == number, arrays["classes"] == number
        np.testing.assert_allclose(scores[mine], arrays["scores"][wanted], atol=1e-6)
        np.testing.assert_allclose(boxes[mine], arrays["boxes"][wanted], atol=1e-4)


def plain_detect(boxes, probabilities, settings, offset=0.0, size=1.0):
    """One image, one box and one class at a time; boxes normalized."""
    found = []
    for number in range(1, probabilities.shape[1]):
        scores = probabilities[:, number].copy()
        clipped = np.clip(boxes, 0, 1)
        scores[((clipped[:, 2:] - clipped[:, :2]) <= settings.min_size).any(axis=1)] = 0
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > settings.select_threshold]
        kept: list[int] = []
        for i in order[: settings.keep_topk]:
            if all(plain_iou(clipped[i], clipped[j], offset, size) <= settings.nms_threshold for j in kept):
                kept.append(i)
        found += [(scores[i], number, *clipped[i]) for i in kept[: settings.nms_topk]]
    return sorted(found, reverse=True)[: settings.max_detections]


def plain_iou(a, b, offset, size):
    a, b = a * size - offset, b * size - offset
    sides = [np.minimum(a[2 + i], b[2 + i]) - np.maximum(a[i], b[i]) + offset for i in (0, 1)]
    overlap = max(sides[0], 0) * max(sides[1], 0)
    areas = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    return overlap / (sum(areas) - overlap)


@pytest.mark.parametrize("coordinates", ["normalized", "absolute"])
@pytest.mark.parametrize("limit", [None, 7])
def test_detections_agree_with_plain_python(coordinates, limit):
    anchors = default_boxes(voc_config(targets__coordinates=coordinates))
    random = np.random.RandomState(4)
    settings = DetectionConfig(max_detections=limit, keep_topk=60, nms_topk=9, select_threshold=0.2)
    centre, size = random.uniform(0.2, 0.8, (2, 8732, 2)), random.uniform(0.01, 0.5, (2, 8732, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1).astype(np.float32)
    logits = random.randn(2, 8732, 4).astype(np.float32)
    logits[:, 300:, 0] += 20  # most are background
    found = detect(SsdOutput(offsets_of(boxes, anchors), tf2.constant(logits)), anchors, settings)
    for image in range(2):
        alone = SsdOutput(offsets_of(boxes[image : image + 1], anchors), tf2.constant(logits[image : image + 1]))
        for one, both in zip(detect(alone, anchors, settings), found, strict=True):
            np.testing.assert_allclose(one, both[image : image + 1], atol=1e-6)
    probabilities = tf2.nn.softmax(logits).numpy()
    frame = (1.0, 300.0) if coordinates == "absolute" else (0.0, 1.0)
    for image in range(2):
        wanted = plain_detect(boxes[image], probabilities[image], settings, *frame)
        count = found.count.numpy()[image]
        assert count == len(wanted)
        np.testing.assert_allclose(found.scores.numpy()[image, :count], [row[0] for row in wanted], atol=1e-5)
        assert found.classes.numpy()[image, :count].tolist() == [row[1] for row in wanted]
        np.testing.assert_allclose(found.boxes_yxyx.numpy()[image, :count], [row[2:] for row in wanted], atol=1e-4)
        for padding in found[:3]:
            assert (padding.numpy()[image, count:] == 0).all()


def test_without_detections_the_count_is_zero():
    logits = np.zeros((1, 8732, 21), np.float32)
    logits[..., 0] = 50
    found = detect(SsdOutput(tf2.zeros([1, 8732, 4]), tf2.constant(logits)), ANCHORS, DetectionConfig())
    assert found.count.numpy().tolist() == [0]
    assert not found.scores.numpy().any() and not found.boxes_yxyx.numpy().any()

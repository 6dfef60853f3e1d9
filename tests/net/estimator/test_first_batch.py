"""The picture of a training's first batch."""

import os

import numpy as np
import pytest
from PIL import Image

from net import training, training_log
from net.default_boxes import default_boxes
from tests import kill_loop
from tests.builders.configs import assert_same_training, voc_config
from tests.builders.tiny_ssd import batch, make_estimator, repeated, variables
from utility.config import presets
from utility.drawing.detections import class_colour
from utility.run.cluster import Task


@pytest.mark.parametrize("preset", ["ssd300_voc", "ssd300_voc_absolute"])
def test_the_corners_are_those_that_are_matched(preset):
    anchors = default_boxes(presets.preset(preset))
    expected = anchors.frame.to_normalized(anchors.corners_yxyx)
    np.testing.assert_allclose(training_log._corners(anchors), expected, atol=1e-6)


def test_images_are_as_they_were_before_preprocessing_and_boxes_in_their_colours():
    config = voc_config()
    anchors = default_boxes(config)
    rgb = np.random.RandomState(1).randint(0, 256, (18, 300, 300, 3)).astype(np.uint8)
    shown = (rgb.astype(np.float32) - np.array(config.network.channel_means_rgb, np.float32))[..., ::-1]
    classes = np.zeros((18, len(anchors.cyxhw)), np.int32)
    matched = int(np.argmax(anchors.cyxhw[:, 2:].min(axis=1)))  # the largest
    classes[:, 0], classes[0, matched] = -1, 3
    boxes = np.tile(np.array([[0.4, 0.4, 0.6, 0.6], [0, 0, 0, 0]], np.float32), (18, 1, 1))
    labels = np.tile(np.array([3, 0], np.int64), (18, 1))
    drawn = training_log.draw_batch(
        {"image": shown, "boxes_yxyx": boxes, "labels": labels, "classes": classes}, anchors, config
    )
    assert len(drawn) == 16
    first, second = (np.asarray(picture) for picture in drawn[:2])
    np.testing.assert_array_equal(second[200:], rgb[1, 200:])
    box_line = (second == class_colour(3)).all(-1)
    assert box_line[119, 119:180].all() and box_line[119:180, 179].all() and not box_line[182:].any()
    as_matched = [(picture == training_log._MATCHED).all(-1).sum() for picture in (first, second)]
    assert as_matched[0] > 500 and as_matched[1] < 10


@pytest.fixture
def train(tiny, tmp_path):
    def trained(steps, picture, folder="logs", element=None, **params):
        estimator = make_estimator(tiny, tmp_path / folder, first_batch=picture and str(picture), **params)
        training.train(estimator, repeated(batch() if element is None else element), steps)
        return variables(estimator)

    return trained


def test_a_training_that_begins_draws_and_one_that_goes_on_only_what_is_missing(train, tmp_path):
    picture = tmp_path / "logs" / "first_batch.jpg"
    picture.parent.mkdir()
    picture.write_bytes(b"of an earlier training")
    train(1, picture)
    assert Image.open(picture).size == (604, 300)
    os.utime(picture, (1, 1))
    train(2, picture)
    assert picture.stat().st_mtime == 1
    picture.unlink()
    train(3, picture)
    assert Image.open(picture).size == (604, 300)


@pytest.mark.parametrize("parts", [1, 2])
def test_it_changes_no_number(train, tmp_path, parts):
    images = np.random.RandomState(3).uniform(-100, 100, (2, 300, 300, 3)).astype(np.float32)
    settings = {"element": batch(images), "accumulate_steps": parts}
    without = train(2, None, "without", **settings)
    kill_loop.assert_same(without, train(2, tmp_path / "first_batch.jpg", "with", **settings))
    assert Image.open(tmp_path / "first_batch.jpg").size == (604, 300)


def test_of_several_replicas_the_first_one_draws_its_images(train_tiny, trained_alone, tmp_path):
    picture = tmp_path / "first_batch.jpg"
    assert_same_training(train_tiny("--devices=2", f"--first_batch={picture}")[0], trained_alone)
    assert Image.open(picture).size == (300, 300)


def test_a_picture_that_cannot_be_drawn_is_a_line_of_the_log(train, tmp_path, capsys):
    train(1, tmp_path / "missing" / "first_batch.jpg")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("warning: first_batch.jpg cannot be drawn: ")


def test_a_cluster_draws_none():
    cluster = {"chief": ["a:1"], "worker": ["b:1"]}
    assert [training_log.path("logs", Task(kind, 0, cluster)) for kind in cluster] == [None, None]
    assert training_log.path("logs", None) == "logs/first_batch.jpg"

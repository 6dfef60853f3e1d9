"""The training log: its lines, and the picture of the first batch."""

import os
import types

import numpy as np
import pytest
from PIL import Image

from net import training, training_log
from net.default_boxes import default_boxes
from tests import kill_loop
from tests.builders.configs import voc_config
from tests.builders.tiny_ssd import batch, make_estimator, repeated, variables
from utility.config.settings import ScheduleConfig
from utility.drawing.detections import class_colour


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


def test_it_changes_no_number(train, tmp_path):
    images = np.random.RandomState(3).uniform(-100, 100, (2, 300, 300, 3)).astype(np.float32)
    settings = {"element": batch(images), "accumulate_steps": 2}
    without = train(2, None, "without", **settings)
    kill_loop.assert_same(without, train(2, tmp_path / "first_batch.jpg", "with", **settings))
    assert Image.open(tmp_path / "first_batch.jpg").size == (604, 300)


def test_a_picture_that_cannot_be_drawn_is_a_line_of_the_log(train, tmp_path, capsys):
    train(1, tmp_path / "missing" / "first_batch.jpg")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("warning: first_batch.jpg cannot be drawn: ")


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host_wait", "told"), [(None, ""), (0.05, ""), (0.5, "waited for input 50% of the time")])
def test_the_log_tells_where_in_the_schedule_it_is_and_when_it_is_input_bound(capsys, monkeypatch, host_wait, told):
    """Steps of a second each, with 4 images of 6."""
    clock = iter(range(100))
    monkeypatch.setattr(training_log.time, "monotonic", lambda: float(next(clock)))
    fetched = {} if host_wait is None else {"host_wait": host_wait}
    log = training_log.TrainingLog({}, ScheduleConfig(4, 120), 10, images_per_epoch=6)
    scalars = dict.fromkeys(("loss", "cross_entropy", "location", "l2", "accuracy", "gradient_norm"), 1.0)
    for step in range(1, 21):
        values = {**scalars, "learning_rate": 0.001, "step": step, **fetched}
        log.after_run(None, types.SimpleNamespace(results=values))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"step {s}/120 epoch {e}/80" for s, e in ((1, 1), (10, 7), (20, 13))
    ]
    assert lines[-1].split("  ")[4:] == ["4.0 images/s", "2 min left", *([told] if told else [])]


@pytest.mark.parametrize(("images", "batch", "epochs"), [(600, 16, 60), (365, 32, 12), (16, 16, 7), (2000, 16, 3)])
def test_a_training_by_epochs_counts_to_their_number(images, batch, epochs, capsys):
    """Its steps are rounded up, so that the last batch may hold images of one epoch more."""
    steps = -(-images * epochs // batch)
    log = training_log.TrainingLog({}, ScheduleConfig(batch, steps), steps, images_per_epoch=images)
    values = dict.fromkeys(
        ("loss", "cross_entropy", "location", "l2", "accuracy", "gradient_norm", "learning_rate"), 1.0
    )
    for step in (1, steps):
        log.after_run(None, types.SimpleNamespace(results={**values, "step": step}))
    first, *_, last = capsys.readouterr().out.splitlines()
    assert f"epoch 1/{epochs} " in first and f"epoch {epochs}/{epochs} " in last

"""Evaluation in the course of a training: when, what is kept, and when the training stops early."""

import dataclasses
import io
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records import record_files
from dataset.scores import average_precision
from dataset.sources.annotations import VALIDATION, Annotation, LabelledObject
from net import periodic_evaluation, training
from net.evaluation import Evaluation
from net.periodic_evaluation import PeriodicEvaluation
from tests.builders.checkpoints import save, scores_by_step
from tests.builders.configs import voc_config
from tests.builders.detections import detect
from tests.builders.records import record, write_shards
from tests.builders.tiny_ssd import batch, make_estimator, repeated
from utility.checkpoints import checkpoint_files
from utility.config import config_file
from utility.drawing.detections import class_colour
from utility.run.stop_request import Interrupted


class Scripted(Evaluation):
    """Evaluates as it is told, in place of detecting anything; notes at which checkpoints."""

    maps: dict[int, float]
    evaluated: list[int]

    def predict(self, estimator, checkpoint, on_image=lambda position, found: None):
        self.evaluated.append(int(checkpoint.rpartition("-")[2]))
        return {}

    def score(self, found):
        result = average_precision.evaluate(found, self.ground_truth, self._class_names)
        return dataclasses.replace(result, mean_ap=self.maps[self.evaluated[-1]])


@pytest.fixture
def train_with(tiny, data, tmp_path, monkeypatch):
    """Return a function that trains to a step with scripted evaluations, and returns the steps of these.

    The training does nothing but write checkpoints.
    """

    def pretend(self, input_fn, hooks, max_steps):
        del input_fn, hooks
        save(Path(self.model_dir) / "model.ckpt", {"global_step": np.int64(max_steps)}, global_step=max_steps)

    def train(steps, maps, patience=0):
        Scripted.maps, Scripted.evaluated = maps, []
        in_training = PeriodicEvaluation(tiny, str(data), str(tmp_path), 2, patience)
        training.train(make_estimator(tiny, tmp_path), repeated(batch()), steps, evaluation=in_training)
        return Scripted.evaluated

    monkeypatch.setattr(periodic_evaluation, "Evaluation", Scripted)
    monkeypatch.setattr(tf.estimator.Estimator, "train", pretend)
    return train


def test_it_evaluates_at_multiples_and_at_the_end_and_keeps_the_best(train_with, tiny, tmp_path):
    maps = {2: 0.3, 4: 0.5, 5: 0.5}
    assert train_with(5, maps) == [2, 4, 5]
    assert scores_by_step(tmp_path) == maps
    best = tmp_path / "best"
    assert checkpoint_files.resolve(str(best)) == str(best / "model.ckpt-4"), "an equal one is not better"
    assert config_file.load(str(best)) == tiny
    assert (best / "labels.txt").read_text().split() == list(tiny.class_names)
    events = [e for file in (tmp_path / "eval").iterdir() for e in tf.train.summary_iterator(str(file))]
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    assert values[(2, "VOC07/mAP")] == pytest.approx(0.3) and (2, f"VOC07/AP/{tiny.class_names[0]}") in values


def test_a_resumed_run_knows_the_best_and_evaluates_at_the_same_steps(train_with, tmp_path):
    train_with(3, {2: 0.5, 3: 0.1})
    assert train_with(6, {4: 0.2, 6: 0.4}) == [4, 6]
    assert checkpoint_files.resolve(str(tmp_path / "best")).endswith("model.ckpt-2")
    assert train_with(6, {}) == []
    assert scores_by_step(tmp_path) == {2: 0.5, 3: 0.1, 4: 0.2, 6: 0.4}


def test_an_evaluation_that_was_interrupted_is_made_up_for(train_with, tmp_path):
    def kill(estimator, checkpoint, on_image):
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(0.01)
            on_image(9, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "predict", lambda self, *arguments: kill(*arguments))
        with pytest.raises(Interrupted, match=r"evaluation of step 2 interrupted"):
            train_with(4, {})
    assert not (tmp_path / "best").exists() and not (tmp_path / "evaluations.json").exists()
    assert train_with(4, {2: 0.4, 4: 0.3}) == [2, 4]


def test_evaluations_of_steps_that_were_lost_are_forgotten(train_with, tmp_path):
    train_with(4, {2: 0.1, 4: 0.9})
    (tmp_path / "model.ckpt-4.index").write_bytes(b"")
    assert train_with(6, {4: 0.2, 6: 0.3}) == [4, 6]
    assert scores_by_step(tmp_path) == {2: 0.1, 4: 0.2, 6: 0.3}


def test_it_stops_early_when_the_map_does_not_rise_and_stays_so(train_with, tmp_path, capsys):
    maps = {2: 0.3, 4: 0.5, 6: 0.2, 8: 0.5, 10: 0.9}
    assert train_with(40, maps, patience=2) == [2, 4, 6, 8]
    assert "2 evaluations without a better mAP than 0.5000 of step 4" in capsys.readouterr().out
    assert train_with(40, maps, patience=2) == []
    assert "stopped early" in capsys.readouterr().out
    assert train_with(10, maps) == [10]
    assert checkpoint_files.resolve(str(tmp_path / "best")).endswith("model.ckpt-10")


def test_what_it_finds_is_what_an_evaluation_of_its_own_finds(tiny, data, parts):
    evaluation = Evaluation(record_files.find_shards(data, VALIDATION), tiny, batch_size=3)
    scores = scores_by_step(parts.folder)
    best = checkpoint_files.resolve(str(parts.folder / "best"))
    found = evaluation.predict(make_estimator(tiny, parts.folder), best)
    assert found and evaluation.score(found).mean_ap == pytest.approx(max(scores.values()))
    assert scores[checkpoint_files.step_in_name(best)] == max(scores.values())


def test_nothing_to_evaluate_on_is_an_error_before_the_training(tiny, data, tmp_path):
    (tmp_path / "train-00000-of-00001").write_bytes((data / "train-00000-of-00003").read_bytes())
    with pytest.raises(ValueError, match=r"no record files .*val-\*-of-\*"):
        PeriodicEvaluation(tiny, str(tmp_path), str(tmp_path), 5, 0)
    few = tiny.replace({"class_names": tiny.class_names[:2]})
    with pytest.raises(ValueError, match=r"class ids from 3 to 3, but there are 2 class names"):
        PeriodicEvaluation(few, str(data), str(tmp_path), 5, 0)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "null",
        "3",
        "[" * 5000,
        "[{}]",
        '[{"step": 2, "mAP": "high", "AP": {}}]',
        '[{"step": 2, "mAP": NaN, "AP": {}}]',
        '[{"step": 2.5, "mAP": 0.5, "AP": {}}]',
        '[{"step": 2, "mAP": 0.5, "AP": []}]',
    ],
)
def test_a_history_that_is_none_is_one_line(tiny, data, tmp_path, text):
    (tmp_path / "evaluations.json").write_text(text)
    with pytest.raises(ValueError, match=r"evaluations\.json.*remove it, and the evaluations start anew$") as error:
        PeriodicEvaluation(tiny, str(data), str(tmp_path), 5, 0)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("images", "expected"),
    [(0, []), (1, [0]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 5, 6, 7, 8]), (16, [*range(1, 16, 2)])],
)
def test_positions_are_evenly_spread(images, expected):
    assert periodic_evaluation.sample_positions(images) == expected


def test_the_pictures_are_those_of_the_records(tmp_path):
    write_shards(tmp_path, [record(number, kind="PNG") for number in range(7)], 3, "val")
    shards = record_files.find_shards(tmp_path, VALIDATION)
    everything = periodic_evaluation.pictures_at(shards, range(7))
    some = periodic_evaluation.pictures_at(shards, [1, 5])
    assert list(some) == [1, 5] and list(everything) == list(range(7))
    assert all(some[n].tobytes() == everything[n].tobytes() for n in some)
    assert len({picture.tobytes() for picture in everything.values()}) == 7


@pytest.mark.parametrize(("pixel_extent", "ap"), [(0.0, 0.0), (1.0, 1.0)])
def test_an_evaluation_scores_by_the_pixels_of_the_records(tmp_path, pixel_extent, ap):
    """Boxes of 8 pixels, 3 apart: an IoU of .455 as edges, of .5 as inclusive pixels."""
    shards = write_shards(tmp_path, [record(0, [((0, 0, 8 / 40, 8 / 48), 8, False)])], 1, "val")
    evaluation = Evaluation(shards, voc_config(pixel_extent=pixel_extent))
    assert evaluation.score({8: detect(("000", 0.9, (0, 3, 8, 11)))}).mean_ap == ap


def test_ground_truth_is_white_and_only_detections_that_the_demo_would_draw_are():
    annotation = Annotation(
        "a", Path("a"), 400, 800, (LabelledObject("cat", (41.0, 401.0, 200.0, 600.0), False, False),)
    )
    picture = Image.new("RGB", (400, 200), (90, 90, 90))  # half of the size
    found = {
        "boxes_yxyx": np.array([[0.5, 0.1, 0.9, 0.3], [0.5, 0.6, 0.9, 0.9]], np.float32),
        "scores": np.array([0.6, 0.1], np.float32),
        "classes": np.array([2, 3], np.int32),
    }
    config = voc_config(class_names=("cat", "dog", "cow"))
    drawn = periodic_evaluation.with_truth_and_detections(picture, annotation, found, config)
    pixels = np.asarray(drawn)
    assert pixels.shape == (200, 400, 3)
    white = (pixels == 255).all(-1)
    assert white[99, 200:299].all() and white[21:99, 299].all()  # below and right: 200 / 2, 600 / 2, counted from 0
    assert (pixels[179, 39:120] == class_colour(2)).all()
    assert not (pixels == class_colour(3)).all(-1).any()


def test_each_evaluation_writes_the_same_pictures_beside_the_map(parts):
    events = [e for path in (parts.folder / "eval").iterdir() for e in tf.train.summary_iterator(str(path))]
    pictures = {
        (event.step, value.tag): value.image
        for event in events
        for value in event.summary.value
        if value.HasField("image")
    }
    assert {step for step, _ in pictures} == {3, 6}
    of_step = [{tag for step, tag in pictures if step == each} for each in (3, 6)]
    assert of_step[0] == of_step[1] and len(of_step[0]) == 4
    assert all(tag.startswith("validation/") for tag in of_step[0])
    for summary in pictures.values():
        size = Image.open(io.BytesIO(summary.encoded_image_string)).size
        assert size == (summary.width, summary.height) and max(size) <= 640

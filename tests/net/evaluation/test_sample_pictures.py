"""The sample of validation pictures in TensorBoard."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records import record_files
from dataset.sources.annotations import VALIDATION, Annotation, LabelledObject
from net import evaluation
from net.evaluation import SamplePicture
from tests.builders.records import record, write_shards
from utility.drawing.detections import class_colour


@pytest.mark.parametrize(
    ("images", "expected"),
    [(0, []), (1, [0]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 5, 6, 7, 8]), (16, [*range(1, 16, 2)])],
)
def test_positions_are_evenly_spread(images, expected):
    assert evaluation.positions(images) == expected


def test_the_pictures_are_those_of_the_records(tmp_path):
    write_shards(tmp_path, [record(number, kind="PNG") for number in range(7)], 3, "val")
    shards = record_files.find_shards(tmp_path, VALIDATION)
    everything = evaluation.read_pictures(shards, range(7))
    some = evaluation.read_pictures(shards, [1, 5])
    assert list(some) == [1, 5] and list(everything) == list(range(7))
    assert all(some[n].tobytes() == everything[n].tobytes() for n in some)
    assert len({picture.tobytes() for picture in everything.values()}) == 7


def test_ground_truth_is_white_and_only_detections_that_the_demo_would_draw_are():
    annotation = Annotation(
        "a", Path("a"), 400, 800, (LabelledObject("cat", (41.0, 401.0, 200.0, 600.0), False, False),)
    )
    picture = SamplePicture(Image.new("RGB", (400, 200), (90, 90, 90)), annotation)  # half of the size
    found = {
        "boxes_yxyx": np.array([[0.5, 0.1, 0.9, 0.3], [0.5, 0.6, 0.9, 0.9]], np.float32),
        "scores": np.array([0.6, 0.1], np.float32),
        "classes": np.array([2, 3], np.int32),
    }
    pixels = np.asarray(evaluation.draw(picture, found, ("cat", "dog", "cow")))
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

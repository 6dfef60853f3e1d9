"""Fixtures of the tests that train: a small network, records for it, and two trainings of six steps."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow.compat.v1 as tf

from dataset import input
from dataset.records import record_files
from dataset.sources.annotations import TRAIN
from net import training
from net.periodic_evaluation import PeriodicEvaluation
from tests import kill_loop
from tests.builders.tiny_ssd import make_estimator, tiny_config
from utility.checkpoints import checkpoint_files
from utility.run.layout import RunLayout


@pytest.fixture
def tiny(monkeypatch):
    """A config around a network that a test can train."""
    return tiny_config(monkeypatch.setitem)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with records of 14 training and 4 validation images, an object in each."""
    return kill_loop.tiny_data(tmp_path_factory.mktemp("home") / "data")


class Trained(NamedTuple):
    """A model directory, and the images of each batch that it was trained on."""

    folder: Path
    batches: list


@pytest.fixture(scope="module")
def train_on(data):
    """Return a function that trains a folder to a step on the records, and returns the images of its batches."""
    with pytest.MonkeyPatch.context() as patch:
        config = tiny_config(patch.setitem).replace({"schedule.batch_size": kill_loop.BATCH})
        shards = record_files.find_shards(data, TRAIN)
        records, layout = input.training_records(shards, config), RunLayout(kill_loop.BATCH)

        def train(folder, steps, every=0):
            estimator, seen = make_estimator(config, folder), []
            step = checkpoint_files.step_reader(estimator.model_dir, once=False)
            input_fn = input.training_input_fn(records, config, layout, 7, step, input.Parallelism(deterministic=True))

            def noting():
                batches: list[Any] = []  # of this start; at its end, what was fetched ahead and not trained on
                seen.append((step(), batches))
                noted = lambda ids: batches.append(ids.tolist())  # noqa: E731
                return input_fn().map(lambda features, labels: (note(noted, features), labels))

            evaluation = PeriodicEvaluation(config, str(data), str(folder), every, 0) if every else None
            training.train(estimator, noting, steps, evaluation=evaluation)
            ends = [*(first for first, _ in seen[1:]), steps]
            return [ids for (first, batches), end in zip(seen, ends, strict=True) for ids in batches[: end - first]]

        yield train


def note(noted, features):
    with tf.control_dependencies([tf.numpy_function(noted, [features["image_id"]], [])]):
        return {**features, "image": tf.identity(features["image"])}


@pytest.fixture(scope="module")
def whole(train_on, tmp_path_factory):
    """Six steps without a break."""
    folder = tmp_path_factory.mktemp("whole")
    return Trained(folder, train_on(folder, 6))


@pytest.fixture(scope="module")
def parts(train_on, tmp_path_factory):
    """The same in two parts, each with an evaluation."""
    folder = tmp_path_factory.mktemp("parts")
    return Trained(folder, train_on(folder, 6, every=3))

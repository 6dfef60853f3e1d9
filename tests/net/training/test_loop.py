"""A training that goes on as if nothing had stopped it, evaluates itself, and ends when it is told to."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset.input import training
from dataset.records import record_files
from dataset.scores import average_precision
from net.estimator import optimizer, training_log
from net.estimator.prediction import detect
from net.estimator.run_config import build
from net.evaluation.evaluation import Evaluation
from net.evaluation.in_training import InTraining, in_training
from net.network.ssd_net import ssd_network
from net.training import loop
from tests import kill_loop
from tests.builders.tiny_ssd import batch, make_estimator, repeated, tiny_config
from tests.utility.checkpoints.test_warm_start import save
from utility.checkpoints import assignment, checkpoint_files, initialization, model_directory, warm_start
from utility.config import config_file
from utility.config.settings import ScheduleConfig
from utility.run.stop_request import Interrupted


@pytest.fixture
def tiny(monkeypatch):
    """A config around a network that a test can train."""
    return tiny_config(monkeypatch.setitem)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with records of 14 training and 4 validation images, an object in each."""
    return kill_loop.tiny_data(tmp_path_factory.mktemp("home") / "data")


# --- going on -----------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A model directory, and the images of each batch that it was trained on."""

    folder: Path
    batches: list


@pytest.fixture(scope="module")
def train_on(data):
    """Return a function that trains a folder to a step on the records, and returns the images of its batches."""
    with pytest.MonkeyPatch.context() as patch:
        config = tiny_config(patch.setitem).replace({"schedule.batch_size": kill_loop.BATCH})
        shards = record_files.find_shards(data, record_files.TRAIN)

        def train(folder, steps, every=0):
            estimator, seen = make_estimator(config, folder), []
            step = lambda: checkpoint_files.step_of(checkpoint_files.newest(estimator.model_dir))  # noqa: E731
            input_fn = training.training_input_fn(shards, config, 7, deterministic=True, first_step=step)

            def noting():
                batches: list[Any] = []  # of this start; at its end, what was fetched ahead and not trained on
                seen.append((step(), batches))
                noted = lambda ids: batches.append(ids.tolist())  # noqa: E731
                return input_fn().map(lambda features, labels: (note(noted, features), labels))

            evaluation = in_training(str(data), config, str(folder), every, 0) if every else None
            loop.train(estimator, noting, steps, evaluation=evaluation)
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


def test_going_on_is_exact(whole, parts):
    """The same batches and, bit by bit, the same variables; evaluations change nothing."""
    assert whole.batches == parts.batches
    assert len(set(map(tuple, whole.batches))) == 6
    assert history(parts.folder).keys() == {3, 6}
    kill_loop.assert_same(kill_loop.variables(whole.folder), kill_loop.variables(parts.folder))


def test_it_goes_on_from_the_checkpoint_before_a_broken_one(train_on, whole, parts, tmp_path, capsys):
    folder = shutil.copytree(parts.folder, tmp_path / "logs")
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("model.ckpt-3*")}
    with (folder / "model.ckpt-6.data-00000-of-00001").open("r+b") as file:
        file.truncate(1_000_000)
    assert train_on(folder, 6) == whole.batches[3:]
    assert f"taking {folder}/model.ckpt-3, the one before it" in capsys.readouterr().out
    kill_loop.assert_same(kill_loop.variables(whole.folder), kill_loop.variables(folder))
    # writing over the one that was restored could spoil it
    assert kept == {path: path.stat().st_mtime_ns for path in folder.glob("model.ckpt-3*")}


def test_killed_at_random_it_ends_as_if_nothing_had_been(data, tmp_path):
    """See tests/kill_loop.py, which kills more often."""
    kill_loop.kill_and_go_on(data, tmp_path / "killed", 14, kills=2)
    kill_loop.run(kill_loop.command(data, tmp_path / "undisturbed", 14))
    kill_loop.assert_same(kill_loop.variables(tmp_path / "undisturbed"), kill_loop.variables(tmp_path / "killed"))


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path):
    """A folder, what leaves no room in it, and what makes room again: a small disk or, without root, file sizes."""
    disk, filling = tmp_path / "disk", tmp_path / "disk" / "filling"
    disk.mkdir()

    def fill():
        with pytest.raises(OSError, match="No space left"), filling.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # noqa: E731
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        yield disk, lambda: limit(1_000_000), lambda: limit(soft)
        limit(soft)
    else:
        yield disk, fill, filling.unlink
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the thread for summaries
def test_a_full_disk_is_one_line_and_spoils_nothing(tiny, parts, full_disk, monkeypatch, capsys):
    disk, fill, make_room = full_disk
    folder = shutil.copytree(parts.folder, disk / "logs")
    monkeypatch.setattr(training_log, "_STARVED", 0.0)
    input_fn = lambda: training._timed(repeated(batch())())  # noqa: E731
    with pytest.raises(ValueError, match=r"--model_dir=.*/logs: cannot be written to: ") as error:
        loop.train(make_estimator(tiny, folder), input_fn, 11, on_start=fill)
    assert "\n" not in str(error.value) and "make room" in str(error.value)
    assert "No space left on device" in str(error.value) or "File too large" in str(error.value)
    make_room()
    assert model_directory.prepare(str(folder)) == tf.train.latest_checkpoint(folder) == str(folder / "model.ckpt-6")
    assert not list(folder.glob("*.tempstate*"))
    assert "waited for input" in capsys.readouterr().out


def test_a_file_in_place_of_the_model_directory_is_one_line(tiny, tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(ValueError, match=r"--model_dir=.*/logs: cannot be written to: File exists"):
        loop.train(make_estimator(tiny, tmp_path / "logs"), repeated(batch()), 2)


# --- stopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(tiny, tmp_path, signum):
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=rf"{signum.name}: stopped at step 1; .* goes on from .*ckpt-1") as stop:
        loop.train(
            make_estimator(tiny, tmp_path), repeated(batch()), 400, on_start=lambda: os.kill(os.getpid(), signum)
        )
    assert stop.value.signum == signum
    assert checkpoint_files.newest(str(tmp_path)) == str(tmp_path / "model.ckpt-1")
    assert signal.getsignal(signum) is before


STOPPED = """
import time
from utility import runtime

def main():
    with runtime.stop_requests() as request:
        runtime.log("started")
        while not {at_once} and request.signum is None:
            time.sleep(0.01)
        time.sleep(60 if {at_once} else 0)
        request.check("the state")

runtime.run(main, lambda: None)
"""


def stopped(at_once):
    process = kill_loop.start([sys.executable, "-c", STOPPED.format(at_once=at_once)])
    kill_loop.await_line(process, "started")
    return process


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_status_tells_the_signal(signum, status):
    process = stopped(at_once=False)
    process.send_signal(signum)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed.splitlines()[-1] == f"{signum.name}: the state"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(signum, status):
    process = stopped(at_once=True)
    process.send_signal(signal.SIGINT)
    kill_loop.await_line(process, "SIGINT: ends after this step")
    assert process.poll() is None
    process.send_signal(signum)
    assert process.wait(timeout=30) == status


# --- evaluating ---------------------------------------------------------------------------------------------------


class Scripted(Evaluation):
    """Evaluates as it is told, in place of detecting anything; notes at which checkpoints."""

    def __init__(self, data, config, maps):
        super().__init__(record_files.find_shards(data, record_files.VALIDATION), config)
        self.maps, self.evaluated = maps, []

    def detect(self, estimator, checkpoint, after_image=lambda: None):
        self.evaluated.append(checkpoint_files.step_in_name(checkpoint))
        after_image()
        return {}

    def score(self, found):
        classes = average_precision.evaluate(found, self.ground_truth, self._config.class_names).classes
        mean_ap = self.maps[self.evaluated[-1]]
        return average_precision.EvaluationResult(classes, mean_ap, 0.5, True, ())


@pytest.fixture
def train_with(tiny, data, tmp_path, monkeypatch):
    """Return a function that trains to a step with scripted evaluations, and returns the steps of these.

    The training does nothing but write checkpoints.
    """

    def pretend(estimator, input_fn, target, on_start, request):
        del input_fn, on_start
        save(Path(estimator.model_dir) / "model.ckpt", {"global_step": np.int64(target)}, global_step=target)
        request.check("stopped")
        return target

    def train(steps, maps, patience=0):
        scripted = Scripted(data, tiny, maps)
        in_training = InTraining(scripted, tiny, str(tmp_path), 2, patience)
        loop.train(make_estimator(tiny, tmp_path), repeated(batch()), steps, evaluation=in_training)
        return scripted.evaluated

    monkeypatch.setattr(loop, "_train_to", pretend)
    return train


def history(model_dir):
    return {entry["step"]: entry["mAP"] for entry in json.loads((model_dir / "evaluations.json").read_text())}


def test_it_evaluates_at_multiples_and_at_the_end_and_keeps_the_best(train_with, tiny, tmp_path):
    maps = {2: 0.3, 4: 0.5, 5: 0.5}
    assert train_with(5, maps) == [2, 4, 5]
    assert history(tmp_path) == maps
    best = tmp_path / "best"
    assert checkpoint_files.resolve(str(best)) == str(best / "model.ckpt-4"), "an equal one is not better"
    assert config_file.load(str(best)) == tiny
    assert (best / "labels.txt").read_text().split() == list(tiny.class_names)
    events = [e for file in (tmp_path / "eval").iterdir() for e in tf.train.summary_iterator(str(file))]
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    assert values[(2, "VOC07/mAP")] == pytest.approx(0.3) and (2, f"VOC07/AP/{tiny.class_names[0]}") in values


def test_a_run_that_goes_on_knows_the_best_and_evaluates_at_the_same_steps(train_with, tmp_path):
    train_with(3, {2: 0.5, 3: 0.1})
    assert train_with(6, {4: 0.2, 6: 0.4}) == [4, 6]
    assert checkpoint_files.resolve(str(tmp_path / "best")).endswith("model.ckpt-2")
    assert train_with(6, {}) == []
    assert history(tmp_path) == {2: 0.5, 3: 0.1, 4: 0.2, 6: 0.4}


def test_an_evaluation_that_was_broken_off_is_made_up_for(train_with, tmp_path):
    def kill(estimator, checkpoint, after_image):
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(0.01)
            after_image()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "detect", lambda self, *arguments: kill(*arguments))
        with pytest.raises(Interrupted, match=r"evaluation of step 2 broken off"):
            train_with(4, {})
    assert not (tmp_path / "best").exists() and not (tmp_path / "evaluations.json").exists()
    assert train_with(4, {2: 0.4, 4: 0.3}) == [2, 4]


def test_evaluations_of_steps_that_were_lost_are_forgotten(train_with, tmp_path):
    train_with(4, {2: 0.1, 4: 0.9})
    (tmp_path / "model.ckpt-4.index").write_bytes(b"")
    assert train_with(6, {4: 0.2, 6: 0.3}) == [4, 6]
    assert history(tmp_path) == {2: 0.1, 4: 0.2, 6: 0.3}


def test_it_stops_early_when_the_map_does_not_rise_and_stays_so(train_with, tmp_path, capsys):
    maps = {2: 0.3, 4: 0.5, 6: 0.2, 8: 0.5, 10: 0.9}
    assert train_with(40, maps, patience=2) == [2, 4, 6, 8]
    assert "2 evaluations without a better mAP than 0.5000 of step 4" in capsys.readouterr().out
    assert train_with(40, maps, patience=2) == []
    assert "stopped early" in capsys.readouterr().out
    assert train_with(10, maps) == [10]
    assert checkpoint_files.resolve(str(tmp_path / "best")).endswith("model.ckpt-10")


def test_what_it_finds_is_what_an_evaluation_of_its_own_finds(tiny, data, parts):
    evaluation = Evaluation(record_files.find_shards(data, record_files.VALIDATION), tiny, batch_size=3)
    scores = history(parts.folder)
    best = checkpoint_files.resolve(str(parts.folder / "best"))
    found = evaluation.detect(make_estimator(tiny, parts.folder), best)
    assert found and evaluation.score(found).mean_ap == pytest.approx(max(scores.values()))
    assert scores[checkpoint_files.step_in_name(best)] == max(scores.values())


def test_nothing_to_evaluate_on_is_an_error_before_the_training(tiny, data, tmp_path):
    (tmp_path / "train-00000-of-00001").write_bytes((data / "train-00000-of-00003").read_bytes())
    with pytest.raises(ValueError, match=r"no record files .*val-\*-of-\*"):
        in_training(str(tmp_path), tiny, str(tmp_path), 5, 0)
    few = tiny.replace({"class_names": tiny.class_names[:2]})
    with pytest.raises(ValueError, match=r"class ids \[3\], but there are 2 class names"):
        in_training(str(data), few, str(tmp_path), 5, 0)


# --- checkpoint and network ---------------------------------------------------------------------------------------


def test_detecting_with_a_checkpoint_of_another_network_is_one_line(tiny, parts, tmp_path):
    checkpoint = checkpoint_files.resolve(str(parts.folder))
    images = lambda: tf.data.Dataset.from_tensors(batch()[0])  # noqa: E731
    other = tiny.replace({"class_names": ("cat",)})
    with pytest.raises(ValueError, match=r"another network: .*cls_0/kernel has shape 3x3x\d+x8, .*config\.json"):
        list(detect(make_estimator(other, tmp_path), images, checkpoint))
    misnamed = build(tiny, make_estimator(tiny, tmp_path).config, "channels_last", model_scope="resnet")
    with pytest.raises(
        ValueError, match=r"resnet/conv1/kernel has no counterpart.* must be the scope of its network, one of ssd300"
    ):
        list(detect(misnamed, images, checkpoint))


def test_heads_that_were_trained_for_other_boxes_are_noted(tiny, parts, tmp_path, capsys):
    model_directory.copy(checkpoint_files.resolve(str(parts.folder)), str(tmp_path / "theirs"))
    names = (*reversed(tiny.class_names),)
    theirs = tiny.replace({"targets.prior_variances": (0.1, 0.1, 0.3, 0.3), "class_names": names})
    config_file.save(theirs, str(tmp_path / "theirs"))

    def said(*exclude):
        scopes = assignment.Scopes("ssd300", "ssd300", exclude)
        start = initialization.starting_point(str(tmp_path / "theirs"), optional=False, config=tiny, scopes=scopes)
        assert isinstance(start, warm_start.WarmStart)
        with tf.Graph().as_default():
            ssd_network(tf.zeros([1, 300, 300, 3]), tiny, "channels_last")
            start.load()
        return [line for line in capsys.readouterr().out.splitlines() if "note:" in line]

    first, second = said()
    assert "multibox_head/loc_* was trained with other settings: targets.prior_variances (0.1, 0.1, 0.2, 0.2)" in first
    assert "multibox_head/cls_*" in second and "class_names" in second
    assert said("ssd300/multibox_head") == []


# --- clipping and the log -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("largest", "factor"), [(0.0, 1.0), (6.5, 0.5), (13.0, 1.0), (1e6, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(largest, factor):
    """The norm of (3, 4) and (12) is 13."""
    with tf.Graph().as_default(), tf.Session() as session:
        a, b = tf.get_variable("a", initializer=[0.0, 0.0]), tf.get_variable("b", initializer=[0.0])
        loss = tf.reduce_sum(a * [3.0, 4.0]) + tf.reduce_sum(b * 12.0)
        schedule = ScheduleConfig(clip_gradient_norm=largest)
        gradients = tf.train.GradientDescentOptimizer(1.0).compute_gradients(loss)
        pairs, norm, _ = optimizer.safe_gradients(gradients, loss, schedule)
        session.run(tf.global_variables_initializer())
        (first, second), norm = session.run([[gradient for gradient, _ in pairs], norm])
    np.testing.assert_allclose(first, np.array([3, 4]) * factor, rtol=1e-6)
    np.testing.assert_allclose(second, [12 * factor], rtol=1e-6)
    assert norm == pytest.approx(13), "the log shows what it was"


@pytest.mark.parametrize(("waited", "told"), [(None, ""), (0.05, ""), (0.5, "waited for input 50% of the time")])
def test_the_log_tells_where_in_the_schedule_it_is_and_when_it_starves(capsys, monkeypatch, waited, told):
    """Steps of a second each, with 4 images of 6."""
    clock = iter(range(100))
    monkeypatch.setattr(training_log.time, "monotonic", lambda: float(next(clock)))
    fetched = {} if waited is None else {"waited": waited}
    log = training_log.TrainingLog({}, None, None, 10, 120, 4, images_per_epoch=6, **fetched)
    scalars = dict.fromkeys(("loss", "cross_entropy", "location", "l2", "accuracy", "gradient_norm"), 1.0)
    for step in range(1, 21):
        values = {**scalars, "learning_rate": 0.001, "step": step, **fetched}
        log.after_run(None, types.SimpleNamespace(results=values))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"step {s}/120 epoch {e}/80" for s, e in ((1, 1), (10, 7), (20, 14))
    ]
    assert lines[-1].split("  ")[4:] == ["4.0 images/s", "2 min left", *([told] if told else [])]

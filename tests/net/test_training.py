"""Training from a checkpoint as if nothing had stopped it, on a full disk, and until a signal asks it to stop."""

import os
import re
import resource
import shutil
import signal
import subprocess

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset import input
from net import training, training_log
from net.ssd_net import ssd_network
from tests import kill_loop
from tests.builders.checkpoints import scores_by_step
from tests.builders.tiny_ssd import AtStart, batch, make_estimator, repeated
from utility.checkpoints import checkpoint_files, warm_start
from utility.config import checks, config_file
from utility.run.stop_request import Interrupted


def test_going_on_is_exact(whole, parts):
    """The same batches and, bit by bit, the same variables; evaluations change nothing."""
    assert whole.batches == parts.batches
    assert len(set(map(tuple, whole.batches))) == 6
    assert scores_by_step(parts.folder).keys() == {3, 6}
    kill_loop.assert_same(kill_loop.variables(whole.folder), kill_loop.variables(parts.folder))


def test_it_goes_on_from_the_checkpoint_before_a_broken_one(train_on, whole, parts, tmp_path, capsys):
    folder = shutil.copytree(parts.folder, tmp_path / "logs")
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("model.ckpt-3*")}
    with (folder / "model.ckpt-6.data-00000-of-00001").open("r+b") as file:
        file.truncate(100_000)
    assert train_on(folder, 6) == whole.batches[3:]
    assert f"taking {folder}/model.ckpt-3, the one before it" in capsys.readouterr().out
    kill_loop.assert_same(kill_loop.variables(whole.folder), kill_loop.variables(folder))
    # writing over the one that was restored could spoil it
    assert kept == {path: path.stat().st_mtime_ns for path in folder.glob("model.ckpt-3*")}


def test_killed_at_random_it_ends_as_if_nothing_had_been(data, tmp_path):
    """See tests/kill_loop.py, which kills more often."""
    kill_loop.kill_and_go_on(data, tmp_path / "killed", 12, kills=1)
    kill_loop.run(kill_loop.command(data, tmp_path / "undisturbed", 12))
    kill_loop.assert_same(kill_loop.variables(tmp_path / "undisturbed"), kill_loop.variables(tmp_path / "killed"))


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
    monkeypatch.setattr(training_log, "_INPUT_BOUND", 0.0)
    input_fn = lambda: input._timed(repeated(batch())())  # noqa: E731
    with pytest.raises(ValueError, match=r"--model_dir=.*/logs: cannot be written to: ") as error:
        training.train(make_estimator(tiny, folder), input_fn, 11, hooks=[AtStart(fill)])
    assert "\n" not in str(error.value) and "make room" in str(error.value)
    assert "No space left on device" in str(error.value) or "File too large" in str(error.value)
    make_room()
    assert checkpoint_files.prepare(str(folder)) == tf.train.latest_checkpoint(folder) == str(folder / "model.ckpt-6")
    assert not list(folder.glob("*.tempstate*"))
    assert "waited for input" in capsys.readouterr().out


def test_a_file_in_place_of_the_model_directory_is_one_line(tiny, tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(ValueError, match=r"--model_dir=.*/logs: cannot be written to: File exists"):
        training.train(make_estimator(tiny, tmp_path / "logs"), repeated(batch()), 2)


def test_variables_that_overflow_are_not_saved(tiny, tmp_path):
    """The rate passes the range check, and loss and gradients are finite in each step."""
    rates = {
        "learning_rate": 1e30,
        "end_learning_rate": 0.0,
        "decay_boundaries": (1,),
        "lr_decay_factors": (1e-35, 1e8),
    }
    config = checks.check(tiny.replace({f"schedule.{name}": value for name, value in rates.items()}))
    estimator = make_estimator(config, tmp_path, save_checkpoints_steps=1)
    images = np.random.RandomState(3).uniform(-100, 100, (2, 300, 300, 3)).astype(np.float32)
    message = r"^ssd300/\S+ is not finite at step \d, learning rate 1e\+38 .*--learning_rate"
    with pytest.raises(ValueError, match=message) as error:
        training.train(estimator, repeated(batch(images)), 9)
    step = checkpoint_files.step_of(checkpoint_files.newest(str(tmp_path)))
    assert f"at step {step + 1}," in str(error.value) and "\n" not in str(error.value)
    assert all(np.isfinite(value).all() for value in kill_loop.variables(tmp_path).values())


@pytest.mark.parametrize("signum", [signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(tiny, tmp_path, signum):
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=rf"{signum.name}: stopped at step 1; .* resumes from .*ckpt-1") as stop:
        training.train(
            make_estimator(tiny, tmp_path),
            repeated(batch()),
            400,
            hooks=[AtStart(lambda: os.kill(os.getpid(), signum))],
        )
    assert stop.value.signum == signum
    assert checkpoint_files.newest(str(tmp_path)) == str(tmp_path / "model.ckpt-1")
    assert signal.getsignal(signum) is before


def test_a_detector_is_fine_tuned_on_other_classes(tiny, parts, tmp_path, capsys):
    """All but the class heads is loaded, with the checkpoint's path and nothing else."""
    other = tiny.replace({"class_names": tuple(reversed(tiny.class_names))})
    scopes = warm_start.Scopes("tiny", "ssd300", ("ssd300/multibox_head", "ssd300/additional_layers"))

    def loaded(config):
        start = warm_start.starting_point(
            str(parts.folder), optional=False, whole_detector=True, scopes=scopes, config=config
        )
        assert isinstance(start, warm_start.WarmStart)
        with tf.Graph().as_default():
            ssd_network(tf.zeros([1, 300, 300, 3]), config, "channels_last")
            start.load()
        return re.sub(" +", " ", capsys.readouterr().out)

    told = loaded(other)
    assert "is a detector: what fits is loaded; heads of other classes or default boxes start anew" in told
    assert "multibox_head/cls_0 kernel bias random: trained with other class_names" in told
    assert "multibox_head/loc_0 kernel bias from ssd300/multibox_head/loc_0" in told
    assert "conv1 kernel bias from ssd300/conv1" in told
    assert "random" not in loaded(tiny)  # of the same classes
    fewer = loaded(tiny.replace({"class_names": tiny.class_names[:3]}))
    assert "cls_1 kernel bias random: trained with other class_names" in fewer
    with pytest.raises(ValueError, match=r"was trained with --backbone=tiny --depth_multiplier=1\.0: give the same"):
        loaded(tiny.replace({"network.depth_multiplier": 0.5}))


# --- what a warm start says of heads that were trained for something else --------------------------------------------


def test_heads_that_were_trained_for_other_boxes_are_noted(tiny, parts, tmp_path, capsys):
    checkpoint_files.copy(checkpoint_files.resolve(str(parts.folder)), str(tmp_path / "theirs"))
    names = (*reversed(tiny.class_names),)
    theirs = tiny.replace({"targets.prior_variances": (0.1, 0.1, 0.3, 0.3), "class_names": names})
    config_file.save(theirs, str(tmp_path / "theirs"))

    def said(*exclude):
        scopes = warm_start.Scopes("ssd300", "ssd300", exclude)
        start = warm_start.starting_point(str(tmp_path / "theirs"), optional=False, config=tiny, scopes=scopes)
        assert isinstance(start, warm_start.WarmStart)
        with tf.Graph().as_default():
            ssd_network(tf.zeros([1, 300, 300, 3]), tiny, "channels_last")
            start.load()
        return [line for line in capsys.readouterr().out.splitlines() if "note:" in line]

    first, second = said()
    assert "multibox_head/loc_* was trained with other settings: targets.prior_variances (0.1, 0.1, 0.2, 0.2)" in first
    assert "multibox_head/cls_*" in second and "class_names" in second
    assert said("ssd300/multibox_head") == []

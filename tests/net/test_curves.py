"""curves.png of model directories: event files, curves, the picture, and utility/draw_curves.py as a user runs it."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from net import curves as run_curves
from tests.builders.events import write_events
from utility.run.command import ROOT

SCALARS = {
    "loss": {1: 9.0, 10: 6.0},
    "train/cross_entropy": {1: 5.0, 10: 3.0},
    "train/location": {1: 3.0, 10: 2.0},
    "train/l2": {1: 1.0, 10: 1.0},
    "train/accuracy": {1: 0.25, 10: 0.75},
    "train/learning_rate": {1: 0.5, 10: 0.125},
    "train/positives": {1: 7.0, 10: 8.0},
}


def make_run(folder, **scores):
    write_events(folder, 5, SCALARS)
    entries = [{"step": int(step[1:]), "mAP": value, "AP": {"cat": value}} for step, value in scores.items()]
    (folder / "evaluations.json").write_text(json.dumps(entries))
    return folder


def curves(folder):
    return {name: dict(zip(*map(list, c), strict=True)) for name, c in run_curves.curves_of(folder).items()}


def test_the_series_are_those_of_the_event_files_and_scores(tmp_path):
    make_run(tmp_path, s5=0.25, s10=0.5)
    assert curves(tmp_path) == {
        "loss": {1: 9.0, 10: 6.0},
        "cross entropy": {1: 5.0, 10: 3.0},
        "location": {1: 3.0, 10: 2.0},
        "l2": {1: 1.0, 10: 1.0},
        "accuracy": {1: 0.25, 10: 0.75},
        "learning rate": {1: 0.5, 10: 0.125},
        "mAP": {5: 0.25, 10: 0.5},
    }


def test_those_of_a_training(parts):
    found = curves(parts.folder)
    assert set(found) == {"loss", "cross entropy", "location", "l2", "accuracy", "learning rate", "mAP"}
    assert set(found["mAP"]) == {3, 6} and 1 in found["loss"]
    whole = found["cross entropy"][1] + found["location"][1] + found["l2"][1]
    assert found["loss"][1] == pytest.approx(whole, rel=1e-5)
    assert Image.open(parts.folder / "curves.png").size == (1200, 800)


def test_a_training_without_evaluation_has_them_at_its_end(whole):
    assert Image.open(whole.folder / "curves.png").size == (1200, 800) and "mAP" not in curves(whole.folder)


def test_what_cannot_be_drawn_is_a_line_of_the_log(tmp_path, monkeypatch, capsys):
    make_run(tmp_path)
    (tmp_path / "evaluations.json").write_text("{")
    run_curves.draw_again(tmp_path)
    (tmp_path / "evaluations.json").unlink()
    for error in (OSError(28, "No space left on device"), RuntimeError("no font")):
        monkeypatch.setattr(run_curves, "draw_runs", lambda *_, error=error: (_ for _ in ()).throw(error))
        run_curves.draw_again(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("warning: curves.png cannot be drawn: ") for line in lines] == [True] * 3
    assert lines[1].endswith("No space left on device") and lines[2].endswith("no font")


def command(folder, *flags):
    script = str(ROOT / "utility" / "draw_curves.py")
    return subprocess.run([sys.executable, script, *flags], capture_output=True, text=True, check=False, cwd=folder)


def test_one_command_draws_them_again_also_of_several_runs(tmp_path):
    make_run(tmp_path / "a", s5=0.25)
    make_run(tmp_path / "b")
    done = command(tmp_path, "--model_dir=a")
    assert (done.returncode, done.stdout) == (0, "drawn: a/curves.png\n"), done.stderr
    done = command(tmp_path, "--model_dir=a", "--model_dir=b", "--output=new/both.png")
    assert done.returncode == 0, done.stderr
    assert {Image.open(tmp_path / name).size for name in ("a/curves.png", "new/both.png")} == {(1200, 800)}
    (tmp_path / "empty").mkdir()
    for folder, reason in (("empty", "neither summaries"), ("missing", "no such folder")):
        done = command(tmp_path, "--model_dir=a", f"--model_dir={folder}")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"--model_dir={folder}" in done.stderr and reason in done.stderr


def test_scalars_by_tag_and_step_and_no_others(tmp_path):
    write_events(tmp_path, 5, {"loss": {1: 3.0, 2: 2.0}, "train/l2": {2: 0.5}, "other": {1: 1.0}})
    assert run_curves.read_scalars(tmp_path) == {"loss": {1: 3.0, 2: 2.0}, "train/l2": {2: 0.5}}
    assert run_curves.read_scalars(tmp_path / "missing") == {}


def test_what_tensorflow_itself_writes_is_read(tmp_path):
    with tf.Graph().as_default(), tf.summary.FileWriter(str(tmp_path), tf.get_default_graph()) as writer:
        writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="loss", simple_value=2.5)]), 7)
    assert run_curves.read_scalars(tmp_path) == {"loss": {7: 2.5}}


def test_of_steps_in_two_runs_the_later_one_counts(tmp_path):
    """It went on from step 20: the first one's steps from 30 on were lost, those that the later has no value of too."""
    write_events(tmp_path, 9, {"loss": dict.fromkeys((1, 10, 20, 30, 35, 40), 1.0), "train/l2": {20: 1.0, 40: 1.0}})
    write_events(tmp_path, 10, {"loss": dict.fromkeys((30, 50), 2.0)})
    found = run_curves.read_scalars(tmp_path)
    assert found == {"loss": {1: 1.0, 10: 1.0, 20: 1.0, 30: 2.0, 50: 2.0}, "train/l2": {20: 1.0}}
    assert list(found["loss"]) == [1, 10, 20, 30, 50]


def test_a_run_that_has_not_written_a_scalar_yet_takes_nothing_away(tmp_path):
    write_events(tmp_path, 5, {"loss": {1: 3.0}})
    write_events(tmp_path, 6, {"other": {1: 3.0}})
    write_events(tmp_path, 7, {})
    (tmp_path / "events.out.tfevents.8.host").write_bytes(b"")
    assert run_curves.read_scalars(tmp_path) == {"loss": {1: 3.0}}


def test_of_a_cut_off_or_broken_file_the_part_before_counts(tmp_path):
    path = write_events(tmp_path, 5, {"loss": dict.fromkeys(range(10), 1.0)})
    whole = path.read_bytes()
    for broken in (whole[:-7], whole[:-40] + bytes(40), whole[:-20] + b"more" + whole[-16:]):
        path.write_bytes(broken)
        assert set(range(8)) <= set(run_curves.read_scalars(tmp_path)["loss"]) < set(range(10))
    path.write_bytes(b"no event file at all")
    assert run_curves.read_scalars(tmp_path) == {}
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff no event")
    assert run_curves.read_scalars(tmp_path) == {}


def test_a_curve_is_in_the_order_of_steps_and_without_what_is_not_finite():
    largest = float(np.finfo(np.float32).max)  # what the training writes for a loss that is not finite
    curve = run_curves.curve_of({3: 1.0, 1: 4.0, 2: math.nan, 4: math.inf, 5: largest})
    assert (curve.steps.tolist(), curve.values.tolist()) == ([1, 3], [4.0, 1.0])
    assert len(run_curves.curve_of({}).steps) == 0


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    curve = run_curves.curve_of({step: float(step) for step in range(120_000)})
    assert 900 < len(curve.steps) <= 1000 and curve.steps[-1] == 119_999
    np.testing.assert_array_equal(curve.steps, curve.values)
    assert len(run_curves.curve_of(dict.fromkeys(range(1000), 1.0)).steps) == 1000


FULL = {
    name: run_curves.curve_of({1: 2.0, 10: 1.0})
    for name in ("loss", "cross entropy", "location", "l2", "learning rate", "mAP")
}


@pytest.mark.parametrize(
    "runs",
    [
        [("a", {})],
        [("a", FULL)],
        [("a", {"loss": run_curves.curve_of({1: 2.0})})],
        [("a", {"loss": run_curves.curve_of({5: math.nan}), "mAP": run_curves.Curve(np.array([]), np.array([]))})],
        [("a", {"loss": run_curves.curve_of({0: 0.0}), "learning rate": run_curves.curve_of({0: 0.0})})],
        [("$\\x$", FULL), ("b" * 300, {}), *[("c", FULL)] * 12],
    ],
    ids=["empty", "full", "one point", "nothing finite", "zeros", "several"],
)
def test_any_runs_are_drawn(tmp_path, runs):
    run_curves.draw_runs(runs, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (1200, 800)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def drawn_runs(runs, path, monkeypatch):
    """Draw runs, and return the plots by title."""
    figures = []

    def keep(figure, file, **_):
        figures.append(figure)
        file.touch()

    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", keep)
        run_curves.draw_runs(runs, path)
    return {plot.get_title(): plot for plot in figures[0].axes}


@pytest.mark.parametrize("evaluated", [False, True])
def test_an_empty_plot_of_map_tells_why(evaluated, tmp_path, monkeypatch):
    run = ("a", {name: curve for name, curve in FULL.items() if evaluated or name != "mAP"})
    plots = drawn_runs([run], tmp_path / "curves.png", monkeypatch)
    texts = {title: [text.get_text() for text in plot.texts] for title, plot in plots.items()}
    told = [] if evaluated else ["no evaluation in the course of the training"]
    assert texts.pop("mAP (VOC07) of the validation records") == told and not any(texts.values())


def test_the_best_is_marked_the_first_of_equal_ones(tmp_path, monkeypatch):
    run = ("a", {"mAP": run_curves.curve_of({10: 0.25, 20: 0.5, 30: 0.5})})
    plot = drawn_runs([run], tmp_path / "curves.png", monkeypatch)["mAP (VOC07) of the validation records"]
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["best: 0.500 at step 20"]
    assert plot.get_lines()[-1].get_xdata() == [20]


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    run_curves.draw_runs([("a", FULL)], tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()

    def full_disk(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run_curves.draw_runs([("b", FULL)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1

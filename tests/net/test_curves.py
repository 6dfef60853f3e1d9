"""curves.png of a model directory, and utility/draw_curves.py as a user runs it."""

import json
import subprocess
import sys

import pytest
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
    return {name: dict(zip(*map(list, c), strict=True)) for name, c in run_curves.run_of(folder).curves.items()}


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

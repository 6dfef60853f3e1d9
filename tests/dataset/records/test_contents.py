"""The inspector shows what was converted, and draws it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dataset.convert_tfrecords import convert
from dataset.dataset_inspect import Contents
from tests.builders.voc import VocBuilder, box, picture
from utility.run.command import ROOT

SCRIPT = ROOT / "dataset" / "dataset_inspect.py"


def example(boxes_yxyx, labels, difficult, width=500, height=375):
    return {
        "width": np.int32(width),
        "height": np.int32(height),
        "boxes_yxyx": np.array(boxes_yxyx, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "difficult": np.array(difficult, bool),
    }


def test_counts():
    contents = Contents()
    contents.add(example([], [], []))
    contents.add(example([[0, 0, 0.05, 0.05], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.9]], [2, 2, 3], [True, False, False]))
    contents.add(example([[0.5, 0.5, 0.2, 0.2]], [1], [False], width=300))
    lines = contents.lines(("cat", "dog"))
    assert lines[0] == "3 images, 1 of them without objects; 4 objects, 1 of them difficult, 2 without area"
    assert lines[1] == "images, width x height: 500x375 (2), 300x375 (1)"
    assert [line.split() for line in lines[3:6]] == [
        ["1", "cat", "1", "0", "1"],
        ["2", "dog", "2", "1", "1"],
        ["3", "class", "3", "1", "0", "1"],
    ]
    assert [line.split()[-1] for line in lines[-6:]] == ["1", "0", "0", "0", "0", "1"]


def test_records_without_an_object():
    contents = Contents()
    contents.add(example([], [], []))
    assert contents.lines(())[0].startswith("1 images, 1 of them without objects; 0 objects")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("inspected")
    builder = VocBuilder(root / "voc")
    builder.add("a.b", box(10, 10, 50, 35), box(9, 9, 20, 20, name="dog", difficult=1))
    builder.add("c", image=picture().convert("L"))
    builder.add("d", box(10, 10, 50, 35))
    convert(dataset_directory=root / "voc", output_directory=root / "records", labels_file="auto", train_shards=2)
    return root / "records"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_as_a_user_runs_it(data_dir, tmp_path):
    done = run(f"--data_dir={data_dir}", f"--output={tmp_path / 'drawn'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 images, 1 of them without objects; 3 objects, 1 of them difficult")
    assert "  1 cat" in done.stdout
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.b.jpg", "c.jpg", "d.jpg"}
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "d.jpg").convert("RGB")).astype(int)
    assert drawn.shape == (40, 60, 3)


def test_a_missing_split_is_named(data_dir):
    done = run(f"--data_dir={data_dir}", "--split=val")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "val-*-of-*" in done.stderr


def test_the_records_of_the_reference_have_no_labels_file(data_dir, tmp_path):
    for path in data_dir.glob("train-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = run(f"--data_dir={tmp_path}")
    assert done.stdout.startswith(f"no labels.txt in {tmp_path}: the classes are taken to be VOC's")
    assert "aeroplane" in done.stdout

"""The inspector as a user runs it: it shows what was converted, and draws it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.builders.convert import convert_voc
from tests.builders.voc import VocBuilder, box, picture
from utility.run.command import ROOT

SCRIPT = ROOT / "dataset" / "dataset_inspect.py"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("inspected")
    builder = VocBuilder(root / "voc")
    builder.add("a.b", box(10, 10, 50, 35), box(9, 9, 20, 20, name="dog", difficult=1))
    builder.add("c", image=picture().convert("L"))
    builder.add("d", box(10, 10, 50, 35))
    convert_voc(dataset_directory=root / "voc", output_directory=root / "records", labels_file="auto", train_shards=2)
    return root / "records"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_as_a_user_runs_it(data_dir, tmp_path):
    done = run(f"--data_dir={data_dir}", f"--output={tmp_path / 'drawn'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 images, 1 of them without objects; 3 objects, 1 of them difficult")
    assert "  1 cat" in done.stdout
    assert "objects that are hard to find with --preset=ssd300_voc --backbone=vgg16, input 300x300:" in done.stdout
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.b.jpg", "c.jpg", "d.jpg"}
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "d.jpg").convert("RGB")).astype(int)
    assert drawn.shape == (40, 60, 3)


def test_other_networks_find_other_objects(data_dir):
    scales = "--anchor_scales=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"
    done = run(f"--data_dir={data_dir}", "--preset=ssd512_voc", "--backbone=mobilenet_v1", scales, "--min_size=0.7")
    assert (done.returncode, done.stderr) == (0, "")
    _, asked, table = done.stdout.partition("objects that are hard to find with --preset=ssd512_voc")
    lines = table.splitlines()
    assert asked and lines[0] == " --backbone=mobilenet_v1, input 512x512:"
    assert " ".join(lines[1].split()) == "class objects no box by 0.5 below 0.7 either compete"
    # the dog is difficult
    assert " ".join(lines[2].split()) == "1 cat 2 0.0 % 100.0 % 100.0 % 0.0 %"
    assert any("--min_size=0.3" in line for line in lines), table


def test_scales_that_do_not_fit_the_network_are_one_line(data_dir):
    done = run(f"--data_dir={data_dir}", "--preset=ssd512_voc", "--anchor_scales=0.1,0.2,0.3")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "must be 8 numbers (--anchor_scales), one for each of the 7 feature maps and one more" in done.stderr


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

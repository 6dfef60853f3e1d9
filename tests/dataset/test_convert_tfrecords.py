"""The converter as a user runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dataset.records import record_files
from dataset.records.parsing import read_examples
from tests.builders.coco import CocoBuilder
from tests.builders.convert import convert_voc
from tests.builders.voc import VocBuilder, box, picture
from tests.builders.yolo import YoloBuilder
from utility.run.command import ROOT

SCRIPT = ROOT / "dataset" / "convert_tfrecords.py"


@pytest.fixture
def voc(tmp_path):
    return VocBuilder(tmp_path / "voc")


def start(voc, output, *arguments):
    command = [sys.executable, str(SCRIPT), f"--dataset_directory={voc.root}", f"--output_directory={output}"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent
    )


def test_as_a_user_runs_it(voc, tmp_path):
    voc.add("000001", box(1, 1, 30, 20))
    process = start(voc, tmp_path / "records", "--train_shards=1", "--train_splits=VOC2007")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "train: VOC2007 (trainval), 1 images to 1 shards" in out
    assert json.loads((tmp_path / "records" / "dataset.json").read_text())["splits"]["train"]["images"] == 1
    process = start(voc, tmp_path / "other", "--train_splits=VOC2012")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (1, 1)
    assert err.startswith("error: --train_splits: no folder VOC2012")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_interrupted_it_leaves_nothing_that_looks_finished(voc, tmp_path, how, status):
    """The last image is a pipe that nobody writes to, so the converter is surely still at work."""
    voc.add_many(6, "VOC2007TEST", "test")
    voc.add_many(6, start=10)
    path = voc.root / "VOC2007TEST" / "JPEGImages" / "000005.jpg"
    path.unlink()
    os.mkfifo(path)
    output = tmp_path / "records"
    process = start(voc, output)
    until = time.monotonic() + 60
    while not list(output.glob(".*/val-00004*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(how)
    if how == signal.SIGINT:
        time.sleep(0.5)
        with contextlib.suppress(OSError):  # no thread has begun to read
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # lets go of the reading thread
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert not [name for name in contents_names(output) if not name.startswith(".")]
    if how == signal.SIGINT:
        assert err.strip() == "interrupted"
        assert contents_names(output) == []
    path.unlink()
    picture().save(path)
    assert convert_voc(dataset_directory=voc.root, output_directory=output)["splits"]["val"]["images"] == 6
    assert not [name for name in contents_names(output) if name.startswith(".")]


def contents_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_help_is_quick():
    start_time = time.monotonic()
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert "--skip_bad_images" in done.stdout.replace("[no]", "")
    assert time.monotonic() - start_time < 10  # about .5 s; TensorFlow alone would take four
    assert "tensorflow" not in loaded_modules()


def loaded_modules():
    code = "import sys; import dataset.convert_tfrecords; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SCRIPT.parents[1]
    )
    return done.stdout.split()


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_coco_as_a_user_runs_it(tmp_path):
    builder = CocoBuilder(tmp_path / "coco").add(7, (1, 2, 30, 20)).add(5)
    output = f"--output_directory={tmp_path / 'records'}"
    done = run("--format=coco", f"--annotations={builder.path}", f"--images={builder.folder}", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train: instances.json, 2 images to 2 shards" in done.stdout
    assert "val: none" in done.stdout
    examples = read_examples(record_files.find_shards(tmp_path / "records", "train"))
    assert sorted(example["image_id"] for example in examples) == [b"5", b"7"]


def test_yolo_as_a_user_runs_it(tmp_path):
    builder = YoloBuilder(tmp_path / "yolo").describe("train: images/train\nnames: [cat]\n")
    for number in range(5):
        builder.add(f"{number}.jpg", "0 .5 .5 .2 .4")
    flags = (f"--dataset_directory={builder.root}", f"--output_directory={tmp_path / 'records'}")
    done = run("--format=yolo", *flags, "--validation_fraction=.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "val: images/train, a part by --validation_fraction=0.2, 1 images to 1 shards" in done.stdout
    done = run(*flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "give --format=yolo" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--format=coco"], 1, "no images to convert: give --annotations and --images"),
        (["--format=coco", "--images=x"], 1, "--annotations and --images go together"),
        (["--format=coco", "--labels_file=auto"], 2, "--labels_file is for --format=voc"),
        (["--dataset_directory=x", "--images=y"], 2, "--images is for --format=coco"),
        ([], 2, "--dataset_directory is missing"),
        (["--format=yolo"], 2, "--dataset_directory is missing"),
        (["--format=yolo", "--dataset_directory=x", "--train_splits=y"], 2, "--train_splits is for --format=voc"),
        (["--dataset_directory=x", "--validation_fraction=1"], 2, "must be a number < 1"),
    ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path, arguments, status, message):
    done = run(*arguments, f"--output_directory={tmp_path / 'records'}")
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert not (tmp_path / "records").exists()


def test_of_two_that_start_at_once_one_is_refused_or_waits_its_turn(tmp_path):
    """Whatever their order, the records are of one of them."""
    sets = {"one": 3, "two": 7}
    for name, images in sets.items():
        VocBuilder(tmp_path / name).add_many(images)
    output = tmp_path / "records"
    processes = [start(VocBuilder(tmp_path / name), output, "--train_shards=1") for name in sets]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    for err, status in ends:
        refused = err.startswith("error: --output_directory=") and "another program is writing there" in err
        assert (status, err.count("\n"), refused) in ((0, 0, False), (1, 1, True))
    assert [status for _, status in ends].count(0) >= 1
    info = record_files.read_dataset_info(output)["splits"]["train"]["images"]
    assert len(list(read_examples(record_files.find_shards(output, "train")))) == info
    assert contents_names(output) == ["dataset.json", "labels.txt", "train-00000-of-00001"]

"""The scripts, run as a user runs them on a few pictures, from conversion to drawing."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dataset.sources import voc
from utility.run.command import ROOT


def run(script, *arguments, status=0):
    """Run a script of the project; returns what it printed, stdout and stderr together."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert status != 1 or "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a sample set, its records and a narrow model of two steps."""
    home = tmp_path_factory.mktemp("home")
    run("dataset/make_sample_voc.py", f"--output_directory={home}/VOC", "--num_train=6", "--num_test=3")
    run(
        "dataset/convert_tfrecords.py",
        f"--dataset_directory={home}/VOC",
        f"--output_directory={home}/tfrecords",
        "--labels_file=auto",
    )
    (home / "train.log").write_text(train(home, 2))
    return home


def train(home, steps, *arguments, status=0):
    return run(
        "train_ssd.py",
        f"--data_dir={home}/tfrecords",
        f"--model_dir={home}/logs",
        "--batch_size=2",
        "--depth_multiplier=0.125",
        f"--max_number_of_steps={steps}",
        "--log_every_n_steps=1",
        *arguments,
        status=status,
    )


def test_training_says_what_it_does_and_nothing_else(home):
    lines = (home / "train.log").read_text().splitlines()
    assert re.match(r"6 training images of \d classes", lines[0])
    assert lines[1] == "learning rate 0.0001 to step 2"
    assert "starting from random weights" in lines[2]
    assert re.match(r"step 1/2 epoch 1/1  loss [\d.]+ \(cross entropy [\d.]+, location [\d.]+, l2 [\d.]+\)", lines[3])
    assert re.search(r"step 2/2 .* rate 0.0001 .* images/s .* left", lines[4])
    assert lines[5].startswith("trained to step 2")
    assert len(lines) == 6, "TensorFlow's chatter is in the log"


def test_model_directory_tells_how_it_was_trained(home):
    config = json.loads((home / "logs/config.json").read_text())
    assert (config["network"]["backbone"], config["network"]["image_size"]) == ("vgg16", [300, 300])
    names = (home / "tfrecords/labels.txt").read_text().split()
    assert config["class_names"] == names == (home / "logs/labels.txt").read_text().split()
    assert config["schedule"]["batch_size"] == 2


def test_training_goes_on_from_the_newest_checkpoint(home):
    printed = train(home, 3, "--eval_every_steps=3")
    assert "resuming from" in printed and "model.ckpt-2" in printed and "step 3/3" in printed
    assert "other than before: schedule.max_number_of_steps 3 instead of 2" in printed
    assert "evaluating step 3 on 3 images" in printed and f"the best so far: kept in {home}/logs/best" in printed
    arguments = [f"--data_dir={home}/tfrecords", f"--model_dir={home}/best", f"--checkpoint_path={home}/logs/best"]
    assert figures(run("eval_ssd.py", *arguments)) == figures(printed)


def test_training_says_which_objects_will_not_be_found(home):
    printed = train(home, 2, "--min_size=0.9")
    assert re.search(r"\d+ % of \d+ objects in 6 images are hard to find: .* are below --min_size=0\.9; what", printed)
    command = f"python dataset/dataset_inspect.py --data_dir={home}/tfrecords --depth_multiplier=0.125 --min_size=0.9"
    assert command in printed and "is at step" in printed
    inspected = run(*command.removeprefix("python ").split())
    assert "--min_size=" in inspected.partition("what helps:")[2]


def figures(printed):
    return re.findall(r"(?:AP for .*|Mean AP) = .*", printed)


def test_evaluation_writes_results_that_score_the_same(home):
    printed = run("eval_ssd.py", f"--data_dir={home}/tfrecords", f"--model_dir={home}/logs", "--batch_size=2")
    assert "detecting in 3 images" in printed
    classes = len((home / "tfrecords/labels.txt").read_text().split())
    results = sorted((home / "logs/predict").glob("results_*.txt"))
    assert len(results) == classes
    lines = [line.split() for path in results for line in path.read_text().splitlines()]
    assert {len(line) for line in lines} <= {6} and len({line[0] for line in lines}) <= 3
    scored = run("voc_eval.py", f"--dataset_directory={home}/VOC", f"--pred_dir={home}/logs/predict")
    assert figures(scored) == figures(printed)


def test_evaluation_leaves_a_page_with_the_pictures_of_the_records(home, tmp_path):
    arguments = [f"--data_dir={home}/tfrecords", f"--checkpoint_path={home}/logs", f"--model_dir={tmp_path}"]
    (mean,) = re.findall("Mean AP = (.*)", run("eval_ssd.py", *arguments))
    page = (tmp_path / "predict/eval_output/report.html").read_text(encoding="utf-8")
    assert f"<h1>mAP {mean}</h1>" in page
    assert page.count("data:image/jpeg") == page.count("<figcaption><b>") > 0


def test_evaluation_of_coco_images_writes_its_results_too(home, tmp_path):
    names = (home / "tfrecords/labels.txt").read_text().split()
    split, path = home / "VOC" / "VOC2007TEST", tmp_path / "instances.json"
    path.write_text(json.dumps(as_coco(split, names)))
    source = ["--format=coco", f"--validation_annotations={path}", f"--validation_images={split / 'JPEGImages'}"]
    run("dataset/convert_tfrecords.py", *source, f"--output_directory={tmp_path}/records")
    arguments = [f"--data_dir={tmp_path}/records", f"--checkpoint_path={home}/logs", f"--model_dir={tmp_path}/logs"]
    installed = importlib.util.find_spec("pycocotools") is not None
    printed = run("eval_ssd.py", *arguments, *([f"--coco_annotations={path}"] if installed else []))
    results = json.loads((tmp_path / "logs/predict/detections.json").read_text())
    assert {result["image_id"] for result in results} == {500, 501, 502}
    assert {result["category_id"] for result in results} <= {7 * number for number in range(1, len(names) + 1)}
    assert len(re.findall(r"Average (?:Precision|Recall) .* = ", printed)) == (12 if installed else 0)
    assert ("requirements-coco.txt" in printed) != installed
    assert "Mean AP" in printed


def as_coco(split, names):
    """The test images of a VOC folder as an instances JSON: image ids from 500, category ids 7 apart."""
    objects: list[dict] = []
    images: list[dict] = []
    for image_id, name in enumerate(voc.read_image_set(split, "test"), start=500):
        images.append({"id": image_id, "file_name": f"{name}.jpg"})
        for item in voc.read_annotation(voc.annotation_path(split, name)).objects:
            ymin, xmin, ymax, xmax = item.box_yxyx_px
            box = [xmin, ymin, xmax - xmin, ymax - ymin]
            category_id = 7 * (names.index(item.name) + 1)
            objects.append({"id": len(objects), "image_id": image_id, "category_id": category_id, "bbox": box})
    categories = [{"id": 7 * number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": objects, "categories": categories}


SIZES = {"grey.png": (40, 70), "print.jpeg": (90, 70), "wide.JPG": (300, 30)}


def test_demo_draws_what_it_can_and_names_what_it_cannot(home, tmp_path):
    Image.new("L", (40, 70), 90).save(tmp_path / "grey.png")
    Image.fromarray(np.zeros((30, 300, 3), np.uint8)).save(tmp_path / "wide.JPG")
    Image.new("CMYK", (90, 70)).save(tmp_path / "print.jpeg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    output = tmp_path / "drawn"
    printed = run(
        "simple_ssd_demo.py", f"--checkpoint_path={home}/logs", f"--input={tmp_path}", f"--output={output}", status=1
    )
    assert "broken.jpg" in printed and "drew 3 of 4 pictures" in printed
    assert Image.open(output / "wide.jpg").size == (300, 30)
    assert sorted(path.name for path in output.iterdir()) == ["detections.json", "grey.jpg", "print.jpg", "wide.jpg"]
    entries = json.loads((output / "detections.json").read_text())
    sizes = [(entry["file"], entry["width"], entry["height"]) for entry in entries]
    assert sizes == [(f"{tmp_path}/{name}", *size) for name, size in SIZES.items()]


def test_demo_finds_the_same_in_a_video_as_in_its_frames_as_pictures(home, tmp_path):
    videos = pytest.importorskip("tests.builders.videos", reason="pip install -r requirements-video.txt")
    from dataset.video import Video

    videos.write(tmp_path / "street.mp4", frames=4)
    (tmp_path / "frames").mkdir()
    with Video(tmp_path / "street.mp4") as video:
        for frame in video.frames():
            Image.fromarray(frame.image).save(tmp_path / "frames" / f"{frame.number}.png")
    arguments = [f"--checkpoint_path={home}/logs", f"--output={tmp_path}/drawn", "--select_threshold=0.01"]
    printed = run("simple_ssd_demo.py", f"--input={tmp_path}/street.mp4", tmp_path / "frames", *arguments)
    assert re.search(r"street\.mp4: drew 4 frames, [\d.]+ a second, to .*/drawn/street\.mp4", printed)
    lines = [json.loads(line) for line in (tmp_path / "drawn/street.jsonl").read_text().splitlines()]
    pictures = json.loads((tmp_path / "drawn/detections.json").read_text())
    assert [line["objects"] for line in lines] == [picture["objects"] for picture in pictures]
    assert all(line["objects"] for line in lines) and [line["frame"] for line in lines] == [0, 1, 2, 3]


def test_demo_names_a_broken_video_in_one_line(home, tmp_path):
    videos = pytest.importorskip("tests.builders.videos", reason="pip install -r requirements-video.txt")
    path, arguments = tmp_path / "a.avi", [f"--checkpoint_path={home}/logs", f"--output={tmp_path}/drawn"]
    path.write_bytes(b"no video")
    printed = run("simple_ssd_demo.py", f"--input={path}", *arguments, status=1)
    assert one_line_error(printed) == f"error: {path}: this is no video, or it is cut off"
    videos.write_changing(path, [(64, 48)] * 3 + [(32, 32)])
    printed = run("simple_ssd_demo.py", f"--input={path}", *arguments, status=1)
    assert f"{path}: the size changes from 64x48 to 32x32 at frame 3" in one_line_error(printed)
    assert len((tmp_path / "drawn/a.jsonl").read_text().splitlines()) == 3
    printed = run("simple_ssd_demo.py", "--input=camera:97", *arguments, status=1)
    assert "camera:97: cannot be opened" in one_line_error(printed)


def test_demo_does_not_draw_over_its_pictures(home, tmp_path):
    Image.new("RGB", (40, 40), 90).save(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    arguments = [f"--input={tmp_path}", f"--output={tmp_path}"]
    assert "drawn over" in one_line_error(run("simple_ssd_demo.py", *arguments, status=1))
    assert (tmp_path / "a.jpg").read_bytes() == before


def test_demo_takes_the_files_that_a_shell_makes_of_a_pattern(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "a.jpg")
    one, two = tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg"
    for arguments in (["--input", one, two], [one, two], [f"--input={one}", two]):
        printed = run("simple_ssd_demo.py", *arguments, f"--output={tmp_path}/drawn", status=1)
        assert f"--output={tmp_path}/drawn: {two} would be drawn over {one}" in one_line_error(printed)
    above = one_line_error(run("simple_ssd_demo.py", f"--input={tmp_path}", f"--output={tmp_path}/drawn", status=1))
    assert f"--input={tmp_path}: there is no picture" in above and re.search(
        rf"; {tmp_path}/(one|two) has some$", above
    )
    assert "unexpected argument" in one_line_error(run("eval_ssd.py", one, "--batch_size=2", status=2))


def one_line_error(printed):
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed
    return errors[0]


def test_wrong_class_count_is_an_error(home):
    assert "--num_classes=21" in one_line_error(train(home, 4, "--num_classes=21", status=1))


def test_missing_records_are_an_error_that_names_the_pattern(tmp_path):
    printed = run("train_ssd.py", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}/logs", status=1)
    assert str(tmp_path / "train-*-of-*") in one_line_error(printed)


def test_empty_records_are_an_error(home, tmp_path):
    for number in range(2):
        (tmp_path / f"train-{number:05d}-of-00002").write_bytes(b"")
    printed = run("train_ssd.py", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}/logs", status=1)
    assert "train-" in one_line_error(printed)


def test_a_record_file_that_is_cut_off_is_an_error(home, tmp_path):
    shutil.copytree(home / "tfrecords", tmp_path, dirs_exist_ok=True)
    name = sorted(path.name for path in tmp_path.glob("train-*"))[-1]
    os.truncate(tmp_path / name, 100)
    printed = run("train_ssd.py", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}/logs", status=1)
    assert f"{name} is cut off" in one_line_error(printed)


def test_a_broken_record_is_named_or_left_out(home, tmp_path):
    """One of the three validation images, in a file of its own; its CRC is wrong."""
    shutil.copytree(home / "tfrecords", tmp_path / "tfrecords")
    (shard, *_) = sorted((tmp_path / "tfrecords").glob("val-*"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    where = f"the record file {shard}, record 1: its bytes are damaged"
    shutil.copytree(home / "logs", tmp_path / "logs")
    arguments = ["eval_ssd.py", f"--data_dir={tmp_path}/tfrecords", f"--model_dir={tmp_path}/logs"]
    before = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("results_*")}
    printed = run(*arguments, status=1)
    assert where in one_line_error(printed) and "rendezvous" not in printed
    assert {path: path.read_bytes() for path in (tmp_path / "logs").rglob("results_*")} == before
    assert where in one_line_error(train(tmp_path, 4, "--eval_every_steps=4", status=1))
    assert where in one_line_error(run("dataset/dataset_inspect.py", arguments[1], "--split=val", status=1))
    printed = run(*arguments, "--skip_bad_records")
    assert f"1 broken records in 1 of 3 record files are left out; the first: {where}" in printed
    assert "detecting in 2 images" in printed and "Mean AP" in printed


def test_a_folder_without_checkpoint_is_an_error(home, tmp_path):
    printed = run("eval_ssd.py", f"--data_dir={home}/tfrecords", f"--model_dir={tmp_path}", status=1)
    assert str(tmp_path) in one_line_error(printed)
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    printed = run("simple_ssd_demo.py", f"--input={tmp_path}", f"--checkpoint_path={tmp_path}/no/where", status=1)
    assert "no/where" in one_line_error(printed)


def test_a_config_that_cannot_be_used_is_an_error_before_tensorflow_starts(home, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # lists what is imported
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"class_names": "cat"}')
    model = f"--checkpoint_path={tmp_path}/model"
    for arguments in (
        ("eval_ssd.py", f"--data_dir={home}/tfrecords", model),
        ("simple_ssd_demo.py", model, f"--input={tmp_path}", f"--output={tmp_path}/drawn"),
        ("utility/export_model.py", f"{model}/model.ckpt-1", f"--output={tmp_path}/exported"),
    ):
        printed = run(*arguments, status=1)
        assert "config.json: not a config of this project" in one_line_error(printed)
        assert "| tensorflow" not in re.sub(" +", " ", printed)


def test_a_wrong_flag_is_one_line_that_names_it(home):
    assert "no_such_flag" in one_line_error(run("train_ssd.py", "--no_such_flag=1", status=2))
    assert "--decay_boundaries=soon" in one_line_error(train(home, 4, "--decay_boundaries=soon", status=1))
    assert "--learning_rate=0.0: must be a number > 0" in one_line_error(train(home, 4, "--learning_rate=0", status=1))
    assert "--eval_every_steps" in one_line_error(train(home, 4, "--early_stop_evals=2", status=1))


def test_tiles_from_conversion_to_results(home, tmp_path):
    """Tiles of 300 pixels, reduced to 200; results are in pixels of the picture as it came, about 500x375."""
    records = ["--labels_file=auto", f"--output_directory={tmp_path}/tfrecords"]
    run(
        "dataset/convert_tfrecords.py", f"--dataset_directory={home}/VOC", *records, "--tile_size=300", "--max_side=200"
    )
    info = json.loads((tmp_path / "tfrecords/dataset.json").read_text())
    assert info["views"] == {"max_side": 200, "tile_size": 300, "tile_overlap": 0.2}
    assert (info["splits"]["train"]["images"], info["splits"]["val"]["images"]) == (24, 3)
    printed = train(tmp_path, 1, "--train_epochs=1")
    assert "24 training images" in printed and "step 1/1 epoch 1/1" in printed
    assert json.loads((tmp_path / "logs/config.json").read_text())["views"] == info["views"]
    printed = run("eval_ssd.py", f"--data_dir={tmp_path}/tfrecords", f"--model_dir={tmp_path}/logs", "--batch_size=5")
    assert "detecting in 3 images" in printed and "Mean AP" in printed
    lines = [line.split() for path in (tmp_path / "logs/predict").glob("results_*") for line in path.open()]
    assert len({line[0] for line in lines}) == 3
    boxes = np.array([line[2:] for line in lines], float)
    assert 400 < boxes.max() <= 500 and boxes.min() >= 0 and len(boxes) > 100

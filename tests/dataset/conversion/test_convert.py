"""The converter as a function and as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from dataset.conversion import staging
from dataset.convert_tfrecords import convert
from dataset.dataset_inspect import read_examples
from dataset.records import record_files
from tests.builders.voc import VocBuilder, box, picture
from utility.run.command import ROOT

SCRIPT = ROOT / "dataset" / "convert_tfrecords.py"


@pytest.fixture
def voc(tmp_path):
    return VocBuilder(tmp_path / "voc")


def run_convert(voc, output=None, **details):
    output = output or voc.root.parent / "records"
    info = convert(dataset_directory=voc.root, output_directory=output, **details)
    return info, output


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def ids(output, split):
    """The image ids of each shard."""
    shards = record_files.find_shards(output, split)
    return [[example["image_id"].decode() for example in read_examples([shard])] for shard in shards]


def test_everything_is_written_and_told(voc):
    voc.add("000001", box(1, 1, 30, 20), box(9, 9, 9, 9), box(40, 30, 90, 39, name="dog", difficult=1))
    voc.add("000002")
    voc.add("000003", box(1, 1, 30, 20, name="dog"), name="000003.png")
    voc.add("000004", box(1, 1, 5, 5), split="VOC2007TEST", image_set="test", size=(1, 1))
    info, output = run_convert(voc, train_shards=2)
    assert set(contents(output)) == {
        "train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001", "labels.txt", "dataset.json",
    }  # fmt: skip
    assert record_files.read_dataset_info(output) == info
    assert (output / "labels.txt").read_text().split() == list(info["class_names"])
    assert info["dataset_directory"] == str(voc.root.resolve())
    train, val = info["splits"]["train"], info["splits"]["val"]
    counts = {key: train[key] for key in ("images", "images_without_objects", "clipped", "shards", "image_set")}
    assert counts == {
        "images": 3, "images_without_objects": 1, "clipped": 1, "shards": 2, "image_set": "trainval",
    }  # fmt: skip
    assert (train["objects"]["cat"], train["objects"]["dog"], train["objects"]["sofa"]) == (1, 2, 0)
    assert (train["difficult"]["cat"], train["difficult"]["dog"]) == (0, 1)
    assert train["dropped"] == {"zero area": 1}
    assert train["pictures"] == {"re-encoded PNG RGB": 1}
    assert [text.partition(" (")[0] for text in train["remarks"]] == [
        "VOC2007/Annotations/000001.xml: object 2",
        "VOC2007/Annotations/000001.xml: object 3",
    ]
    assert (val["source_splits"], val["size_differs"]) == (["VOC2007TEST"], 1)


def test_labels_are_ids_of_the_20_classes(voc):
    voc.add("000001", box(1, 1, 30, 20, name="tvmonitor"), box(1, 1, 30, 20, name="aeroplane"))
    _, output = run_convert(voc)
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["labels"].tolist() == [20, 1]


def test_the_training_order_is_mixed_and_the_validation_order_is_the_files(voc):
    voc.add_many(30)
    voc.add_many(11, "VOC2007TEST", "test", start=100)
    _, output = run_convert(voc, train_shards=4, validation_shards=3)
    train, val = ids(output, "train"), ids(output, "val")
    assert [len(shard) for shard in train] == [8, 8, 7, 7]
    assert sorted([*chain(*train)]) == voc.ids["VOC2007", "trainval"]
    assert [*chain(*train)] != voc.ids["VOC2007", "trainval"]
    assert [len(shard) for shard in val] == [4, 4, 3]
    assert [*chain(*val)] == voc.ids["VOC2007TEST", "test"]


def test_the_same_bytes_whatever_the_threads(voc, tmp_path):
    voc.add_many(25)
    voc.add("x", box(1, 1, 9, 9), image=picture(), name="x.png")
    _, one = run_convert(voc, tmp_path / "one", num_threads=1, train_shards=3)
    _, seven = run_convert(voc, tmp_path / "seven", num_threads=7, train_shards=3)
    assert contents(one) == contents(seven)


def test_no_more_shards_than_images(voc, capsys):
    voc.add_many(3)
    info, output = run_convert(voc, train_shards=16)
    assert len(record_files.find_shards(output, "train")) == info["splits"]["train"]["shards"] == 3
    assert "3 shards, not 16: a shard holds an image at least" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["000001.JPG", "000001.jpeg", "000001.JPEG", "000001.PNG"])
def test_images_are_found_whatever_the_extension(voc, name):
    voc.add("000001", box(1, 1, 30, 20), name=name)
    assert run_convert(voc)[0]["splits"]["train"]["images"] == 1


def test_annotations_as_they_come(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc.add("a.b.c", box(1.5, 2.5, 30, 20.25).replace("</object>", f"{part}</object>"), size=None)
    _, output = run_convert(voc)
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["image_id"] == b"a.b.c"
    assert (example["boxes_yxyx"] * [40, 60, 40, 60]).round(4).tolist() == [[2.5, 1.5, 20.25, 30]]


def test_splits_by_default_are_those_that_are_there(voc):
    voc.add("000001", split="VOC2012")
    info, output = run_convert(voc)
    assert info["splits"]["train"]["source_splits"] == ["VOC2012"]
    assert set(info["splits"]) == {"train"}
    voc.add("000002", split="VOC2007")
    voc.add("000003", split="VOC2007TEST", image_set="test")
    info, output = run_convert(voc)
    assert info["splits"]["train"]["source_splits"] == ["VOC2007", "VOC2012"]
    assert info["splits"]["val"]["source_splits"] == ["VOC2007TEST"]
    info, output = run_convert(voc, train_splits=["VOC2012"], validation_splits=[])
    assert ids(output, "train") == [["000001"]]
    assert not list(output.glob("val-*"))


def test_the_devkit_as_it_is_unpacked(voc):
    voc.add("000001")
    voc.add("000002", image_set="test")
    assert run_convert(voc)[0]["splits"]["val"]["source_splits"] == ["VOC2007"]


def test_another_image_set(voc):
    voc.add("000001", image_set="train")
    voc.add("000002", image_set="val")
    details = {"train_image_set": "train", "validation_image_set": "val", "validation_splits": ["VOC2007"]}
    _, output = run_convert(voc, **details)
    assert (ids(output, "train"), ids(output, "val")) == ([["000001"]], [["000002"]])


def test_names_of_classes(voc, tmp_path):
    voc.add("000001", box(1, 1, 30, 20, name="zebra"), box(1, 1, 30, 20, name="ant"))
    voc.add("000002", box(1, 1, 30, 20, name="bee"), split="VOC2007TEST", image_set="test")
    voc.add("000003", box(1, 1, 30, 20, name="ant"), image=b"not an image")
    with pytest.raises(ValueError, match=r"ant \(2\), bee \(1\), zebra \(1\); .*--labels_file=auto"):
        run_convert(voc)
    assert run_convert(voc, labels_file="auto", skip_bad_images=True)[0]["class_names"] == ["ant", "bee", "zebra"]
    labels = tmp_path / "names.txt"
    labels.write_text("zebra\nbee\nant\nyak\n")
    info, output = run_convert(voc, labels_file=str(labels), skip_bad_images=True)
    assert info["class_names"] == ["zebra", "bee", "ant", "yak"]
    (example,) = read_examples(record_files.find_shards(output, "train"))
    assert example["labels"].tolist() == [1, 3]
    labels.write_text("zebra\nbee\n")
    with pytest.raises(ValueError, match=r"not in .*names.txt: ant \(2\);"):
        run_convert(voc, labels_file=str(labels))


def truncated_jpeg(voc):
    path = voc.add("broken", box(1, 1, 30, 20))
    path.write_bytes(path.read_bytes()[:-200])


def missing_image(voc):
    voc.add("broken").unlink()


def missing_annotation(voc):
    voc.add("broken")
    (voc.root / "VOC2007" / "Annotations" / "broken.xml").unlink()


def broken_annotation(voc):
    voc.add("broken")
    (voc.root / "VOC2007" / "Annotations" / "broken.xml").write_text("<annotation><object>")


def entity(voc):
    voc.add("broken")
    text = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>'
    (voc.root / "VOC2007" / "Annotations" / "broken.xml").write_text(text)


@pytest.mark.parametrize("spoil", [truncated_jpeg, missing_image, missing_annotation, broken_annotation, entity])
def test_a_bad_image_is_named_or_skipped(voc, spoil, tmp_path, capsys):
    voc.add_many(3)
    spoil(voc)
    with pytest.raises(ValueError, match=r"broken.*--skip_bad_images"):
        run_convert(voc)
    assert contents(tmp_path / "records") == {}
    info, output = run_convert(voc, skip_bad_images=True, train_shards=2)
    (skipped,) = info["splits"]["train"]["skipped"]
    assert "broken" in skipped
    assert info["splits"]["train"]["images"] == 3
    assert sorted(chain(*ids(output, "train"))) == ["000000", "000001", "000002"]
    assert "images skipped: 1" in capsys.readouterr().out


def test_strict_takes_faults_for_errors(voc, tmp_path, capsys):
    voc.add("000001", box(1, 1, 30, 20))
    assert run_convert(voc, strict=True)[0]["splits"]["train"]["images"] == 1
    before = contents(tmp_path / "records")
    voc.add("000002", box(9, 9, 9, 9), box(9, 9, 99, 99))
    with pytest.raises(ValueError, match=r"--strict: 2 faults .*the first: .*000002.xml: object 1 \(cat\)"):
        run_convert(voc, strict=True)
    assert "000002.xml: object 2 (cat)" in capsys.readouterr().out
    assert contents(tmp_path / "records") == before


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"dataset_directory": "nowhere"}, "nowhere is not a folder"),
        ({"train_splits": ["VOC2007", "VOC2099"]}, r"--train_splits: no folder VOC2099 in .* there: VOC2007"),
        ({"validation_splits": ["VOC2099"]}, r"--validation_splits: no folder VOC2099"),
        ({"train_splits": ["VOC2007", "VOC2007"]}, "names a split twice"),
        ({"train_image_set": "all"}, r"all\.txt does not exist; sets in that folder: trainval"),
        ({"train_splits": [], "validation_splits": []}, "no split to convert"),
        ({"num_threads": 0}, "--num_threads=0"),
        ({"train_shards": 100000}, "--train_shards=100000"),
        ({"labels_file": "nowhere.txt"}, r"nowhere\.txt does not exist"),
    ],
)
def test_mistakes_are_named(voc, details, message, tmp_path):
    voc.add("000001", box(1, 1, 30, 20))
    details = {"dataset_directory": voc.root, "output_directory": tmp_path / "records", **details}
    with pytest.raises((ValueError, OSError), match=message):
        convert(**details)
    assert contents(tmp_path / "records") == {}


def test_no_split_at_all_lists_what_there_is(voc):
    voc.add("000001", split="mine")
    with pytest.raises(FileNotFoundError, match=r"neither VOC2007 nor VOC2012 .*there: mine.*--train_splits"):
        run_convert(voc)


def test_no_image_is_an_error(voc):
    voc.add("000001", image=b"")
    voc.add("000002").unlink()
    with pytest.raises(ValueError, match="none of the 1 images for train"):
        run_convert(voc, skip_bad_images=True)
    (voc.root / "VOC2007" / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"no image is left for train: all are skipped, the first: .*000001"):
        run_convert(voc, skip_bad_images=True)


def test_a_validation_image_in_two_splits_is_refused(voc):
    voc.add("000001")
    for split in ("one", "two"):
        voc.add("000002", split=split, image_set="test")
    with pytest.raises(ValueError, match="image 000002 is in several of the validation splits one, two"):
        run_convert(voc, validation_splits=["one", "two"])


def test_an_older_data_set_is_replaced_whole(voc, tmp_path):
    voc.add_many(5)
    voc.add_many(5, "VOC2007TEST", "test", start=10)
    run_convert(voc, train_shards=4, validation_shards=2)
    _, output = run_convert(voc, train_shards=3, validation_splits=[])
    assert sorted(path.name for path in record_files.all_shards(output)) == record_files.shard_names("train", 3)
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("stop_at", range(1, 8))
def test_stopped_while_publishing_nothing_looks_finished(voc, monkeypatch, stop_at):
    """Whatever step is the last: no complete train shards, or their own labels beside them."""
    voc.add_many(2)
    _, output = run_convert(voc, train_shards=2)
    voc.add("dog", box(1, 1, 9, 9, name="dog"))
    left = stop_at

    def step(move):
        def counted(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return move(*arguments, **options)

        return counted

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", step(Path.unlink))
        patched.setattr(Path, "replace", step(Path.replace))
        run_convert(voc, train_shards=2, labels_file="auto")
    names = set(contents(output))
    assert ("dataset.json" in names) == (stop_at == 1)
    old = stop_at <= 2
    if set(record_files.shard_names("train", 2)) <= names:
        assert len((output / "labels.txt").read_text().split()) == (20 if old else 2)
    assert not [name for name in names if name.startswith(".")]


def test_a_failing_disk_leaves_the_old_data_set(voc, monkeypatch):
    voc.add_many(3)
    _, output = run_convert(voc)
    before = contents(output)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.tfrecord, "frame", full)
    with pytest.raises(OSError, match="No space left"):
        run_convert(voc, labels_file="auto")
    assert contents(output) == before


def start(voc, output, *arguments):
    command = [sys.executable, str(SCRIPT), f"--dataset_directory={voc.root}", f"--output_directory={output}"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent
    )


def test_a_name_that_cannot_be_one_is_refused_before_the_images(voc, tmp_path):
    voc.add("000001", box(1, 1, 30, 20, name="background"), image=b"bad")
    with pytest.raises(ValueError, match="background is always id 0"):
        run_convert(voc, labels_file="auto")
    assert contents(tmp_path / "records") == {}


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
        path.write_bytes(b"")  # lets go of the reading thread
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert not [name for name in contents_names(output) if not name.startswith(".")]
    if how == signal.SIGINT:
        assert err.strip() == "interrupted"
        assert contents_names(output) == []
    path.unlink()
    picture().save(path)
    assert convert(dataset_directory=voc.root, output_directory=output)["splits"]["val"]["images"] == 6
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


def test_blood_cells_with_their_own_names(bccd, tmp_path):
    info = convert(dataset_directory=bccd, output_directory=tmp_path, labels_file="auto", num_threads=2)
    assert info["class_names"] == ["Platelets", "RBC", "WBC"]
    train, val = info["splits"]["train"], info["splits"]["val"]
    assert (train["images"], val["images"], train["dropped"], val["dropped"]) == (292, 72, {"zero area": 2}, {})
    assert [text.split(":")[0].rpartition("/")[2] for text in train["remarks"]] == [
        "BloodImage_00338.xml",
        "BloodImage_00343.xml",
    ]
    with pytest.raises(ValueError, match=r"Platelets \(361\), RBC \(4155\), WBC \(372\)"):
        convert(dataset_directory=bccd, output_directory=tmp_path / "none")


def test_genuine_photographs(voc_sample, tmp_path):
    info = convert(dataset_directory=voc_sample, output_directory=tmp_path, num_threads=2)
    train, val = info["splits"]["train"], info["splits"]["val"]
    assert (train["images"], val["images"], train["shards"]) == (300, 150, 16)
    assert (sum(train["objects"].values()), sum(val["objects"].values())) == (921, 487)
    assert (sum(train["difficult"].values()), sum(val["difficult"].values())) == (181, 79)
    assert train["remarks"] == val["remarks"] == []
    example = next(read_examples(record_files.find_shards(tmp_path, "val")))
    path = voc_sample / "VOC2007TEST" / "JPEGImages" / f"{example['image_id'].decode()}.jpg"
    assert example["image_encoded"] == path.read_bytes()

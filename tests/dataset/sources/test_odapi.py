"""Records of TensorFlow's Object Detection API, as Roboflow exports them, as a source of the converter."""

import io

import numpy as np
import pytest

from dataset.records import record_files
from dataset.records.parsing import read_examples
from dataset.records.schema import encode_example
from tests.builders.convert import convert_odapi, convert_voc
from tests.builders.files import examples_by_id
from tests.builders.voc import SIZE, picture
from utility.files.tfrecord import frame

WIDTH, HEIGHT = SIZE
LABEL_MAP = "item {\n  id: 1\n  name: 'dog'\n}\nitem {\n  name: \"hot cat\",\n  id: 7\n}\n"


def record(name, *objects, texts=True, **others):
    """A record; objects are (id, name, ymin, xmin, ymax, xmax) in fractions."""
    buffer = io.BytesIO()
    picture(seed=sum(name.encode())).save(buffer, "JPEG")
    boxes = np.array([each[2:] for each in objects], np.float32).reshape(-1, 4)
    features: dict = {
        "image/encoded": [buffer.getvalue()],
        "image/filename": [name.encode()],
        "image/format": [b"jpg"],
        "image/height": np.array([HEIGHT]),
        "image/width": np.array([WIDTH]),
        "image/object/class/label": np.array([each[0] for each in objects], np.int64),
        **{f"image/object/bbox/{side}": boxes[:, n] for n, side in enumerate(("ymin", "xmin", "ymax", "xmax"))},
    }
    if texts:
        features["image/object/class/text"] = [each[1].encode() for each in objects]
    return encode_example({**features, **others})


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(frame, records)))


DOG, CAT = (1, "dog", 0.1, 0.25, 0.5, 0.75), (7, "hot cat", 0.0, 0.0, 1.0, 1.0)


@pytest.fixture
def roboflow(tmp_path):
    """Roboflow's "TFRecord": folders of splits, each with a record file and its label map."""
    for split, names in (("train", "ab"), ("valid", "c"), ("test", "d")):
        folder = tmp_path / "set" / split
        write(folder / "Animals.tfrecord", *(record(f"{name}.rf.1f.jpg", DOG, CAT) for name in names))
        (folder / "Animals_label_map.pbtxt").write_text(LABEL_MAP)
    return tmp_path / "set"


def convert(root, tmp_path, **flags):
    return convert_odapi(dataset_directory=root, output_directory=tmp_path / "records", **flags)


def test_what_roboflow_exports(roboflow, tmp_path):
    info = convert(roboflow, tmp_path)
    assert info["class_names"] == ["dog", "hot cat"] and info["pixel_extent"] == 0.0
    train = examples_by_id(tmp_path / "records", "train")
    assert sorted(train) == ["a.rf.1f", "b.rf.1f"] and [*examples_by_id(tmp_path / "records", "val")] == ["c.rf.1f"]
    np.testing.assert_array_equal(train["a.rf.1f"]["boxes_yxyx"], np.array([DOG[2:], CAT[2:]], np.float32))
    assert train["a.rf.1f"]["labels"].tolist() == [1, 2]
    assert train["a.rf.1f"]["image_encoded"].startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    "names", [("train.record-00000-of-00001", "val.record"), ("train-00000-of-00001", "validation.tfrecord")]
)
def test_files_of_splits_without_label_map(tmp_path, names):
    write(tmp_path / "set" / names[0], record("a.jpg", CAT, DOG))
    write(tmp_path / "set" / names[1], record("b.jpg"))
    info = convert(tmp_path / "set", tmp_path)
    assert info["class_names"] == ["dog", "hot cat"]
    assert {name: split["images"] for name, split in info["splits"].items()} == {"train": 1, "val": 1}
    assert examples_by_id(tmp_path / "records", "train")["a"]["labels"].tolist() == [2, 1]


def test_marks_and_names_that_come_twice(tmp_path):
    marks = {"image/object/difficult": np.array([1, 0]), "image/object/truncated": np.array([0, 1])}
    write(tmp_path / "set" / "all.tfrecord", record("a.jpg", DOG, CAT, **marks), record("a.jpg", DOG))
    convert(tmp_path / "set", tmp_path)
    found = examples_by_id(tmp_path / "records", "train")
    assert sorted(found) == ["a", "a_1"] and found["a"]["difficult"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (record("a.jpg", (3, "", 0, 0, 1, 1), texts=False), r"record 2: the class 3 is not in the label map"),
        (record("a.jpg", DOG, **{"image/object/bbox/xmin": np.zeros(0, np.float32)}), "record 2: .* unequal lengths"),
        (record("a.jpg", (*DOG[:5], np.inf)), "record 2: a side of its boxes is not finite"),
        (record("a.jpg", DOG, **{"image/encoded": [b""]}), "record 2 has no picture"),
        (record("a.jpg", DOG, **{"image/encoded": [b"text"]}), "the image cannot be decoded"),
        (b"\xff\xff", r"record 2 is no tf\.train\.Example"),
    ],
)
def test_a_broken_record_is_named_or_left_out(tmp_path, broken, message):
    write(tmp_path / "set" / "train.tfrecord", record("b.jpg", DOG), broken)
    (tmp_path / "set" / "label_map.pbtxt").write_text(LABEL_MAP)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "set", tmp_path)
    info = convert(tmp_path / "set", tmp_path, skip_bad_images=True)
    assert info["splits"]["train"]["images"] == 1 and len(info["splits"]["train"]["skipped"]) == 1


def test_a_file_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / "set" / "train.tfrecord"
    write(path, record("a.jpg", DOG), record("b.jpg", DOG))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train\.tfrecord, record 2: it is cut off"):
        convert(tmp_path / "set", tmp_path)


def test_the_format_is_named_where_another_was_asked_for(roboflow, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Animals\.tfrecord, so it may be records of .*--format=odapi"):
        convert_voc(dataset_directory=roboflow, output_directory=tmp_path / "records")


def test_training_on_them_names_the_command(roboflow, tmp_path):
    """Whatever they are called: here as Roboflow does, and as this project's own."""
    command = r"convert it: python dataset/convert_tfrecords\.py --format=odapi --dataset_directory="
    with pytest.raises(ValueError, match=command):
        record_files.find_shards(roboflow, "train")
    write(tmp_path / "other" / "train-00000-of-00001", record("a.jpg", DOG))
    with pytest.raises(ValueError, match=command):
        [*read_examples(record_files.find_shards(tmp_path / "other", "train"))]

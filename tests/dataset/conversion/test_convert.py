"""A conversion from annotations and pictures to records, whatever the label format."""

from itertools import chain
from pathlib import Path

import pytest

from dataset.conversion import convert
from dataset.records import record_files
from dataset.records.parsing import read_examples
from tests.builders.convert import convert_voc
from tests.builders.files import contents, ids
from tests.builders.voc import VocBuilder, box, picture


@pytest.fixture
def voc(tmp_path):
    return VocBuilder(tmp_path / "voc")


def run_convert(voc, output=None, **flags):
    output = output or voc.root.parent / "records"
    return convert_voc(dataset_directory=voc.root, output_directory=output, **flags), output


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
    assert record_files.pixel_extent(output) == 1.0
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
    assert "3 shards, not 16: a shard needs at least one image" in capsys.readouterr().out


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
    text = '<!DOCTYPE a [<!ENTITY e SYSTEM "a.txt">]><annotation>&e;</annotation>'
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
        convert_voc(**details)
    assert contents(tmp_path / "records") == {}


def test_no_image_is_an_error(voc):
    voc.add("000001", image=b"")
    voc.add("000002").unlink()
    with pytest.raises(ValueError, match=r"none of the 1 images for train can be used, the first: .*000001\.jpg"):
        run_convert(voc, skip_bad_images=True)
    (voc.root / "VOC2007" / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"no image is left for train: all are skipped, the first: .*000001"):
        run_convert(voc, skip_bad_images=True)


def test_a_name_that_cannot_be_one_is_refused_before_the_images(voc, tmp_path):
    voc.add("000001", box(1, 1, 30, 20, name="background"), image=b"bad")
    with pytest.raises(ValueError, match="background is always id 0"):
        run_convert(voc, labels_file="auto")
    assert contents(tmp_path / "records") == {}


def test_blood_cells_with_their_own_names(bccd, tmp_path):
    info = convert_voc(dataset_directory=bccd, output_directory=tmp_path, labels_file="auto", num_threads=2)
    assert info["class_names"] == ["Platelets", "RBC", "WBC"]
    train, val = info["splits"]["train"], info["splits"]["val"]
    assert (train["images"], val["images"], train["dropped"], val["dropped"]) == (292, 72, {"zero area": 2}, {})
    assert [text.split(":")[0].rpartition("/")[2] for text in train["remarks"]] == [
        "BloodImage_00338.xml",
        "BloodImage_00343.xml",
    ]
    with pytest.raises(ValueError, match=r"Platelets \(361\), RBC \(4155\), WBC \(372\)"):
        convert_voc(dataset_directory=bccd, output_directory=tmp_path / "none")


def test_genuine_photographs(voc_sample, tmp_path):
    info = convert_voc(dataset_directory=voc_sample, output_directory=tmp_path, num_threads=2)
    train, val = info["splits"]["train"], info["splits"]["val"]
    assert (train["images"], val["images"], train["shards"]) == (300, 150, 16)
    assert (sum(train["objects"].values()), sum(val["objects"].values())) == (921, 487)
    assert (sum(train["difficult"].values()), sum(val["difficult"].values())) == (181, 79)
    assert train["remarks"] == val["remarks"] == []
    example = next(read_examples(record_files.find_shards(tmp_path, "val")))
    path = voc_sample / "VOC2007TEST" / "JPEGImages" / f"{example['image_id'].decode()}.jpg"
    assert example["image_encoded"] == path.read_bytes()


def test_images_with_objects_are_counted_by_shard(voc):
    """A picture that is left out counts in none; the fourth has an object that is difficult, and no other."""
    for number, boxes in enumerate([[box(1, 1, 9, 9)], [], [box(1, 1, 9, 9)], [box(1, 1, 9, 9, difficult=1)]]):
        voc.add(f"{number}", *boxes, split="VOC2007TEST", image_set="test")
    (voc.root / "VOC2007TEST" / "JPEGImages" / "2.jpg").write_bytes(b"bad")
    info, output = run_convert(voc, train_splits=[], validation_shards=2, skip_bad_images=True)
    assert ids(output, "val") == [["0", "1"], ["3"]]
    counted = {"images": [2, 1], "with_objects": [1, 1], "with_objects_not_difficult": [1, 0]}
    assert info["splits"]["val"]["images_by_shard"] == counted


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
        def counted(*paths, **options):
            nonlocal left
            if paths[-1].parent == output:  # and not the staging folder in it
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return move(*paths, **options)

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

    monkeypatch.setattr(convert.tfrecord, "frame", full)
    with pytest.raises(OSError, match="No space left"):
        run_convert(voc, labels_file="auto")
    assert contents(output) == before


def test_a_second_converter_is_refused_and_the_first_goes_on(voc, tmp_path):
    voc.add_many(3)
    output = tmp_path / "records"
    with convert._staging_folder(output) as folder:
        (folder / "unfinished").touch()
        with pytest.raises(ValueError, match=rf"--output_directory={output}: another program is writing there"):
            run_convert(voc)
        assert (folder / "unfinished").exists()
    run_convert(voc)
    assert set(contents(output)) == {*record_files.shard_names("train", 3), "labels.txt", "dataset.json"}


def test_what_a_killed_converter_left_does_not_matter(voc, tmp_path):
    voc.add_many(3)
    folder = tmp_path / "records" / ".converting"
    folder.mkdir(parents=True)
    (folder / "train-00000-of-00009").touch()
    _, output = run_convert(voc)
    assert set(contents(output)) == {*record_files.shard_names("train", 3), "labels.txt", "dataset.json"}

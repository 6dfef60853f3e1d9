"""Shards appear under their final names together, or not at all."""

from pathlib import Path

import pytest

from dataset.conversion import convert
from dataset.records import record_files
from tests.builders.convert import convert_voc
from tests.builders.files import contents
from tests.builders.voc import VocBuilder, box


@pytest.fixture
def voc(tmp_path):
    return VocBuilder(tmp_path / "voc")


def run_convert(voc, output=None, **flags):
    output = output or voc.root.parent / "records"
    return convert_voc(dataset_directory=voc.root, output_directory=output, **flags), output


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

    monkeypatch.setattr(convert.schema, "frame", full)
    with pytest.raises(OSError, match="No space left"):
        run_convert(voc, labels_file="auto")
    assert contents(output) == before


def test_a_second_converter_is_refused_and_the_first_goes_on(voc, tmp_path):
    voc.add_many(3)
    output = tmp_path / "records"
    with convert.staging_folder(output) as folder:
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

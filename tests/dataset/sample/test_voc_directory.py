"""The sample set on disk: whole, reproducible, and varied."""

import pytest
from PIL import Image

from dataset.sample import CLASS_NAMES, make
from dataset.sources import labels, voc
from utility.run.folder_lock import locked


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    make(root, num_train=60, num_test=5, seed=3)
    return root


def annotations(root, split, image_set):
    ids = voc.read_image_set(root / split, image_set)
    return [voc.read_annotation(voc.annotation_path(root / split, image_id)) for image_id in ids]


def test_it_is_a_voc_directory(sample):
    assert labels.read_labels(sample / "labels.txt") == ("ball", "car", "fish", "house", "tree")
    for split, image_set, count in (("VOC2007", "trainval", 60), ("VOC2007TEST", "test", 5)):
        images = voc.index_images(sample / split)
        found = annotations(sample, split, image_set)
        assert len(found) == count
        for annotation in found:
            assert Image.open(images[annotation.image_id]).size == (annotation.width, annotation.height)
    assert not set(voc.index_images(sample / "VOC2007")) & set(voc.index_images(sample / "VOC2007TEST"))


def test_boxes_are_inside_and_of_all_kinds(sample):
    found = annotations(sample, "VOC2007", "trainval")
    sides = []
    for annotation in found:
        for voc_object in annotation.objects:
            ymin, xmin, ymax, xmax = voc_object.box_yxyx_px
            assert 1 <= ymin < ymax <= annotation.height
            assert 1 <= xmin < xmax <= annotation.width
            sides.append(max((ymax - ymin + 1) / annotation.height, (xmax - xmin + 1) / annotation.width))
    objects = [voc_object for annotation in found for voc_object in annotation.objects]
    assert {voc_object.name for voc_object in objects} == set(CLASS_NAMES)
    assert 0 < sum(voc_object.difficult for voc_object in objects) < len(objects) / 4
    assert 0 < sum(voc_object.truncated for voc_object in objects) < len(objects) / 2
    assert any(not annotation.objects for annotation in found)
    assert min(sides) < 0.15
    assert max(sides) > 0.7
    assert {annotation.height > annotation.width for annotation in found} == {True, False}


def test_a_seed_gives_the_same_files_and_another_gives_others(tmp_path, sample):
    make(tmp_path / "again", num_train=3, num_test=5, seed=3)
    make(tmp_path / "other", num_train=3, num_test=5, seed=4)
    again, other, whole = contents(tmp_path / "again"), contents(tmp_path / "other"), contents(sample)
    pictures = [path for path in again if path.suffix in (".jpg", ".xml")]
    assert len(pictures) == 16
    assert all(again[path] == whole[path] for path in pictures)
    assert not any(again[path] == other[path] for path in pictures if path.suffix == ".jpg")


def test_made_again_it_holds_what_was_asked_for(tmp_path):
    make(tmp_path, num_train=3, num_test=2, seed=0)
    make(tmp_path, num_train=2, num_test=1, seed=0)
    assert len(voc.read_image_set(tmp_path / "VOC2007", "trainval")) == 2
    assert len(voc.read_image_set(tmp_path / "VOC2007TEST", "test")) == 1


def test_a_voc_directory_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "VOC2007" / "ImageSets" / "Main" / "trainval.txt"
    path.parent.mkdir(parents=True)
    path.write_text("000005\n")
    with pytest.raises(ValueError, match=r"VOC2007 exists and is not a drawn sample.*--output_directory"):
        make(tmp_path, num_train=1, num_test=1)
    assert contents(tmp_path) == {path.relative_to(tmp_path): b"000005\n"}


@pytest.mark.parametrize("name", ["num_train", "num_test", "seed"])
def test_numbers_that_are_too_small_are_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"--{name}=-1 must be at least"):
        make(tmp_path, **{name: -1})


def test_a_folder_that_another_program_writes_to_is_left_alone(tmp_path):
    message = rf"--output_directory={tmp_path}: another program is writing there"
    with locked(tmp_path, "--output_directory"), pytest.raises(ValueError, match=message):
        make(tmp_path, num_train=1, num_test=1)
    assert contents(tmp_path) == {}

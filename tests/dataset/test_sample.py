"""The drawn sample set: shapes fill their canvas, boxes are tight, and the folder is whole and reproducible."""

import numpy as np
import pytest
from PIL import Image

from dataset import sample
from dataset.sample import CLASS_NAMES, SHAPES, make
from dataset.sources import labels, voc
from dataset.sources.annotations import LabelledObject
from utility.run.folder_lock import locked


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_shape_fills_its_canvas(name):
    pen = sample._Pen(200, 150, np.random.default_rng(0))
    SHAPES[name][0](pen)
    left, top, right, bottom = pen.image.getbbox() or (0, 0, 0, 0)
    assert right - left > 0.7 * 200
    assert bottom - top > 0.7 * 150


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_box_is_tight_around_what_is_drawn(monkeypatch, name):
    """One object, all white, on black: the box is that of the pixels that are not black."""
    monkeypatch.setattr(sample, "CLASS_NAMES", (name,))
    monkeypatch.setattr(sample, "_background", lambda _, width, height: Image.new("RGB", (width, height)))
    monkeypatch.setattr(sample, "_photograph", lambda image, _: image)
    monkeypatch.setattr(sample, "_with_noise", lambda pixels, *_: Image.new("RGB", pixels.shape[1::-1], "white"))
    for seed in range(8):
        image, (voc_object,) = sample.draw_scene(np.random.default_rng(seed), 1)
        seen = np.asarray(image.convert("L")) > 127
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        expected = (rows[0] + 1, columns[0] + 1, rows[-1] + 1, columns[-1] + 1)
        np.testing.assert_allclose(voc_object.box_yxyx_px, expected, atol=1)


def test_hidden_and_cut_off_objects_are_marked():
    visible = np.zeros((300, 400), bool)
    visible[100:200, 50:150] = True
    pixels = 100 * 100
    assert sample._annotate(visible, "car", pixels, pixels) == LabelledObject(
        "car", (101, 51, 200, 150), difficult=False, truncated=False
    )
    assert sample._annotate(visible, "car", 2 * pixels, 2 * pixels).difficult
    assert not sample._annotate(visible, "car", 2 * pixels, 2 * pixels).truncated
    cut = sample._annotate(visible, "car", pixels * 3 // 2, pixels)
    assert (cut.difficult, cut.truncated) == (False, True)
    assert sample._annotate(visible, "car", 3 * pixels, pixels).difficult
    visible[115:] = False
    assert sample._annotate(visible, "car", 1500, 1500).difficult  # 15 of 300 pixels high


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    make(root, num_train=60, num_test=5, seed=3)
    return root


def annotations(root, split, image_set):
    ids = voc.read_image_set(root / split, image_set)
    return [voc.read_annotation(voc.annotation_path(root / split, image_id)) for image_id in ids]


def test_it_is_a_voc_directory(drawn):
    assert labels.read_labels(drawn / "labels.txt") == ("ball", "car", "fish", "house", "tree")
    for split, image_set, count in (("VOC2007", "trainval", 60), ("VOC2007TEST", "test", 5)):
        images = voc.index_images(drawn / split)
        found = annotations(drawn, split, image_set)
        assert len(found) == count
        for annotation in found:
            assert Image.open(images[annotation.image_id]).size == (annotation.width, annotation.height)
    assert not set(voc.index_images(drawn / "VOC2007")) & set(voc.index_images(drawn / "VOC2007TEST"))


def test_boxes_are_inside_and_of_all_kinds(drawn):
    found = annotations(drawn, "VOC2007", "trainval")
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


def test_a_seed_gives_the_same_files_and_another_gives_others(tmp_path, drawn):
    make(tmp_path / "again", num_train=3, num_test=5, seed=3)
    make(tmp_path / "other", num_train=3, num_test=5, seed=4)
    again, other, whole = contents(tmp_path / "again"), contents(tmp_path / "other"), contents(drawn)
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


def test_a_folder_that_another_program_writes_to_is_left_alone(tmp_path):
    message = rf"--output_directory={tmp_path}: another program is writing there"
    with locked(tmp_path, "--output_directory"), pytest.raises(ValueError, match=message):
        make(tmp_path, num_train=1, num_test=1)
    assert contents(tmp_path) == {}

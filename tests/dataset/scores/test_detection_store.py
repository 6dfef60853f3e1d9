"""Detections of many images, stored in a file of no name."""

import tracemalloc

import numpy as np
import pytest

from dataset.scores import detection_store, voc_results
from dataset.scores.detection_store import StoredDetections
from tests.dataset.scores.test_voc_results import make_detections


def images_with_detections(count, classes=5):
    """As `predict_pictures` yields them; the third has none."""
    rng = np.random.default_rng(3)
    for number in range(count):
        found = 0 if number == 2 else int(rng.integers(1, 40))
        yield {
            "image_id": f"image {number}".encode(),
            "size": np.array([100 + number, 333], np.int32),
            "boxes_yxyx": rng.random((found, 4), np.float32),
            "scores": rng.random(found, np.float32),
            "classes": rng.integers(1, classes + 1, found, dtype=np.int32),
        }


def grouped_in_memory(images):
    """Class id -> rows, one after the other."""
    found: dict[int, list] = {}
    for image in images:
        for box, score, class_id in zip(image["boxes_yxyx"], image["scores"], image["classes"], strict=True):
            pixels = box.astype(np.float64) * np.tile(image["size"], 2)
            found.setdefault(int(class_id), []).append((image["image_id"].decode(), score, *pixels))
    return {class_id: make_detections(*rows) for class_id, rows in found.items()}


def assert_same_detections(one, other):
    assert one.keys() == other.keys()
    for class_id, found in one.items():
        for name in ("image_ids", "scores", "boxes_yxyx_px"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other[class_id], name))


@pytest.mark.parametrize("images", [1, 7, 10**6])
def test_stored_detections_are_those_of_the_images_bit_by_bit(tmp_path, monkeypatch, images):
    monkeypatch.setattr(detection_store, "_IMAGES_AT_ONCE", images)
    stored = StoredDetections(images_with_detections(30), tmp_path)
    assert not list(tmp_path.iterdir()), "the file has no name, so that nothing is left of a run that is killed"
    assert [*stored] == [1, 2, 3, 4, 5] and len(stored) == 5 and stored.get(6) is None
    assert_same_detections(grouped_in_memory(images_with_detections(30)), stored)
    parts = [*stored.by_images()]
    assert len(parts) == {1: 30, 7: 5, 10**6: 1}[images]
    owners = [{image_id for found in part.values() for image_id in found.image_ids} for part in parts]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 29, "no image is in two parts"
    for path, found in (("one", stored), ("other", grouped_in_memory(images_with_detections(30)))):
        voc_results.write_results(tmp_path / path, found, num_classes=7)
    for class_id in range(1, 7):
        one, other = (voc_results.results_path(tmp_path / path, class_id) for path in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_no_detection_can_be_stored_too(tmp_path):
    for images in (
        [],
        [next(images_with_detections(1)) | {"boxes_yxyx": np.zeros((0, 4)), "scores": [], "classes": []}],
    ):
        stored = StoredDetections(images, tmp_path)
        assert dict(stored) == {} and [found for part in stored.by_images() for found in part] == []


def test_memory_does_not_grow_with_the_images(tmp_path):
    """A thousand images of 2000 detections take 56 MB of the file."""

    def images(count):
        boxes, scores = np.random.default_rng(0).random((2000, 4), np.float32), np.full(2000, 0.5, np.float32)
        classes = np.arange(2000) % 5 + 1
        for number in range(count):
            name = f"{number}".encode()
            size = np.array([100, 100])
            yield {"image_id": name, "size": size, "boxes_yxyx": boxes, "scores": scores, "classes": classes}

    tracemalloc.start()
    stored = StoredDetections(images(1000), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6 and len(stored[3]) == 400_000


def test_a_full_disk_is_named(file_system):
    folder = file_system("size=64k")
    with pytest.raises(OSError, match="No space left on device for the detections") as caught:
        StoredDetections(images_with_detections(200), folder)
    assert caught.value.filename == str(folder)

"""Results files are written, read back, and refused where they are broken."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.scores import voc_results


def make_detections(*rows):
    """Rows of image_id, score, ymin, xmin, ymax, xmax."""
    columns = ([row[0] for row in rows], [row[1] for row in rows], [row[2:] for row in rows])
    return voc_results.Detections(*map(np.array, columns))


def test_results_have_the_documented_lines(tmp_path):
    found = make_detections(("000012", 0.75, 2, 1, 40.25, 30), ("my photo", 1e-7, 1, 2, 3, 4))
    voc_results.write_results(tmp_path / "predict", {2: found}, num_classes=4)
    assert {path.name: path.read_text() for path in (tmp_path / "predict").iterdir()} == {
        "results_1.txt": "",
        "results_2.txt": "000012 0.7500000000 1.0000 2.0000 30.0000 40.2500\n"
        "my photo 0.0000001000 2.0000 1.0000 4.0000 3.0000\n",
        "results_3.txt": "",
    }
    again = voc_results.read_results(tmp_path / "predict" / "results_2.txt")
    assert again.image_ids.tolist() == ["000012", "my photo"]
    np.testing.assert_array_equal(again.boxes_yxyx_px, found.boxes_yxyx_px)
    assert len(voc_results.read_results(tmp_path / "predict" / "results_1.txt")) == 0


def test_results_of_an_earlier_run_are_removed(tmp_path):
    for name in ("results_3.txt", "results_25.txt", "results_0.txt", "results_all.txt", "notes.txt"):
        (tmp_path / name).write_text("old")
    voc_results.write_results(tmp_path, {}, num_classes=4)
    assert voc_results.results_class_ids(tmp_path) == [1, 2, 3]
    assert (tmp_path / "results_3.txt").read_text() == ""
    assert (tmp_path / "results_all.txt").exists()
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("class_id", [0, 4, -1])
def test_results_of_an_unknown_class_are_refused(tmp_path, class_id):
    with pytest.raises(ValueError, match=rf"class ids \[{class_id}\].*1 to 3"):
        voc_results.write_results(tmp_path, {class_id: make_detections(("a", 1, 1, 1, 2, 2))}, num_classes=4)
    assert voc_results.results_class_ids(tmp_path) == []


def test_results_that_are_not_finite_are_refused(tmp_path):
    found = make_detections(("a", 1, 1, 1, 2, 2), ("b", 1, 1, np.nan, 2, 2))
    with pytest.raises(ValueError, match="class 1 in image b"):
        voc_results.write_results(tmp_path, {1: found}, num_classes=2)
    assert voc_results.results_class_ids(tmp_path) == []


def test_detections_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\), \(1,\), \(1, 4\)"):
        voc_results.Detections(np.array(["a", "b"]), np.ones(1), np.ones([1, 4]))


@pytest.mark.parametrize("line", ["a 1 2 3 4", "a 1 2 3 4 five", "1 2 3 4 5", "a nan 1 2 3 4", "a .5 1 2 3 inf", "a"])
def test_broken_results_are_named_with_their_line(tmp_path, line):
    path = tmp_path / "results_1.txt"
    path.write_text(f"a .5 1 2 3 4\r\n\r\n{line}\r\nb .5 1 2 3 4\r\n")
    with pytest.raises(ValueError, match="line 3: ") as caught:
        voc_results.read_results(path)
    assert str(path) in str(caught.value)


def test_missing_or_garbled_results_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results_1\.txt does not exist"):
        voc_results.read_results(tmp_path / "results_1.txt")
    (tmp_path / "results_1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"results_1\.txt is not UTF-8"):
        voc_results.read_results(tmp_path / "results_1.txt")


@pytest.mark.parametrize("line", ["a\t.5\t1\t2\t3\t4", "a\u3000b .5 1 2 3 4", " 2007_12  .5 1 2 3 4\t"])
def test_lines_in_order_are_not_looked_at_twice(tmp_path, monkeypatch, line):
    """That takes several times as long as reading them."""
    monkeypatch.setattr(voc_results, "_check", lambda line: pytest.fail(f"looked at {line!r}"))
    path = tmp_path / "results_1.txt"
    path.write_text(f"{line}\n" * 2)
    assert voc_results.read_results(path).image_ids.tolist() == [line.rsplit(None, 5)[0].strip()] * 2


@pytest.mark.parametrize("line", ["a\x00b .5 1 2 3 4", "a\x1bb\t.5 1 2 3 4", "a 1_0 1 2 3 4", "a .5 ١ 2 3 4"])
def test_control_characters_and_other_digits_are_named_with_their_line(tmp_path, line):
    path = tmp_path / "results_1.txt"
    path.write_text(f"2007_1\t.5\t1\t2\t3\t4\n{line}\n")
    with pytest.raises(ValueError, match="line 2: "):
        voc_results.read_results(path)


IDS = st.text(st.sampled_from("ab.é 0_-"), min_size=1, max_size=8).map(str.strip).filter(bool)

PIXELS = st.floats(-1e4, 1e4, width=32)

ROWS = st.tuples(IDS, st.floats(2**-6, 1, width=32), PIXELS, PIXELS, PIXELS, PIXELS)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=20))
def test_results_there_and_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("results")
    found = make_detections(*rows)
    voc_results.write_results(folder, {1: found}, num_classes=2)
    again = voc_results.read_results(folder / "results_1.txt")
    assert again.image_ids.tolist() == found.image_ids.tolist()
    np.testing.assert_allclose(again.boxes_yxyx_px, found.boxes_yxyx_px, atol=5.1e-5, rtol=0)
    # Scores are float32 in the network: they come back bit for bit, so no two change places.
    np.testing.assert_array_equal(again.scores.astype(np.float32), found.scores.astype(np.float32))


def images_with_detections(count, classes=5):
    """As `prediction.detect` yields them; the third has none."""
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


@pytest.mark.parametrize("rows", [1, 50, 10**6])
def test_stored_detections_are_those_of_the_images_bit_by_bit(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(voc_results.StoredDetections, "_ROWS_OF_PART", rows)
    stored = voc_results.detections_by_class(images_with_detections(30), tmp_path)
    assert not list(tmp_path.iterdir()), "the file has no name, so that nothing is left of a run that is killed"
    assert [*stored] == [1, 2, 3, 4, 5] and len(stored) == 5 and stored.get(6) is None
    assert_same_detections(grouped_in_memory(images_with_detections(30)), stored)
    parts = [*stored.by_images()]
    assert len(parts) == {1: 29, 50: len(parts), 10**6: 1}[rows]
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
        stored = voc_results.detections_by_class(images, tmp_path)
        assert dict(stored) == {} and [found for part in stored.by_images() for found in part] == []


def test_memory_does_not_grow_with_the_images(tmp_path):
    """A thousand images of 2000 detections take 96 MB of the file; a class in five, and a part, less than a third."""

    def images(count):
        boxes, scores = np.random.default_rng(0).random((2000, 4), np.float32), np.full(2000, 0.5, np.float32)
        classes = np.arange(2000) % 5 + 1
        for number in range(count):
            name = f"{number}".encode()
            size = np.array([100, 100])
            yield {"image_id": name, "size": size, "boxes_yxyx": boxes, "scores": scores, "classes": classes}

    peaks = []
    for count in (150, 1000):
        tracemalloc.start()
        stored = voc_results.detections_by_class(images(count), tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(stored[3]) == 400 * count
    assert peaks[1] < 1.1 * peaks[0] < 40e6


def test_one_long_id_takes_no_room_in_the_others(tmp_path):
    """numpy would give each of 40,000 ids the 1 kB of the longest."""
    ids = ["x" * 255, *(str(number % 500) for number in range(40_000))]
    path = voc_results.results_path(tmp_path, 1)
    path.write_text("".join(f"{image_id} 0.5 1 2 3 4\n" for image_id in ids))
    one = {"size": np.array([9, 9]), "boxes_yxyx": np.ones((1, 4)), "scores": np.ones(1), "classes": [1]}
    stored = voc_results.detections_by_class(({**one, "image_id": image_id.encode()} for image_id in ids), tmp_path)
    for read in (lambda: voc_results.read_results(path), lambda: stored[1]):
        tracemalloc.start()
        assert read().image_ids.tolist() == ids
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6


def test_results_that_break_off_leave_the_earlier_set_whole(tmp_path):
    voc_results.write_results(tmp_path, {1: make_detections(("old", 1, 1, 1, 2, 2))}, num_classes=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    new = make_detections(("new", 1, 1, 1, 2, 2))
    with pytest.raises(ValueError, match="class 3 in image b"):
        voc_results.write_results(tmp_path, {1: new, 3: make_detections(("b", np.nan, 1, 1, 2, 2))}, num_classes=4)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_files_are_read_when_they_are_asked_for(tmp_path):
    found = {1: make_detections(("a", 1, 1, 1, 2, 2)), 3: make_detections(("b", 0.5, 1, 1, 2, 2))}
    voc_results.write_results(tmp_path, found, num_classes=4)
    files = voc_results.ResultsFiles(tmp_path)
    voc_results.results_path(tmp_path, 2).write_text("broken")
    assert [*files] == [1, 2, 3] and files[3].image_ids.tolist() == ["b"] and files.get(4) is None
    with pytest.raises(ValueError, match=r"results_2\.txt, line 1"):
        files[2]


def test_a_full_disk_is_named(file_system):
    folder = file_system("size=64k")
    with pytest.raises(OSError, match="No space left on device for the detections") as caught:
        voc_results.detections_by_class(images_with_detections(200), folder)
    assert caught.value.filename == str(folder)

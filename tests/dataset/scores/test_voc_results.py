"""Results files are written, read back, and refused where they are broken."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.scores import voc_results
from dataset.scores.detection_store import ClassDetections, StoredDetections


def make_detections(*rows):
    """Rows of image_id, score, ymin, xmin, ymax, xmax."""
    columns = ([row[0] for row in rows], [row[1] for row in rows], [row[2:] for row in rows])
    return ClassDetections(*map(np.array, columns))


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


def test_results_that_are_not_finite_are_refused(tmp_path):
    found = make_detections(("a", 1, 1, 1, 2, 2), ("b", 1, 1, np.nan, 2, 2))
    with pytest.raises(ValueError, match="class 1 in image b"):
        voc_results.write_results(tmp_path, {1: found}, num_classes=2)
    assert voc_results.results_class_ids(tmp_path) == []


def test_garbled_results_are_named(tmp_path):
    (tmp_path / "results_1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"results_1\.txt is not UTF-8"):
        voc_results.read_results(tmp_path / "results_1.txt")


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


def test_one_long_id_takes_no_room_in_the_others(tmp_path):
    """numpy would give each of 40,000 ids the 1 kB of the longest."""
    ids = ["x" * 255, *(str(number % 500) for number in range(40_000))]
    path = voc_results.results_path(tmp_path, 1)
    path.write_text("".join(f"{image_id} 0.5 1 2 3 4\n" for image_id in ids))
    one = {"size": np.array([9, 9]), "boxes_yxyx": np.ones((1, 4)), "scores": np.ones(1), "classes": [1]}
    stored = StoredDetections(({**one, "image_id": image_id.encode()} for image_id in ids), tmp_path)
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


GOOD = "000012 0.5 1 1 9 9"
BAD_LINES = {
    "infinite": "000012 inf 1 1 9 9",
    "a word": "000012 0.5 one 1 9 9",
    "too few": "000012 0.5 1 1 9",
    "an image id alone": "000012",
    "a line of a megabyte": "x" * 1_000_000,
    "UTF-16 without its mark": f"{GOOD}\n".encode("utf-16-le").decode(),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named_and_quoted_in_short(tmp_path, kind):
    (tmp_path / "results_1.txt").write_text(f"{GOOD}\n\n{BAD_LINES[kind]}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"results_1\.txt, line 3: .*finite numbers") as caught:
        voc_results.read_results(tmp_path / "results_1.txt")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250 + len(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_one_line(tmp_path, encoding):
    (tmp_path / "results_1.txt").write_bytes(GOOD.replace("000012", "caf\u00e9").encode(encoding))
    with pytest.raises(ValueError, match=r"results_1\.txt is not UTF-8 text"):
        voc_results.read_results(tmp_path / "results_1.txt")


def test_usual_lines_of_other_programs_are_read(tmp_path):
    lines = ["2008_000001\t.5  1 1 9. 9e0\r", " a b 1.0 +1 -1 9 9 ", "\u72ac 1 1 1 9 9", "", "x\u00a0y 1 1 1 9 9"]
    (tmp_path / "results_1.txt").write_bytes(("\ufeff" + "\n".join(lines)).encode())
    found = voc_results.read_results(tmp_path / "results_1.txt")
    assert found.image_ids.tolist() == ["2008_000001", "a b", "\u72ac", "x\u00a0y"]


def test_only_names_that_this_project_writes_are_results_files(tmp_path):
    for name in ("results_1.txt", "results_01.txt", "results_\u0663.txt", f"results_{'1' * 200}.txt", "results_2.txt~"):
        (tmp_path / name).touch()
    assert voc_results.results_class_ids(tmp_path) == [1]

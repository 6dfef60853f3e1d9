"""Results files are written, read back, and refused where they are broken."""

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

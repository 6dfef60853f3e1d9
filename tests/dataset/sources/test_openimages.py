"""Open Images' CSV of boxes as a source of the converter."""

import numpy as np
import pytest

from tests.builders.convert import convert_openimages
from tests.builders.files import examples_by_id
from tests.builders.voc import picture

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
CAT, DOGS = "/m/01yrx,1,0.25,0.75,0.1,0.5,0,1,0,0,0", "/m/0bt9lr,1,0,1,0,1,0,0,1,0,0"


@pytest.fixture
def root(tmp_path):
    """Boxes of two pictures, of which one was downloaded; another picture has no box."""
    (tmp_path / "images").mkdir()
    for name in ("0a", "0c"):
        picture(seed=ord(name[1])).save(tmp_path / "images" / f"{name}.jpg")
    rows = [f"0a,xclick,{CAT}", f"0b,xclick,{CAT}", f"0a,activemil,{DOGS}"]
    (tmp_path / "boxes.csv").write_text(HEAD + "\n".join(rows) + "\n")
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    return tmp_path


def convert(root, **flags):
    flags = {"annotations": root / "boxes.csv", "images": root / "images", **flags}
    return convert_openimages(output_directory=root / "records", **flags)


def test_boxes_of_the_pictures_that_are_there(root):
    info = convert(root)
    assert info["class_names"] == ["Cat", "Dog"] and info["pixel_extent"] == 0.0
    (example,) = examples_by_id(root / "records", "train").values()
    np.testing.assert_allclose(example["boxes_yxyx"], [[0.1, 0.25, 0.5, 0.75], [0.0, 0.0, 1.0, 1.0]], atol=1e-6)
    assert example["difficult"].tolist() == [False, True]  # a group
    assert f"1 images of boxes.csv have no picture in {root}/images, and are left out" in info["remarks"]
    assert any(told.startswith("1 pictures without a box in boxes.csv are left out") for told in info["remarks"])


def test_without_descriptions_labels_are_names(root):
    (root / "class-descriptions-boxable.csv").unlink()
    assert convert(root)["class_names"] == ["/m/01yrx", "/m/0bt9lr"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageID,LabelName,XMin,XMax,YMin\n", r"boxes\.csv has no column YMax: give a CSV of boxes of Open Images"),
        (HEAD + "0a,x,/m/01yrx,1,10,75,20,50,0,0,0,0,0\n", r"boxes\.csv, line 2: .*these must be numbers from 0 to 1"),
        (HEAD + "0a,x,,1,0,1,0,1,0,0,0,0,0\n", r"boxes\.csv, line 2: the label is '', which cannot be a class name"),
        (HEAD + "0f,x,/m/01yrx,1,0,1,0,1,0,0,0,0,0\n", r"none of the pictures in .*images is in .*boxes\.csv"),
    ],
)
def test_a_bad_line_is_named(root, text, message):
    (root / "boxes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert(root)


def test_a_missing_file_is_named(root):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist"):
        convert(root, annotations=root / "nowhere.csv")

"""Boxes are clipped to the image or dropped, and it is said which and why."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.conversion import examples
from dataset.conversion.examples import CLIPPED, INVERTED, OUTSIDE, TWICE, ZERO_AREA, mend_box_px
from dataset.records.parsing import read_examples
from dataset.sources import voc
from dataset.sources.annotations import Source
from tests.builders.voc import VocBuilder, box, picture
from utility.config.settings import ViewConfig
from utility.files.tfrecord import frame

COORDINATE = st.one_of(st.integers(-50, 150), st.floats(-1e6, 1e6))
HEIGHT, WIDTH = 40, 60


@pytest.mark.parametrize(
    ("given_box", "kept", "reasons"),
    [
        ((1, 1, 40, 60), (1, 1, 40, 60), []),
        ((0, 0, 40, 60), (0, 0, 40, 60), []),  # counted from 0
        ((1.5, 2.25, 10.5, 20), (1.5, 2.25, 10.5, 20), []),
        ((-3, -4, 20, 30), (0, 0, 20, 30), [CLIPPED]),
        ((5, 6, 41, 61), (5, 6, 40, 60), [CLIPPED]),
        ((5, 6, 5, 20), None, [ZERO_AREA]),
        ((5, 6, 20, 6), None, [ZERO_AREA]),
        ((20, 6, 5, 20), (5, 6, 20, 20), [INVERTED]),
        ((25, 20, 5, -6), (5, 0, 25, 20), [INVERTED, CLIPPED]),
        ((50, 6, 70, 20), None, [OUTSIDE]),
        ((5, 60, 20, 80), None, [OUTSIDE]),
        ((-20, 6, 0, 20), None, [OUTSIDE]),
    ],
)
def test_boxes(given_box, kept, reasons):
    clipped, found = mend_box_px(given_box, HEIGHT, WIDTH)
    assert found == reasons
    if kept is not None:
        assert clipped == kept


@given(st.tuples(*[COORDINATE] * 4))
def test_what_is_kept_is_a_box_inside_the_image(given_box):
    (ymin, xmin, ymax, xmax), reasons = mend_box_px(given_box, HEIGHT, WIDTH)
    if examples.MENDED.issuperset(reasons):
        assert 0 <= ymin < ymax <= HEIGHT
        assert 0 <= xmin < xmax <= WIDTH
        assert (reasons == []) == (given_box == (ymin, xmin, ymax, xmax))


def make(tmp_path, *objects, **details):
    builder = VocBuilder(tmp_path)
    image_path = builder.add("000001", *objects, **details)
    annotation = voc.read_annotation(voc.annotation_path(tmp_path / "VOC2007", "000001"))
    source = Source("VOC2007/Annotations/000001.xml", annotation, image_path)
    converted = examples.make_records(source, {"cat": 1, "dog": 2})
    (tmp_path / "shard").write_bytes(b"".join(frame(record.serialized) for record in converted.records))
    (record,) = read_examples([str(tmp_path / "shard")])
    return converted, record


def test_an_example_holds_raw_values_over_the_size_of_the_image(tmp_path):
    made, record = make(tmp_path, box(1, 2, 60, 40, difficult=1), box(10.5, 20, 30, 30, name="dog", truncated=1))
    pixels = np.array([[2, 1, 40, 60], [20, 10.5, 30, 30]], np.float64)
    np.testing.assert_array_equal(record["boxes_yxyx"], (pixels / [40, 60, 40, 60]).astype(np.float32))
    assert record["labels"].tolist() == [1, 2]
    assert record["difficult"].tolist() == [True, False]
    assert made.remarks == []


@pytest.mark.parametrize("size", [None, (0, 0), (60, 0)])
def test_a_size_that_is_not_given_does_not_matter(tmp_path, size):
    made, record = make(tmp_path, box(30, 20, 60, 40), size=size)
    assert record["boxes_yxyx"].tolist() == [[0.5, 0.5, 1, 1]]
    assert (record["height"], record["width"]) == (40, 60)
    assert made.remarks == []


@pytest.mark.parametrize("size", [(600, 300), (30, 20), (40, 60)])
def test_a_size_of_another_shape_or_too_small_for_the_boxes_is_remarked_upon_and_not_used(tmp_path, size):
    made, record = make(tmp_path, box(30, 20, 60, 40), size=size)
    assert record["boxes_yxyx"].tolist() == [[0.5, 0.5, 1, 1]]
    (remark,) = made.remarks
    assert remark.reason == "size differs"
    assert f"000001.xml: the size is given as {size[0]}x{size[1]}, but the image is 60x40, which" in remark.text
    assert "boxes may be off" in remark.text


@pytest.mark.parametrize(("size", "factor"), [((600, 400), 10), ((30, 20), 0.5), ((91, 60), 1.5)])
def test_boxes_of_a_picture_that_was_resized_after_labelling_are_scaled_with_it(tmp_path, size, factor):
    """A box of the lower right quarter; of 60x40, 91x60 is no exact multiple."""
    made, record = make(tmp_path, box(30 * factor, 20 * factor, 60 * factor, 40 * factor), size=size)
    np.testing.assert_allclose(record["boxes_yxyx"], [[0.5, 0.5, 1, 1]], atol=0.02)
    (remark,) = made.remarks
    assert remark.reason == "scaled" and "its boxes are scaled" in remark.text


def test_the_same_box_twice_is_one_object(tmp_path):
    other = box(1, 1, 20, 20, name="dog")
    made, record = make(tmp_path, box(1, 1, 20, 20), other, box(1, 1, 20, 20), box(20, 1, 1, 20), box(2, 1, 20, 20))
    assert record["labels"].tolist() == [1, 2, 1]
    assert [remark.reason for remark in made.remarks] == [TWICE, TWICE]
    assert made.remarks[0].text.endswith(
        "object 3 (cat): xmin 1 ymin 1 xmax 20 ymax 20 in 60x40: the same box twice, dropped"
    )


def test_bad_boxes_are_named_by_file_and_object(tmp_path):
    made, record = make(
        tmp_path, box(1, 1, 20, 20), box(9, 9, 9, 30, name="dog"), box(50, 30, 70, 50), box(99, 1, 120, 9)
    )
    assert [remark.reason for remark in made.remarks] == [ZERO_AREA, CLIPPED, OUTSIDE]
    assert made.remarks[0].text == (
        "VOC2007/Annotations/000001.xml: object 2 (dog): xmin 9 ymin 9 xmax 9 ymax 30 in 60x40: zero area, dropped"
    )
    assert made.remarks[1].text.endswith("object 3 (cat): xmin 50 ymin 30 xmax 70 ymax 50 in 60x40: clipped")
    np.testing.assert_allclose(record["boxes_yxyx"][1], [30 / 40, 50 / 60, 1, 1], rtol=1e-6)
    assert len(record["labels"]) == 2


def test_a_picture_all_of_whose_boxes_are_broken_is_left_out_and_one_without_any_stays(tmp_path):
    builder, made = VocBuilder(tmp_path), []
    for number, objects in enumerate([(box(9, 9, 9, 9), box(99, 99, 120, 120)), ()]):
        image_path = builder.add(f"{number}", *objects)
        annotation = voc.read_annotation(voc.annotation_path(tmp_path / "VOC2007", f"{number}"))
        made.append(examples.make_records(Source("a.xml", annotation, image_path), {"cat": 1}))
    assert made[0].records == [] and len(made[0].remarks) == 2
    assert len(made[1].records) == 1 and made[1].remarks == []


def test_the_record_keeps_the_name_of_the_file(tmp_path):
    _, record = make(tmp_path, name="000001.PNG", image=None)
    assert record["image_id"] == b"000001"


def test_the_size_of_a_picture_turned_upright(tmp_path):
    exif = picture().getexif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture().save(path, exif=exif)
    made, record = make(tmp_path, box(20, 30, 40, 60), size=(40, 60), image=path.read_bytes())
    assert (record["height"], record["width"]) == (60, 40)
    assert record["boxes_yxyx"].tolist() == [[0.5, 0.5, 1, 1]]
    assert made.picture_note == "turned upright"
    assert made.remarks == []


def converted(voc_folder, views, *objects, **details):
    """The records of a picture of 120x80 pixels."""
    builder = VocBuilder(voc_folder)
    image_path = builder.add("000001", *objects, size=(120, 80), image=picture((120, 80)), **details)
    annotation = voc.read_annotation(voc.annotation_path(voc_folder / "VOC2007", "000001"))
    made = examples.make_records(Source("000001.xml", annotation, image_path), {"cat": 1, "dog": 2}, views)
    (voc_folder / "shard").write_bytes(b"".join(frame(record.serialized) for record in made.records))
    return made, list(read_examples([str(voc_folder / "shard")]))


def jpeg_size(record):
    return Image.open(io.BytesIO(record["image_encoded"])).size


def test_a_large_picture_is_reduced_and_its_boxes_stay(tmp_path):
    made, (record,) = converted(tmp_path, ViewConfig(max_side=60), box(10, 20, 30, 60))
    assert jpeg_size(record) == (60, 40) and made.picture_note == "reduced to 60 pixels"
    assert (record["height"], record["width"]) == (80, 120)  # of the picture as it came
    np.testing.assert_allclose(record["boxes_yxyx"], [[20 / 80, 10 / 120, 60 / 80, 30 / 120]])
    original = Image.open(tmp_path / "VOC2007/JPEGImages/000001.jpg").resize((60, 40), Image.Resampling.BILINEAR)
    found = np.asarray(Image.open(io.BytesIO(record["image_encoded"])).convert("L"), np.float64)
    assert np.abs(found - np.asarray(original.convert("L"))).mean() < 1.5  # a JPEG of quality 95


def test_a_picture_that_is_not_larger_keeps_its_bytes(tmp_path):
    made, (record,) = converted(tmp_path, ViewConfig(max_side=120), box(10, 20, 30, 60))
    assert record["image_encoded"] == (tmp_path / "VOC2007/JPEGImages/000001.jpg").read_bytes()
    assert made.picture_note == ""


def test_a_large_picture_of_another_kind_is_reduced_too(tmp_path):
    made, (record,) = converted(tmp_path, ViewConfig(max_side=60), name="000001.png")
    assert jpeg_size(record) == (60, 40)
    assert made.picture_note == "re-encoded PNG RGB, reduced to 60 pixels"


def test_tiles_have_the_objects_that_they_show(tmp_path):
    """Two tiles of 80 pixels, from 0 and from 40; the second object lies a quarter in the first one."""
    views = ViewConfig(tile_size=80, tile_overlap=0.0)
    made, (left, right) = converted(
        tmp_path, views, box(10, 20, 30, 60), box(70, 0, 110, 40, name="dog"), box(3, 3, 3, 9)
    )
    assert [record["image_id"] for record in (left, right)] == [b"000001_0_0", b"000001_0_40"]
    assert [jpeg_size(record) for record in (left, right)] == [(80, 80)] * 2
    assert (left["height"], left["width"]) == (80, 80)
    np.testing.assert_allclose(left["boxes_yxyx"] * 80, [[20, 10, 60, 30], [0, 70, 40, 80]], rtol=1e-6)
    assert left["difficult"].tolist() == [False, True] and left["labels"].tolist() == [1, 2]
    np.testing.assert_allclose(right["boxes_yxyx"] * 80, [[0, 30, 40, 70]], rtol=1e-6)
    assert right["difficult"].tolist() == [False]
    assert len(made.remarks) == 1  # on the box without area
    whole = np.asarray(Image.open(tmp_path / "VOC2007/JPEGImages/000001.jpg"), np.float64)
    found = np.asarray(Image.open(io.BytesIO(right["image_encoded"])), np.float64)
    assert np.abs(found - whole[:, 40:]).mean() < 1.5


def test_tiles_are_reduced_as_whole_pictures_are(tmp_path):
    _, records = converted(tmp_path, ViewConfig(max_side=32, tile_size=64, tile_overlap=0.5), box(10, 20, 30, 60))
    assert [jpeg_size(record) for record in records] == [(32, 32)] * len(records) and len(records) == 6
    assert {(int(record["height"]), int(record["width"])) for record in records} == {(64, 64)}

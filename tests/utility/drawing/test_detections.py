"""Drawn detections: positions of boxes and labels, and unusual images and boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from utility.drawing import detections
from utility.run.command import ROOT

NAMES = ("cat", "dog", "a class with a rather long name")


def draw(size, *rows):
    """Draw rows of (box, score, class_id) on a grey picture of (width, height); the result as an array."""
    marks = [detections.detection_mark(np.array(box), score, class_id, NAMES) for box, score, class_id in rows]
    return np.array(detections.draw_marks(Image.new("RGB", size, (128, 128, 128)), marks))


def extent(pixels, colour):
    """ymin, xmin, ymax, xmax of a colour, 1-based and inclusive."""
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    return rows.min() + 1, columns.min() + 1, rows.max() + 1, columns.max() + 1


def luminance(colour):
    """WCAG 2's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour) / 255]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def test_a_box_covers_its_pixels_exactly():
    pixels = draw((300, 200), ((61, 41, 150, 260), 0.9, 1))
    _, xmin, ymax, xmax = extent(pixels, detections.class_colour(1))
    assert (xmin, ymax, xmax) == (41, 150, 260)
    assert (pixels[60, 40:260] == detections.class_colour(1)).all()


def test_a_box_of_edges_covers_the_pixels_between_them():
    """As in COCO: 40 to 260 are the pixels 41 to 260, counted from 1."""
    mark = detections.detection_mark(np.array((60, 40, 150, 260)), 0.9, 1, NAMES)
    edges = np.array(detections.draw_marks(Image.new("RGB", (300, 200), (128, 128, 128)), [mark], pixel_extent=0.0))
    np.testing.assert_array_equal(edges, draw((300, 200), ((61, 41, 150, 260), 0.9, 1)))


def test_the_label_is_above_its_box():
    pixels = draw((300, 200), ((61, 41, 150, 260), 0.9, 1))
    assert extent(pixels, detections.class_colour(1))[0] < 61
    assert (pixels[100:130, 60:240] == 128).all()


@pytest.mark.parametrize(
    "box", [(1, 1, 40, 40), (1, 260, 40, 300), (160, 1, 200, 40), (160, 270, 200, 300), (1, 1, 200, 300)]
)
def test_labels_stay_inside(box):
    label = detections._label("cat 0.90", (box[1] - 1, box[0] - 1, box[3] - 1, box[2] - 1), (300, 200), [])
    xmin, ymin, xmax, ymax = label.corners
    assert 0 <= xmin < xmax < 300
    assert 0 <= ymin < ymax < 200
    assert xmax - xmin >= label.font.getlength("cat 0.90")


def test_boxes_are_clipped():
    pixels = draw((300, 200), ((-50, -1000, 1e6, 150), 0.9, 1))
    assert extent(pixels, detections.class_colour(1)) == (1, 1, 200, 150)


@pytest.mark.parametrize(
    "box",
    [
        (40, 40, 20, 60),
        (40, 60, 60, 40),
        (-20, 10, -1, 50),
        (10, 301, 20, 400),
        (np.nan, 1, 20, 20),
        (1, 1, np.inf, 9),
    ],
)
def test_boxes_outside_the_image_are_not_drawn(box):
    assert (draw((300, 200), (box, 0.9, 1)) == 128).all()


def test_nothing_to_draw():
    assert (draw((30, 20)) == 128).all()


def test_the_first_mark_is_on_top():
    box = (61, 41, 150, 260)
    for first, second in ((1, 2), (2, 1)):
        pixels = draw((300, 200), (box, 0.8, first), (box, 0.5, second))
        assert (pixels[149, 41:259] == detections.class_colour(first)).all()


def test_labels_of_equal_boxes_do_not_overlap():
    box = (10, 50, 250, 150)
    occupied: list = []
    for _ in range(4):
        label = detections._label("cat 0.90", box, (300, 200), occupied)
        for other in occupied:
            apart_x = label.corners[2] < other[0] or other[2] < label.corners[0]
            assert apart_x or label.corners[3] < other[1] or other[3] < label.corners[1]
        occupied.append(label.corners)


def font_of(text, size):
    return detections._label(text, (0, 0, 9, 9), size, []).font


def test_line_width_and_font_size_scale_with_the_image():
    def width_of(line):
        return int((line == detections.class_colour(1)).all(axis=-1).sum())

    widths = [
        width_of(draw((size, size), ((1, size // 4, size, size), 0.9, 1))[-size // 3, : size // 2])
        for size in (300, 1200)
    ]
    assert widths == [2, 8]
    letters = [font_of("cat", (size, size)).size for size in (300, 1200)]
    assert letters == [11, 43]


def test_the_font_of_a_long_name_is_smaller():
    text = f"{NAMES[2]} 0.90"
    assert font_of(text, (120, 300)).getlength(text) <= 120


def test_colours_are_distinct_and_texts_readable():
    colours = np.array([detections.class_colour(class_id) for class_id in range(1, 81)])
    assert len({tuple(colour) for colour in colours}) == 80
    distance = np.linalg.norm(colours[:20, None] - colours[None, :20], axis=-1)
    assert distance[~np.eye(20, dtype=bool)].min() > 45
    for colour in colours:
        light, dark = sorted([luminance(colour), luminance(detections._text_colour(tuple(colour)))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_every_kind_of_picture():
    with Image.open(sorted((ROOT / "demo").glob("*.jpg"))[0]) as photograph:
        for mode in ("RGB", "L", "CMYK", "P", "RGBA", "1"):
            picture = photograph.convert(mode)
            before = picture.tobytes()
            drawn = detections.draw_marks(picture, [detections.Mark(np.ones(4), (0, 0, 0), "cat")])
            assert (drawn.mode, drawn.size) == ("RGB", picture.size)
            assert picture.tobytes() == before


def test_the_array_is_not_modified():
    array = np.zeros([40, 60, 3], np.uint8)
    drawn = detections.draw_marks(array, [detections.Mark(np.array([1, 1, 30, 30]), (255, 0, 0))])
    assert drawn.size == (60, 40)
    assert not array.any()
    assert np.array(drawn).any()


def test_a_class_without_a_name_is_still_drawn():
    assert detections.class_name(NAMES, 4) == "class 4"
    assert detections.class_name(NAMES, 0) == "class 0"
    assert (draw((300, 200), ((61, 41, 150, 260), 0.9, 4)) != 128).any()


NUMBERS = st.floats(-300, 300) | st.sampled_from([0.0, 1.0, 1e30, -1e30, np.nan, np.inf])
ROWS = st.tuples(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.floats(0, 1), st.integers(0, 5))


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 200), st.integers(1, 200)), st.lists(ROWS, max_size=6))
def test_anything_can_be_drawn(size, rows):
    assert draw(size, *rows).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", ["a\nb", "x" * 100_000, "nul\0", "\x1b[2J", "$\\x$", "\u72ac", "\udcff"])
def test_any_name_is_drawn_on_one_line_inside_the_picture(name):
    grey = Image.new("RGB", (300, 200), (128, 128, 128))
    drawn = detections.draw_marks(grey, [detections.detection_mark(np.array([60, 40, 150, 260]), 0.9, 1, (name,))])
    _, xmin, _, xmax = extent(np.array(drawn), detections.class_colour(1))
    assert 1 <= xmin < xmax <= 300


def test_cut_to_length():
    assert detections.cut_to_length("a\nb\tc", 9) == "a b c"
    assert detections.cut_to_length("abcdef", 6) == "abcdef"
    assert detections.cut_to_length("abcdefg", 6) == "abcde\u2026"

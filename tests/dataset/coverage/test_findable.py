"""What is in the way of finding an object, on boxes made to measure."""

import numpy as np
import pytest

from net import coverage
from net.coverage import nearest_finder, objects_of
from net.default_boxes import default_boxes
from tests.builders.configs import voc_config
from tests.dataset.coverage.builders import example, squares

FOUND, TINY = [0.4, 0.4, 0.6, 0.6], [0.5, 0.5, 0.515, 0.515]


def look_for(*examples, **values):
    config = voc_config(**values)
    with nearest_finder() as find:
        return coverage.look_for(objects_of(examples, False), config, find)


def test_an_object_that_is_a_default_box_is_found_and_a_tiny_one_is_lost():
    center, size = np.split(default_boxes(voc_config()).cyxhw[4000], 2)
    found = look_for(example([np.concatenate([center - size / 2, center + size / 2]), TINY]))
    assert found.without_box.tolist() == found.too_small.tolist() == [False, True]
    assert found.shares() == (0.5, 0.5, 0.0, 0.5)


@pytest.mark.parametrize(("height", "width", "small"), [(0.25, 0.5, True), (0.5, 0.25, True), (0.5, 0.5, False)])
def test_a_side_that_is_min_size_is_too_small(height, width, small):
    """As in `detect`, which keeps what is above it."""
    found = look_for(example([[0, 0, height, width]]), detection__min_size=0.25)
    assert found.too_small.tolist() == [small]


def test_match_threshold_decides():
    boxes = example([[0.4, 0.4, 0.65, 0.6]])
    assert look_for(boxes, targets__match_threshold=0.99).without_box.all()
    assert not look_for(boxes, targets__match_threshold=0.5).without_box.any()


def test_objects_compete_within_an_image_alone():
    twin = [0.401, 0.4, 0.601, 0.6]
    other = [0.0, 0.0, 0.3, 0.3]
    found = look_for(example([FOUND, twin, other]), example([FOUND]))
    assert found.compete.tolist() == [True, True, False, False]


def test_the_table_has_each_class_and_all():
    config, examples = voc_config(), [example([FOUND, TINY, FOUND], [2, 7, 7])]
    objects = objects_of(examples, False)
    with nearest_finder() as find:
        lines = coverage.lines(objects, coverage.look_for(objects, config, find), config, ("cat", "dog"))
    assert lines[0].split() == ["class", "objects", "no", "box", "by", "0.5", "below", "0.03", "either", "compete"]
    cells = [line.replace(" %", "").split() for line in lines[1:]]
    assert cells[0] == ["2", "dog", "1", "0.0", "0.0", "0.0", "100.0"]
    assert cells[1] == ["7", "class", "7", "2", "50.0", "50.0", "50.0", "50.0"]
    assert cells[2] == ["all", "3", "33.3", "33.3", "33.3", "66.7"]
    assert len({len(line) for line in lines}) == 1


def test_training_says_so_where_a_tenth_is_lost(capsys):
    large = squares(0.3, count=18, images=9)
    coverage.log_if_many_are_lost([*large, example([TINY])], voc_config(), "look here")
    assert capsys.readouterr().out == ""
    coverage.log_if_many_are_lost([*large, example([TINY] * 2)], voc_config(), "look here")
    printed = capsys.readouterr().out
    assert printed.startswith("10 % of 20 objects in 10 images are hard to find: no default box overlaps 10 % by 0.5")
    assert printed.endswith("10 % are below --min_size=0.03; what helps: look here\n")
    coverage.log_if_many_are_lost([example([])], voc_config(), "look here")
    assert capsys.readouterr().out == ""

"""The advice: flags that, pasted, do what the line says."""

import re

import pytest
from absl import flags
from absl.testing import flagsaver

from net import advice, coverage
from net.coverage import nearest_finder, objects_of
from tests.builders.configs import voc_config
from tests.dataset.coverage.builders import example, square_objects
from utility import flags_train as train

NAMES = ("cat", "dog")


def report(objects, **values):
    return advice.report(objects, voc_config(class_names=NAMES, **values), NAMES)


@pytest.fixture
def pasted():
    """Return a function from flags to the config that train_ssd.py makes of them."""
    if "preset" not in flags.FLAGS:
        train.define()

    def config(line):
        with flagsaver.flagsaver():
            flags.FLAGS(["train_ssd.py", "--batch_size=1", *line.split()])
            return train.config_for(NAMES)

    yield config
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("given", ["", "--min_size=0.2 --anchor_scales=.2,.3,.4,.5,.6,.7,.8 --match_threshold=.6"])
def test_flags_of_each_line_find_what_it_says_and_more_than_the_lines_before(pasted, given):
    objects = square_objects(0.025, count=100)
    printed = "\n".join(advice.report(objects, pasted(given), NAMES))
    rows = re.findall(r"^ *([\d.]+) % +([\d.]+) % +[\d.]+ % +x ([\d.]+)  (.*)$", printed, re.MULTILINE)
    lost, compete, pixels, added = (list(column) for column in zip(*rows, strict=True))
    assert (lost[0], added[0]) == ("100.0", "none: as it is") and len(rows) > 2
    with nearest_finder() as find:
        found = [coverage.look_for(objects, pasted(f"{given} {more}"), find).shares() for more in added[1:]]
    assert [f"{100 * shares.lost:.1f}" for shares in found] == lost[1:]
    assert [f"{100 * shares.compete:.1f}" for shares in found] == compete[1:]
    assert (lost, pixels) == (sorted(lost, key=float, reverse=True), sorted(pixels, key=float))
    assert any("--anchor_scales=" in more and "--min_size=0.01" in more for more in added)


def test_where_all_is_found_nothing_is_advised():
    lines = report(square_objects(0.3))
    assert lines[-1] == "no preset, input size or scales that were tried find 2 % more of them"
    assert (
        "--preset=ssd300_voc --backbone=mobilenet_v1, input 300x300"
        in report(square_objects(0.3), network__backbone="mobilenet_v1")[0]
    )


def test_what_no_network_finds_is_said():
    lines = report(objects_of([example([[0.1, 0.1, 0.9, 0.11]], [1])], False))
    assert "--tile_size" in lines[-1]


def test_a_set_without_objects():
    assert report(objects_of([example([])], False)) == [
        "no object to look for with --preset=ssd300_voc --backbone=vgg16, input 300x300"
    ]

"""A part of the training images becomes the validation split, with some of each class."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.sources import partition
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split

NAMES = ("a", "b", "c", "d")
CLASSES = st.lists(st.frozensets(st.sampled_from(NAMES)), min_size=2, max_size=40)


def source(number, names, difficult=False):
    objects = tuple(LabelledObject(name, (1, 1, 9, 9), difficult, False) for name in sorted(names))
    return Source(
        f"{number}.xml", Annotation(f"{number}", Path(f"{number}.xml"), 40, 60, objects), Path(f"{number}.jpg")
    )


def data_set(sources):
    train = Split("train", {"image_set": "all"}, tuple(sources), ("left out",))
    return DataSet(NAMES, {}, {TRAIN: train}, {TRAIN: "--train", VALIDATION: "--validation"})


def sides(sources, fraction=0.2):
    splits = partition.divided(data_set(sources), fraction).splits
    return [[each.annotation.image_id for each in splits[prefix].sources] for prefix in (TRAIN, VALIDATION)]


@given(CLASSES, st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.9]), st.randoms())
def test_every_image_is_on_one_side_whatever_the_order_of_the_files(classes, fraction, random):
    sources = [source(number, names) for number, names in enumerate(classes)]
    train, validation = sides(sources, fraction)
    assert sorted([*train, *validation]) == sorted(each.annotation.image_id for each in sources)
    shuffled = random.sample(sources, len(sources))
    assert [sorted(side) for side in sides(shuffled, fraction)] == [sorted(train), sorted(validation)]
    order = [each.annotation.image_id for each in sources]
    assert train == [each for each in order if each in train]


@given(st.lists(st.sampled_from((*NAMES, "")), min_size=2, max_size=60), st.sampled_from([0.01, 0.2, 0.5, 0.9]))
def test_with_a_class_an_image_every_class_is_divided_exactly(names, fraction):
    _, validation = sides([source(number, {name} - {""}) for number, name in enumerate(names)], fraction)
    for name in set(names):
        count = names.count(name)
        wanted = min(max(round(fraction * count), 1), count - 1) if count > 1 else 0
        assert sum(names[int(image_id)] == name for image_id in validation) == wanted


@given(CLASSES)
def test_a_class_is_on_one_side_only_if_another_one_keeps_it_there(classes):
    """No image could be moved so that one more class is on both sides and none less."""
    train, validation = ([classes[int(each)] for each in side] for side in sides(map(source, range(99), classes)))
    for name in NAMES:
        for side, other in ((train, validation), (validation, train)):
            if sum(name in each for each in side) > 1 and not any(name in each for each in other):
                movable = [each for each in side if name in each]
                assert all(any(sum(c in one for one in side) == 1 for c in each) for each in movable)


def test_a_class_of_two_images_is_on_both_sides_and_the_share_is_kept():
    rng = np.random.default_rng(0)
    classes = [set(np.array(NAMES[:3])[rng.random(3) < (0.9, 0.3, 0.1)].tolist()) for _ in range(500)]
    classes[7] |= {"d"}
    classes[400] |= {"d"}
    train, validation = sides([source(number, names) for number, names in enumerate(classes)])
    assert {"7", "400"} & {*train} and {"7", "400"} & {*validation}
    assert 97 <= len(validation) <= 103
    for name in NAMES[:3]:
        share = sum(name in classes[int(each)] for each in validation) / sum(name in each for each in classes)
        assert 0.18 < share < 0.22


def test_what_the_splits_say():
    divided = partition.divided(data_set([source(n, {"a"}) for n in range(10)]), 0.3)
    train, validation = divided.splits[TRAIN], divided.splits[VALIDATION]
    assert (len(train.sources), len(validation.sources)) == (7, 3)
    assert (train.skipped, validation.skipped) == (("left out",), ())
    assert train.origin == validation.origin == {"image_set": "all", "validation_fraction": 0.3}
    assert "--validation_fraction=0.3" in train.name and "--validation_fraction=0.3" in validation.name


def test_difficult_objects_make_no_class():
    """They are not scored, so a validation side with these alone would have none of the class."""
    sources = [source(n, {"a"}, difficult=n > 1) for n in range(20)]
    train, validation = sides(sources, 0.1)
    assert {"0", "1"} & {*train} and {"0", "1"} & {*validation}


@pytest.mark.parametrize("sources", [[], [source(1, {"a"})]])
def test_too_few_images_cannot_be_divided(sources):
    with pytest.raises(ValueError, match=r"^--validation_fraction=0\.2: .* images of train cannot be divided"):
        sides(sources)


def test_only_a_training_split_is_divided():
    both = data_set([source(1, {"a"})])
    both = DataSet(NAMES, {}, {**both.splits, VALIDATION: both.splits[TRAIN]}, both.split_flags)
    with pytest.raises(ValueError, match=r"there are validation images already, train \(--validation\): leave one"):
        partition.divided(both, 0.2)

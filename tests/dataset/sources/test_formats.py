"""What the label formats have in common: a part for validation, and what looks wrong in a whole data set."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.records import record_files
from dataset.sources import formats, voc
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from tests.builders import three_formats
from tests.builders.convert import convert_coco, convert_voc, convert_yolo
from tests.builders.files import contents, examples_by_id
from tests.builders.voc import VocBuilder, box, picture
from tests.builders.yolo import YoloBuilder


def converted(root, count, **flags):
    """The files that each format gives of the same pictures."""
    of_voc, of_coco, of_yolo = three_formats.write(root, count)
    names = root / "names.txt"
    names.write_text("\n".join(three_formats.NAMES))
    outputs = {name: root / f"records_{name}" for name in ("voc", "coco", "yolo")}
    convert_voc(dataset_directory=of_voc.root, labels_file=str(names), output_directory=outputs["voc"], **flags)
    convert_coco(annotations=of_coco.path, images=of_coco.folder, output_directory=outputs["coco"], **flags)
    convert_yolo(dataset_directory=of_yolo.root, output_directory=outputs["yolo"], **flags)
    return outputs


def test_the_same_pictures_are_the_same_records_by_each_format(tmp_path):
    """Byte for byte: shards and labels.txt; only dataset.json tells the formats apart."""
    of_voc, of_coco, of_yolo = (contents(output) for output in converted(tmp_path, 40, train_shards=3).values())
    for name in {*of_voc} - {record_files.INFO_NAME}:
        assert of_voc[name] == of_coco[name] == of_yolo[name], name
    assert {*of_voc} == {*of_coco} == {*of_yolo}
    assert sum(len(each["labels"]) for each in examples_by_id(tmp_path / "records_yolo", "train").values()) > 40


def test_each_format_divides_its_training_images(tmp_path):
    for output in converted(tmp_path, 20, validation_fraction=0.25).values():
        train, val = ({*examples_by_id(output, split)} for split in ("train", "val"))
        assert (len(train & val), len(train | val)) == (0, 20)
        assert 3 <= len(val) <= 7
        info = record_files.read_dataset_info(output)
        assert info["splits"]["val"]["validation_fraction"] == 0.25
        assert all(info["splits"]["val"]["objects"].values())


def test_a_part_for_validation_where_there_is_a_validation_set(tmp_path):
    builder = YoloBuilder(tmp_path / "yolo").describe("names: [cat]\ntrain: images/train\nval: images/val\n")
    builder.add("a.jpg", "0 .5 .5 .2 .2")
    builder.add("b.jpg", "0 .5 .5 .2 .2", folder="images/val")
    flags = {"dataset_directory": builder.root, "output_directory": tmp_path / "records", "validation_fraction": 0.2}
    message = r"^--validation_fraction=0\.2: there are validation images already, images/val .* leave one"
    with pytest.raises(ValueError, match=message):
        convert_yolo(**flags)


def test_what_looks_wrong_in_the_splits_is_told(tmp_path, capsys):
    """The same picture on both sides is an error with --strict; a class without a validation object never is."""
    builder = VocBuilder(tmp_path / "voc")
    builder.add("000001", box(1, 1, 9, 9), box(1, 1, 9, 9, name="dog"), image=picture(seed=7))
    builder.add("000002", box(1, 1, 9, 9), split="VOC2007TEST", image_set="test", image=picture(seed=7))
    flags = {"dataset_directory": builder.root, "labels_file": "auto", "output_directory": tmp_path / "records"}
    both, unscored = convert_voc(**flags)["remarks"]
    assert both.startswith("1 of 1 validation pictures are training pictures too") and "000002.jpg and" in both
    assert unscored.startswith("1 of 2 classes have no validation object") and unscored.endswith(": dog")
    assert capsys.readouterr().out.count("WARNING: ") == 2
    with pytest.raises(ValueError, match=r"^--strict: 1 of 1 validation pictures"):
        convert_voc(**flags, strict=True)
    builder.add("000002", box(1, 1, 9, 9), split="VOC2007TEST", image_set="test", image=picture(seed=8))
    (builder.root / "VOC2007TEST" / "ImageSets" / "Main" / "test.txt").write_text("000002")
    assert convert_voc(**flags, strict=True)["remarks"] == [unscored]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("voc_fractions", r"a\.xml: the box xmin 0\.1 ymin 0\.2 .* looks like fractions of the image"),
        ("coco_leads_out", r"image 1: 'file_name' is '.*etc/passwd', which leads out of the folder"),
        ("coco_corners", r"^--strict: .*x.json: the boxes look like x1, y1, x2, y2"),
    ],
)
def test_cases_that_went_wrong_are_one_line(cases, tmp_path, name, message):
    flags = {"output_directory": tmp_path / "records", "strict": True}
    with pytest.raises(ValueError, match=message):
        if name.startswith("voc"):
            convert_voc(dataset_directory=cases / name, labels_file="auto", **flags)
        else:
            convert_coco(annotations=cases / name / "x.json", images=cases / name / "im", **flags)
    assert contents(tmp_path / "records") == {}


def test_the_case_of_names_alike_is_told(cases, tmp_path, capsys):
    """It may be meant so, and so it is no error with --strict."""
    flags = {"labels_file": "auto", "output_directory": tmp_path / "records", "strict": True}
    convert_voc(dataset_directory=cases / "voc_names_by_case", **flags)
    assert re.search(
        r"WARNING: class names that differ only by case, .*: Cat \(1, .*\), cat \(1, ", capsys.readouterr().out
    )


def test_the_case_of_a_backslash_is_read(cases, tmp_path):
    case = cases / "coco_backslash"
    info = convert_coco(annotations=case / "x.json", images=case / "im", output_directory=tmp_path, strict=True)
    assert info["splits"]["train"]["images"] == 1


CLASS_NAMES = ("a", "b", "c", "d")
CLASSES_OF_IMAGES = st.lists(st.frozensets(st.sampled_from(CLASS_NAMES)), min_size=2, max_size=40)


def labelled_source(number, names, difficult=False):
    objects = tuple(LabelledObject(name, (1, 1, 9, 9), difficult, False) for name in sorted(names))
    return Source(
        f"{number}.xml", Annotation(f"{number}", Path(f"{number}.xml"), 40, 60, objects), Path(f"{number}.jpg")
    )


def data_set(sources):
    train = Split("train", {"image_set": "all"}, tuple(sources), ("left out",))
    return DataSet(CLASS_NAMES, {}, {TRAIN: train}, {TRAIN: "--train", VALIDATION: "--validation"}, 1.0)


def sides_of(sources, fraction=0.2):
    splits = formats.divided(data_set(sources), fraction).splits
    return [[each.annotation.image_id for each in splits[prefix].sources] for prefix in (TRAIN, VALIDATION)]


@given(CLASSES_OF_IMAGES, st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.9]), st.randoms())
def test_every_image_is_on_one_side_whatever_the_order_of_the_files(classes, fraction, random):
    sources = [labelled_source(number, names) for number, names in enumerate(classes)]
    train, validation = sides_of(sources, fraction)
    assert sorted([*train, *validation]) == sorted(each.annotation.image_id for each in sources)
    shuffled = random.sample(sources, len(sources))
    assert [sorted(side) for side in sides_of(shuffled, fraction)] == [sorted(train), sorted(validation)]
    order = [each.annotation.image_id for each in sources]
    assert train == [each for each in order if each in train]


@given(st.lists(st.sampled_from((*CLASS_NAMES, "")), min_size=2, max_size=60), st.sampled_from([0.01, 0.2, 0.5, 0.9]))
def test_with_a_class_an_image_every_class_is_divided_exactly(names, fraction):
    _, validation = sides_of([labelled_source(number, {name} - {""}) for number, name in enumerate(names)], fraction)
    for name in set(names):
        count = names.count(name)
        wanted = min(max(round(fraction * count), 1), count - 1) if count > 1 else 0
        assert sum(names[int(image_id)] == name for image_id in validation) == wanted


@given(CLASSES_OF_IMAGES)
def test_a_class_is_on_one_side_only_if_another_one_keeps_it_there(classes):
    """No image could be moved so that one more class is on both sides and none less."""
    train, validation = (
        [classes[int(each)] for each in side] for side in sides_of(map(labelled_source, range(99), classes))
    )
    for name in CLASS_NAMES:
        for side, other in ((train, validation), (validation, train)):
            if sum(name in each for each in side) > 1 and not any(name in each for each in other):
                movable = [each for each in side if name in each]
                assert all(any(sum(c in one for one in side) == 1 for c in each) for each in movable)


def test_a_class_of_two_images_is_on_both_sides_and_the_share_is_kept():
    rng = np.random.default_rng(0)
    classes = [set(np.array(CLASS_NAMES[:3])[rng.random(3) < (0.9, 0.3, 0.1)].tolist()) for _ in range(500)]
    classes[7] |= {"d"}
    classes[400] |= {"d"}
    train, validation = sides_of([labelled_source(number, names) for number, names in enumerate(classes)])
    assert {"7", "400"} & {*train} and {"7", "400"} & {*validation}
    assert 97 <= len(validation) <= 103
    for name in CLASS_NAMES[:3]:
        share = sum(name in classes[int(each)] for each in validation) / sum(name in each for each in classes)
        assert 0.18 < share < 0.22


def test_what_the_splits_say():
    divided = formats.divided(data_set([labelled_source(n, {"a"}) for n in range(10)]), 0.3)
    train, validation = divided.splits[TRAIN], divided.splits[VALIDATION]
    assert (len(train.sources), len(validation.sources)) == (7, 3)
    assert (train.skipped, validation.skipped) == (("left out",), ())
    assert train.origin == validation.origin == {"image_set": "all", "validation_fraction": 0.3}
    assert "--validation_fraction=0.3" in train.name and "--validation_fraction=0.3" in validation.name


def test_difficult_objects_make_no_class():
    """They are not scored, so a validation side with these alone would have none of the class."""
    sources = [labelled_source(n, {"a"}, difficult=n > 1) for n in range(20)]
    train, validation = sides_of(sources, 0.1)
    assert {"0", "1"} & {*train} and {"0", "1"} & {*validation}


@pytest.mark.parametrize("sources", [[], [labelled_source(1, {"a"})]])
def test_too_few_images_cannot_be_divided(sources):
    with pytest.raises(ValueError, match=r"^--validation_fraction=0\.2: .* images of train cannot be divided"):
        sides_of(sources)


def test_only_a_training_split_is_divided():
    both = data_set([labelled_source(1, {"a"})])
    both = DataSet(CLASS_NAMES, {}, {**both.splits, VALIDATION: both.splits[TRAIN]}, both.split_flags, 1.0)
    with pytest.raises(ValueError, match=r"there are validation images already, train \(--validation\): leave one"):
        formats.divided(both, 0.2)


def annotation(*boxes_yxyx, height=100, width=200):
    objects = tuple(LabelledObject("cat", box, False, False) for box in boxes_yxyx)
    return Annotation("a", Path("a.xml"), height, width, objects)


def sources(*annotations):
    return [Source(f"{number}.xml", each, Path("a.jpg")) for number, each in enumerate(annotations, start=1)]


def test_fractions_are_refused():
    inside = annotation((0.1, 0.2, 0.5, 0.6))
    whole = annotation((0, 0, 1, 1))
    message = r"^2\.xml: the box xmin 0\.2 ymin 0\.1 xmax 0\.6 ymax 0\.5 \(cat\) looks like fractions .* 2 of 3 images"
    with pytest.raises(ValueError, match=message):
        formats.refuse_fractions(sources(whole, inside, annotation(), annotation((5, 5, 9, 9))))


@pytest.mark.parametrize(
    "annotations",
    [
        [],
        [annotation()],
        [annotation((0, 0, 1, 1)), annotation((1, 1, 1, 1))],  # a box of one pixel
        [annotation((0.2, 0.2, 0.9, 0.9)), annotation((5, 5, 9, 9)), annotation((2, 2, 3, 3))],  # and one of less
        [annotation((0.2, 0.2, 0.9, 0.9), (5, 5, 9, 9))],
        [annotation((-0.1, 0.2, 0.9, 0.9))],
    ],
)
def test_pixels_are_not_taken_for_fractions(annotations):
    formats.refuse_fractions(sources(*annotations))


def test_boxes_far_beyond_their_image_are_told():
    inside = annotation((0, 0, 100, 200), (-4, -9, 104, 209))  # a little beyond is no wonder
    beyond = annotation((50, 50, 190, 90), (-90, 0, 50, 50))
    (remark,) = formats.boxes_far_beyond(sources(inside, beyond, beyond))
    assert remark.startswith("4 of 6 boxes reach far beyond their image, the first in 2.xml: xmin 50 ymin 50 xmax 90")
    assert "ymax 190 in 200x100 (cat); they will be clipped: look" in remark


def test_a_few_boxes_beyond_their_image_are_not_told():
    inside = annotation(*[(0, 0, 100, 200)] * 40)
    beyond = annotation((50, 50, 190, 90), (-90, 0, 50, 50))
    assert formats.boxes_far_beyond(sources(beyond)) == ()
    assert formats.boxes_far_beyond(sources(beyond, *[inside] * 5, beyond)) == ()
    unsized = annotation(*[(50, 50, 190, 90)] * 5, height=0, width=0)
    assert formats.boxes_far_beyond(sources(unsized)) == ()


def splits(tmp_path, **contents):
    """Splits of files with these contents, each called by the split and a number."""
    found = {}
    for prefix, files in contents.items():
        paths = [tmp_path / f"{prefix}{number}.jpg" for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        found[prefix] = Split("", {}, tuple(Source(path.name, annotation(), path) for path in paths), ())
    return found


def test_a_picture_in_training_and_validation_is_told(tmp_path):
    both = splits(tmp_path, train=[b"one", b"two", b"", b"three"], val=[b"abc", b"three", b"", b"two", b"two"])
    (remark,) = formats.pictures_in_both(both)
    assert remark.startswith("3 of 5 validation pictures are training pictures too, by their bytes, the first: ")
    assert f"{tmp_path / 'val1.jpg'} and {tmp_path / 'train3.jpg'}; the score would be too good" in remark
    (tmp_path / "val1.jpg").unlink()
    assert formats.pictures_in_both(both)[0].startswith("2 of 5")
    assert formats.pictures_in_both(splits(tmp_path, train=[b"one", b"two"], val=[b"six"])) == ()
    assert formats.pictures_in_both(splits(tmp_path, train=[b"one"])) == ()


def objects(*names, difficult=False):
    return replace(annotation(), objects=tuple(LabelledObject(name, (1, 1, 9, 9), difficult, False) for name in names))


def test_classes_without_objects_are_told():
    train = Split("", {}, tuple(sources(objects("ant", "bee", "cat"))), ())
    validation = Split("", {}, tuple(sources(objects("bee", "dog"), objects("cat", difficult=True))), ())
    data = DataSet(("ant", "bee", "cat", "dog", "eel"), {}, {TRAIN: train, VALIDATION: validation}, {}, 1.0)
    learnt, scored = formats.classes_without_objects(data)
    assert learnt.startswith("2 of 5 classes have no training object, so they cannot be learnt")
    assert learnt.endswith(": dog, eel")
    assert scored.startswith("2 of 5 classes have no validation object, so they have no score")
    assert scored.endswith(": ant, cat")
    assert formats.classes_without_objects(replace(data, splits={TRAIN: train})) == (learnt,)
    full = replace(data, class_names=("bee",))
    assert formats.classes_without_objects(full) == ()
    many = replace(data, class_names=tuple(f"c{number}" for number in range(50)))
    assert formats.classes_without_objects(many)[0].endswith("c19 and 30 more")


def test_genuine_data_sets_give_no_remark(coco_tiny, bccd, voc_sample):
    names = ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017")
    flags = ("annotations", "images", "validation_annotations", "validation_images")
    values = {flag: coco_tiny / name for flag, name in zip(flags, names, strict=True)}
    assert formats.read_data_set("coco", values, skip_bad_images=False).remarks == ()
    for root in (bccd, voc_sample):
        values = {**{flag.name: flag.default for flag in voc.FLAGS}, "dataset_directory": root, "labels_file": "auto"}
        data = formats.read_data_set("voc", values, skip_bad_images=False)
        assert (data.remarks, data.notes) == ((), ())


def test_names_that_look_alike_are_told_with_counts():
    found = sources(objects("Cat", "hot dog", "dog"), objects("Cat", "Cat", "cat", "café"), objects("hot dog", "cafe"))
    notes = formats.names_alike(("HotDog", "กิ", "กา"), found)
    assert [note.partition("objects: ")[2].partition(";")[0] for note in notes] == [
        "Cat (3, the first in 1.xml), cat (1, the first in 2.xml)",
        "HotDog (0), hot dog (2, the first in 1.xml)",
        "cafe (1, the first in 3.xml), café (1, the first in 2.xml)",
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (" Cat", "cat ", True),
        ("hot dog", "hot\u00a0dog", True),
        ("stra\u00dfe", "STRASSE", True),
        ("cafe\u0301", "caf\u00e9", True),  # composed or not
        ("A\u00f1o", "ano", True),
        ("\u304b", "\u304c", False),  # Japanese ka and ga
        ("\u0438", "\u0439", False),  # Russian i and short i
        ("1 1", "11", False),
        ("speed 2", "speed \u00b2", False),
    ],
)
def test_letters_that_are_others_are_not_alike(one, other, alike):
    assert bool(formats.names_alike((one, other), [])) == alike

"""YOLO's folders as a source of the converter."""

import numpy as np
import pytest
from PIL import Image

from tests.builders.convert import convert_yolo
from tests.builders.files import contents, examples_by_id
from tests.builders.yolo import YoloBuilder

CAT, DOG = "0 .5 .5 .2 .4", "1 .25 .5 .5 1"
NAMES = "names: [cat, dog]\n"


@pytest.fixture
def builder(tmp_path):
    return YoloBuilder(tmp_path / "yolo")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "records"


def convert(builder, output, **flags):
    return convert_yolo(dataset_directory=builder.root, output_directory=output, **flags)


def ids(output, split):
    return sorted(examples_by_id(output, split))


def add_each(builder, *folders):
    """A picture with a cat in each folder, called by the folder's name."""
    for folder in folders:
        builder.add(f"{folder.replace('/', '-').replace('.', 'here')}.jpg", CAT, folder=folder)


def test_a_record_holds_the_box_over_the_size(builder, output):
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", CAT, DOG, "1 0.25 0.25 0.1 0.1 ")
    info = convert(builder, output)
    assert info["pixel_extent"] == 0.0
    assert info["class_names"] == ["cat", "dog"]
    example = examples_by_id(output, "train")["a"]
    assert example["labels"].tolist() == [1, 2, 2]
    boxes = [[0.3, 0.4, 0.7, 0.6], [0, 0, 1, 0.5], [0.2, 0.2, 0.3, 0.3]]
    np.testing.assert_allclose(example["boxes_yxyx"], boxes, rtol=1e-6)


def test_a_polygon_is_the_box_around_it(builder, output):
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", "0 .2 .3 .6 .1 .4 .9", CAT)
    convert(builder, output)
    boxes = examples_by_id(output, "train")["a"]["boxes_yxyx"]
    np.testing.assert_allclose(boxes, [[0.1, 0.2, 0.9, 0.6], [0.3, 0.4, 0.7, 0.6]], rtol=1e-6)


def test_of_a_skeleton_the_box_is_read(builder, output):
    builder.describe(f"train: images/train\nkpt_shape: [1, 2]\n{NAMES}").add("a.jpg", f"{CAT} .1 .1")
    convert(builder, output)
    boxes = examples_by_id(output, "train")["a"]["boxes_yxyx"]
    np.testing.assert_allclose(boxes, [[0.3, 0.4, 0.7, 0.6]], rtol=1e-6)


def test_rounding_does_not_take_a_box_out_of_the_picture(builder, output):
    """With six decimals a box at the border may reach beyond it by a millionth."""
    builder.describe(f"train: images/train\n{NAMES}").add(
        "a.jpg", "0 .166666 .833334 .333333 .333333", "0 1.000001 .5 .1 .1"
    )
    train = convert(builder, output)["splits"]["train"]
    (example,) = examples_by_id(output, "train").values()
    assert example["boxes_yxyx"][0].tolist()[1::2] == [0, np.float32(0.3333325)]
    assert train["clipped"] == 1  # the second, by half of it


def test_no_objects_with_an_empty_file_or_none(builder, output):
    builder.describe(f"train: images/train\n{NAMES}")
    builder.add("a.jpg", CAT)
    builder.add("b.jpg")
    builder.add("c.jpg", None)
    assert convert(builder, output)["splits"]["train"]["images_without_objects"] == 2
    assert ids(output, "train") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "train", "val"),
    [
        ("path: .\ntrain: images/train\nval: images/val\ntest: images/test\n", ["images-train"], ["images-val"]),
        ("train: images/train\ntest: images/test\n", ["images-train"], ["images-test"]),
        ("train: images/train\nval:\n", ["images-train"], []),
        ("train: [images/train, images/test]\nval: images/val\n", ["images-test", "images-train"], ["images-val"]),
        ("path: images\ntrain: train\nvalidation: val\n", ["images-train"], ["images-val"]),
        ("path: /content/elsewhere\ntrain: images/train\n", ["images-train"], []),
        ("path: ..\ntrain: yolo/images/train\n", ["images-train"], []),
        ("train: ../images/train\nval: ..\\images\\val\n", ["images-train"], ["images-val"]),
        ("val: images/val\n", [], ["images-val"]),
        ("train: list.txt\n", ["images-test", "images-train"], []),
        ("train: lists/list.txt\n", ["images-test", "images-val"], []),
    ],
)
def test_pictures_by_data_yaml(builder, output, text, train, val):
    add_each(builder, "images/train", "images/val", "images/test")
    (builder.root / "list.txt").write_text("./images/test/images-test.jpg\r\nimages/train/images-train.jpg\n")
    (builder.root / "lists").mkdir()
    absolute = builder.root.absolute() / "images" / "test" / "images-test.jpg"
    (builder.root / "lists" / "list.txt").write_text(f"{absolute}\nimages/val/images-val.jpg\n")
    info = convert(builder.describe(text + NAMES), output)
    found = {split: ids(output, split) for split in info["splits"]}
    assert found == {split: names for split, names in (("train", train), ("val", val)) if names}


def test_test_pictures_stand_in_for_validation_and_that_is_said(builder, output, capsys):
    add_each(builder, "images/train", "images/test")
    convert(builder.describe(f"train: images/train\ntest: images/test\n{NAMES}"), output)
    assert "val: images/test, as there is no val, 1 images to 1 shards" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folders", "train", "val"),
    [
        (["images/train", "images/val", "images/test"], ["images-train"], ["images-val"]),
        (["train/images", "valid/images"], ["train-images"], ["valid-images"]),
        (["Train/images", "test/images"], ["Train-images"], ["test-images"]),
        (["images"], ["images"], []),
        (["images/one", "images/two"], ["images-one", "images-two"], []),
        (["."], ["here"], []),  # beside the labels, as labelImg writes them
        (["obj_train_data", "obj_valid_data"], ["obj_train_data"], ["obj_valid_data"]),
    ],
)
def test_pictures_without_data_yaml(builder, output, folders, train, val):
    add_each(builder, *folders)
    (builder.root / "classes.txt").write_text("cat\ndog\n")
    info = convert(builder, output)
    assert info["class_names"] == ["cat", "dog"]
    found = {split: ids(output, split) for split in info["splits"]}
    assert found == {split: names for split, names in (("train", train), ("val", val)) if names}
    assert all(each["labels"].tolist() == [1] for each in examples_by_id(output, "train").values())


def test_names(builder, output, tmp_path):
    builder.add("a.jpg", DOG)
    builder.describe("train: images/train\nnc: 2\nnames:\n  0: Katze\n  1: Hund\n", "set.yml")
    assert convert(builder, output)["class_names"] == ["Katze", "Hund"]
    assert convert(builder, output, labels_file="auto")["class_names"] == ["Katze", "Hund"]
    names = tmp_path / "names.txt"
    names.write_text("chat\nchien\n")
    assert convert(builder, output, labels_file=str(names))["class_names"] == ["chat", "chien"]


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "labels.txt", "labels/classes.txt", "images/classes.txt"])
def test_names_without_data_yaml(builder, output, name):
    builder.add("a.jpg", DOG, folder="images")
    (builder.root / name).write_text("cat\ndog\n\n")
    assert convert(builder, output)["class_names"] == ["cat", "dog"]


def test_pictures_of_one_name_in_several_folders(builder, output):
    builder.describe(f"train: images\n{NAMES}")
    for folder in ("one", "two"):
        builder.add("1.jpg", CAT, folder=f"images/{folder}")
    builder.add("2.jpg", CAT, folder="images/two")
    convert(builder, output)
    assert ids(output, "train") == ["2", "images_one_1", "images_two_1"]
    builder.add("1.png", CAT, folder="images/two")
    with pytest.raises(ValueError, match=r"1\.jpg and .*1\.png have the same image id"):
        convert(builder, output)


def test_labels_belong_to_the_upright_picture(builder, output):
    """As in Ultralytics: the picture of a telephone on its side is turned, and so are its labels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = builder.root / "images" / "a.jpg"
    path.parent.mkdir()
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    (builder.root / "labels").mkdir()
    (builder.root / "labels" / "a.txt").write_text("0 .5 .25 1 .5")
    convert(builder.describe(f"train: images\n{NAMES}"), output)
    example = examples_by_id(output, "train")["a"]
    assert (example["height"], example["width"], example["boxes_yxyx"].tolist()) == (60, 40, [[0, 0, 0.5, 1]])


@pytest.mark.parametrize("suffix", ["webp", "BMP", "tif", "TIFF", "WebP", "JPEG"])
def test_pictures_of_any_extension(builder, output, suffix):
    builder.describe(f"train: images/train\n{NAMES}").add(f"a.{suffix}", CAT)
    assert convert(builder, output)["splits"]["train"]["images"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .2", r"line 2 has 4 numbers, not class xc yc width height"),
        ("0 .5 .5 .2 .4 .97", "line 2 has 6 numbers, .*a sixth may be a score"),
        ("0 .5 .5 .2 .4 .5 .6 .7", "line 2 has 8 numbers"),
        ("0 .5 .5 .2 x", "line 2: 'x' is no number"),
        ("0 .5 .5 .2 nan", "line 2: 'nan' is no number"),
        ("cat .5 .5 .2 .4", "line 2: 'cat' is no number"),
        ("-1 .5 .5 .2 .4", "line 2: the class is -1"),
        ("0.5 .5 .5 .2 .4", r"line 2: the class is 0\.5"),
        ("0 30 20 12 16", "line 2: 30 is not from 0 to 1: divide pixels by the width and height"),
        ("0 .5 .5 -.2 .4", r"line 2: -\.2 is not from 0 to 1"),
        ("0 .1 .1 .2 .2 .3 3", "line 2: 3 is not from 0 to 1"),
    ],
)
def test_a_bad_line_is_named_or_its_picture_left_out(builder, output, line, message):
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", CAT)
    builder.add("b.jpg", DOG, line)
    with pytest.raises(ValueError, match=rf"labels/train/b\.txt, {message}.*--skip_bad_images"):
        convert(builder, output)
    assert contents(output) == {}
    (skipped,) = convert(builder, output, skip_bad_images=True)["splits"]["train"]["skipped"]
    assert "b.txt, line 2" in skipped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"train: images/nowhere\n{NAMES}",
            r"data\.yaml: train is 'images/nowhere', but there is no .*yolo/images/nowhere",
        ),
        (f"train: empty\n{NAMES}", r"data\.yaml: train: there is no picture \(\.bmp, .*\) in .*empty"),
        (f"train: {{a: b}}\n{NAMES}", r"data\.yaml: train is \{'a': 'b'\}, not the path of a folder"),
        ("train: images/train\n", r"no class names in .*: write them to .*classes\.txt, one a line"),
        ("train: images/train\nnc: 3\nnames: [cat, dog]", r"data\.yaml has nc: 3, but 2 names"),
        ("train: images/train\nnames: {0: cat, x: dog}", r"names: x is no class id: write a whole number from 0"),
        ("train: images/train\nnames: cat", r"names is cat, not a list of names"),
        ("train: images/train\nnames: [cat, cat]", "names: 'cat' is on names 1 and 2"),
        ("train: images/train\nnames: [background]", "names: name 1 is 'background'; background is always id 0"),
        ("train: list.txt\nnames: [cat]", r"nowhere\.jpg: the image cannot be read: No such file"),
        ("train: [images/train", r"data\.yaml is not YAML: line 1: "),
    ],
)
def test_a_bad_data_yaml_is_named(builder, output, text, message):
    add_each(builder, "images/train")
    (builder.root / "empty").mkdir()
    (builder.root / "list.txt").write_text("images/train/images-train.jpg\nnowhere.jpg\n")
    with pytest.raises((ValueError, OSError), match=message):
        convert(builder.describe(text), output)
    assert contents(output) == {}


def test_several_yaml_files_need_one_of_the_usual_name(builder, output):
    add_each(builder, "images/train")
    builder.describe("a: b", "a.yaml").describe(f"train: images/train\n{NAMES}", "b.yaml")
    with pytest.raises(ValueError, match=r"has a\.yaml, b\.yaml: call the one of the data set data\.yaml"):
        convert(builder, output)
    (builder.root / "b.yaml").rename(builder.root / "data.yaml")
    assert convert(builder, output)["splits"]["train"]["images"] == 1


def test_labels_that_are_nowhere_are_an_error_with_the_place(builder, output):
    builder.describe(f"train: images/train\n{NAMES}")
    for name in ("a.jpg", "b.jpg"):
        builder.add(name, None)
    message = r"none of the 2 pictures of images/train has a label file: for .*images/train/a\.jpg there should be "
    with pytest.raises(FileNotFoundError, match=message + r".*labels/train/a\.txt or .*images/train/a\.txt"):
        convert(builder, output)


def test_a_folder_that_is_not_there_or_empty(builder, output, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data\.yaml in .*, and no picture \(.*\) below"):
        convert(builder, output)
    with pytest.raises(FileNotFoundError, match=r"--dataset_directory: .*nowhere is no folder"):
        convert_yolo(dataset_directory=tmp_path / "nowhere", output_directory=output)


def darknet(builder, validation="valid", described=True):
    """The layout of Darknet and of CVAT's YOLO 1.1: lists of pictures, whose paths begin at another folder."""
    for number in range(4):
        builder.add(f"i{number}.jpg", CAT, folder="obj_train_data")
    lists = {"train": (0, 1), validation: (3,)}
    for name, numbers in lists.items():
        lines = "".join(f"data/obj_train_data/i{number}.jpg\n" for number in numbers)
        (builder.root / f"{name}.txt").write_text(lines)
    (builder.root / "obj.names").write_text("cat\n")
    if described:
        entries = ("classes = 1", "train = data/train.txt", f"valid = data/{validation}.txt", "names = data/obj.names")
        (builder.root / "obj.data").write_text("\n".join(entries))
    return builder


@pytest.mark.parametrize(
    ("validation", "described"), [("valid", True), ("mine", True), ("val", False), ("test", False)]
)
def test_the_lists_of_darknet_are_obeyed(builder, output, validation, described):
    info = convert(darknet(builder, validation, described), output)
    assert sorted(examples_by_id(output, "train")) == ["i0", "i1"] and [*examples_by_id(output, "val")] == ["i3"]
    (told,) = (remark for remark in info["remarks"] if "in no split" in remark)
    assert told.startswith("1 pictures in ") and told.endswith("obj_train_data/i2.jpg")


def test_folders_of_cvat_and_datumaro_without_lists(builder, output):
    add_each(builder, "obj_train_data", "obj_Validation_data")
    (builder.root / "obj.names").write_text("cat\n")
    splits = convert(builder, output)["splits"]
    assert {name: split["images"] for name, split in splits.items()} == {"train": 1, "val": 1}


def test_a_yaml_with_names_alone_is_taken_by_its_folders(builder, output):
    """As supervision writes it."""
    add_each(builder, "images/train", "images/val")
    info = convert(builder.describe("nc: 2\nnames: [cat, dog]"), output)
    assert {name: split["images"] for name, split in info["splits"].items()} == {"train": 1, "val": 1}


def test_class_ids_may_have_gaps(builder, output):
    builder.describe("train: images/train\nnames: {7: dog, 3: cat}").add("a.jpg", "7 .5 .5 .2 .2", "3 .5 .5 .4 .4")
    assert convert(builder, output)["class_names"] == ["cat", "dog"]
    assert examples_by_id(output, "train")["a"]["labels"].tolist() == [2, 1]


def test_names_in_one_line_are_separated_by_commas(builder, output):
    """As image-dataset-converter writes labels.txt."""
    builder.add("a.jpg", DOG, folder="images")
    (builder.root / "labels.txt").write_text("cat,dog\n")
    assert convert(builder, output)["class_names"] == ["cat", "dog"]


def test_pictures_without_a_label_file_are_counted(builder, output):
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", CAT)
    for name in ("b.jpg", "c.jpg"):
        builder.add(name, None)
    told = convert(builder, output)["remarks"]
    assert "2 pictures without a label file count as without objects, the first: images/train/b.jpg" in told


def test_a_decimal_comma_is_named(builder, output):
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", "0 0,5 0,5 0,2 0,2")
    with pytest.raises(ValueError, match=r"'0,5' is no number: .*with decimal points, and blanks between the numbers"):
        convert(builder, output)


def test_a_data_set_that_was_moved_keeps_the_paths_of_its_old_place(builder, output):
    """As sahi writes them."""
    builder.describe(f"train: /data/somebody/set/images/train\n{NAMES}").add("a.jpg", CAT)
    assert convert(builder, output)["splits"]["train"]["images"] == 1


@pytest.mark.parametrize("test", ["../test/images", "empty"])
def test_a_test_set_that_is_named_but_not_there_does_not_matter(builder, output, test):
    """As in Roboflow's exports; an empty validation folder is none."""
    (builder.root / "empty").mkdir()
    builder.describe(f"train: images/train\nval: empty\ntest: {test}\n{NAMES}").add("a.jpg", CAT)
    assert set(convert(builder, output)["splits"]) == {"train"}


def test_a_class_without_a_name_is_refused_whatever_may_be_left_out(builder, output):
    """It is of the whole set, as where a tool counts from 1: leaving out the picture that shows it would hide that."""
    builder.describe(f"train: images/train\n{NAMES}").add("a.jpg", "1 .5 .5 .2 .2")
    builder.add("b.jpg", "2 .5 .5 .2 .2")
    with pytest.raises(ValueError, match=r"the class is 2, but there are 2 names, for 0 to 1: .* count from 1"):
        convert(builder, output, skip_bad_images=True)


def test_pictures_that_are_named_by_a_path_with_dots_are_in_a_split(builder, output):
    """As pylabel writes it."""
    builder.add("a.jpg", CAT)
    (builder.root / "training").mkdir()
    builder.describe(f"path: training/..\ntrain: images/train\n{NAMES}")
    assert not any("in no split" in remark for remark in convert(builder, output).get("remarks", ()))

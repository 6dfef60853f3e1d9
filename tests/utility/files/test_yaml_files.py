"""YAML that describes a data set, as the tools write it: every scalar stays a text."""

import pytest

from utility.files.yaml_files import read_yaml

ULTRALYTICS = """\
# Train/val/test sets as 1) dir: path/to/imgs, 2) file: path/to/imgs.txt, or 3) list: [path/to/imgs1, path/to/imgs2, ..]
---
path: coco8 # dataset root dir
train: # train images (relative to 'path')
  - images/train
  - images/more
val: images/val
test: # test images (optional)

# Classes
names:
  0: person
  1: traffic light
  2: 'don''t walk'

# Download script/URL (optional)
download: |
  # a comment: of the script
  urls = ['https://example.org/a.zip']

  download(urls, dir=dir)
kpt_shape: [17, 3]
"""
ROBOFLOW = """\
train: ../train/images
val: ../valid/images

nc: 3
names: ['Platelets', "caf\\xE9", red cell]
roboflow:
  workspace: me
  license: CC BY 4.0
"""


def read(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def test_a_file_of_ultralytics(tmp_path):
    assert read(tmp_path, ULTRALYTICS) == {
        "path": "coco8",
        "train": ["images/train", "images/more"],
        "val": "images/val",
        "test": "",
        "names": {"0": "person", "1": "traffic light", "2": "don't walk"},
        "download": "# a comment: of the script\nurls = ['https://example.org/a.zip']\n\ndownload(urls, dir=dir)\n",
        "kpt_shape": ["17", "3"],
    }


def test_a_file_of_roboflow(tmp_path):
    found = read(tmp_path, ROBOFLOW.replace("\n", "\r\n"))
    assert (found["train"], found["nc"], found["names"]) == ("../train/images", "3", ["Platelets", "café", "red cell"])
    assert found["roboflow"] == {"workspace": "me", "license": "CC BY 4.0"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [a,b , 'c, d']", ["a", "b", "c, d"]),
        ("names: [a, # first\n  b,\n]\n", ["a", "b"]),
        ("names: [fire\n  hydrant, b]", ["fire hydrant", "b"]),
        ("names: {0: a, 1: 'b: c', 2: d:e}", {"0": "a", "1": "b: c", "2": "d:e"}),
        ("names:\n- a # one\n- 'b # two'\n- \"c\"\n", ["a", "b # two", "c"]),
        ("names:\n  - [a, b]\n  - {c: d}\n", [["a", "b"], {"c": "d"}]),
        ("names: []", []),
        ("names: ~", "~"),
        ("names:", ""),
        ("names: no", "no"),
        ("names: a very long name\n  that goes on", "a very long name that goes on"),
        ('"names": "\\u732b \\"x\\""', '猫 "x"'),
        ("\ufeffnames: a#b", "a#b"),
        ("{names: [a], nc: 1}", ["a"]),
        ("names:\n  - 0: a\n", [{"0": "a"}]),
        ("names: &all [yes, 010, 1e3]", ["yes", "010", "1e3"]),
        ("names: [b]\nnames: [a]", ["a"]),
    ],
)
def test_values(tmp_path, text, names):
    assert read(tmp_path, text)["names"] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold 'key: value' lines, but holds None"),
        ("- a\n- b", "must hold 'key: value' lines, but holds .*a"),
        ("cat", "must hold 'key: value' lines, but holds .*cat"),
        ("[a]: b", "is not YAML: line 1: found unhashable key"),
        ("  a: 1\nb: 2", "is not YAML: line 2: "),
        ("names: [a, b", "is not YAML: line 1: "),
        ("names: 'a", "is not YAML: line 1: "),
        ("a: 1\n---\na: 2", "is not YAML: line 2: "),
        ("\tnames: a", "is not YAML: line 1: "),
        ("a: &x [1]\nb: *x", "has aliases"),
        ("names: " + "[" * 21 + "]" * 21, "has more than 20 lists and maps in one another"),
        ("names: \x07", "is not YAML: "),
        (b"names: k\xe4fer", "is not UTF-8"),
        (b"#" * 200_001, "has more than 200 kB"),
    ],
)
def test_what_is_no_map_of_yaml_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250

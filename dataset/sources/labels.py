"""Class names and ids: labels.txt has one name a line, and the line number is the class id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataset.sources.names import fault_of_name
from utility.files.text_files import read_utf8, shortened, write_whole

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 classes of PASCAL VOC in alphabetical order: ids 1 to 20, as in HiKapok/SSD.TensorFlow."""


BACKGROUND = "background"
"""Class id 0 of every network; not listed in labels.txt."""


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the class names of a labels.txt; the name at index i has class id i + 1.

    Blank lines at the end and white space around names are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty or not UTF-8, or a name is blank, repeated, too long, or 'background', or
            has a control character.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"labels file {path} does not exist: give a file with one class name a line")
    text = read_utf8(path)
    names = tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()
    _check_names(names, f"labels file {path}")
    return names


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Write class names as a labels.txt from which `read_labels` returns the same names.

    Raises:
        ValueError: there is no name, or one is blank, repeated, too long, or 'background', or has control characters
            or outer white space.
    """
    _check_names(names, f"labels for {path}")
    for name in names:
        if name != name.strip():
            raise ValueError(f"labels for {path}: {name!r} has white space around it; strip it")
    write_whole(path, "".join(f"{name}\n" for name in names))


def _check_names(names: Sequence[str], where: str) -> None:
    if not names:
        raise ValueError(f"{where}: no class name in it; write one class name a line")
    line_of: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not name.strip():
            raise ValueError(f"{where}: line {line} is blank; ids are line numbers, so remove it")
        fault = fault_of_name(name)
        if fault:
            raise ValueError(f"{where}: line {line} is '{shortened(name)}', which {fault}; give one class name a line")
        if name.lower() == BACKGROUND:
            raise ValueError(f"{where}: line {line} is {name!r}; background is always id 0, remove the line")
        if name in line_of:
            raise ValueError(f"{where}: {name!r} is on lines {line_of[name]} and {line}; remove one of them")
        line_of[name] = line

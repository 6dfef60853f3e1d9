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
    check_names(names, f"labels file {path}")
    return names


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Write class names as a labels.txt from which `read_labels` returns the same names.

    Raises:
        ValueError: there is no name, or one is blank, repeated, too long, or 'background', or has control characters
            or outer white space.
    """
    check_names(names, f"labels for {path}")
    for name in names:
        if name != name.strip():
            raise ValueError(f"labels for {path}: {name!r} has white space around it; strip it")
    write_whole(path, "".join(f"{name}\n" for name in names))


def check_names(names: Sequence[str], where: str, unit: str = "line") -> None:
    """Raise a ValueError for a list of class names that cannot be one; `unit` is what each name is called.

    Raises:
        ValueError: there is no name, or one is blank, repeated, too long, or 'background', or has control characters.
    """
    if not names:
        raise ValueError(f"{where}: no class name in it; write one class name a line")
    number_of: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        place = f"{where}: {unit} {number}"
        if not name.strip():
            raise ValueError(f"{place} is blank; ids follow from their order, so remove it")
        fault = fault_of_name(name)
        if fault:
            raise ValueError(f"{place} is '{shortened(name)}', which {fault}; give one class name a {unit}")
        if name.lower() == BACKGROUND:
            raise ValueError(f"{place} is {name!r}; background is always id 0, remove the {unit}")
        if name in number_of:
            raise ValueError(f"{where}: {name!r} is on {unit}s {number_of[name]} and {number}; remove one of them")
        number_of[name] = number

"""Class names and ids: labels.txt has one name a line, and the line number is the class id."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened, write_whole

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 classes of PASCAL VOC in alphabetical order: ids 1 to 20, as in HiKapok/SSD.TensorFlow."""

BACKGROUND = "background"
"""Class id 0 of every network; not listed in labels.txt."""

_MOST_CHARACTERS = 200
# control characters such as NUL and line breaks, halves of pairs such as \ud800, separators of lines and paragraphs
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the class names of a labels.txt; the name at index i has class id i + 1.

    Blank lines at the end and white space around names are ignored. A single line with commas holds a name between each
    two of them, as some tools write it.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not UTF-8, or `check_names` refuses the names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"labels file {path} does not exist: give a file with one class name a line")
    text = read_utf8(path).rstrip()
    lines = text.split("\n")
    names = tuple(name.strip() for name in (lines if len(lines) > 1 else text.split(","))) if text else ()
    check_names(names, f"labels file {path}")
    return names


def write_labels(path: str | Path, names: Sequence[str]) -> None:
    """Write class names as a labels.txt from which `read_labels` returns the same names.

    Raises:
        UserError: `check_names` refuses the names, or one has white space around it.
    """
    check_names(names, f"labels for {path}")
    for name in names:
        if name != name.strip():
            raise UserError(f"labels for {path}: {name!r} has white space around it; strip it")
    write_whole(path, "".join(f"{name}\n" for name in names))


def check_names(names: Sequence[str], where: str, unit: str = "line") -> None:
    """Refuse a list of class names that cannot be one; `where` and `unit` say in errors what has them.

    Raises:
        UserError: there is no name, or one is blank, repeated, too long, or 'background', or has control characters.
    """
    if not names:
        raise UserError(f"{where}: no class name in it; write one class name a line")
    number_of: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        place = f"{where}: {unit} {number}"
        if not name.strip():
            raise UserError(f"{place} is blank; ids follow from their order, so remove it")
        if fault := fault_of_name(name):
            raise UserError(f"{place} is '{shortened(name)}', which {fault}; give one class name a {unit}")
        if name.lower() == BACKGROUND:
            raise UserError(f"{place} is {name!r}; background is always id 0, remove the {unit}")
        if name in number_of:
            raise UserError(f"{where}: {name!r} is on {unit}s {number_of[name]} and {number}; remove one of them")
        number_of[name] = number


def fault_of_name(name: str) -> str:
    """Return what is wrong with a class name, '' for nothing."""
    if len(name) > _MOST_CHARACTERS:
        return f"has {len(name)} characters, more than {_MOST_CHARACTERS}"
    return fault_of_characters(name)


def fault_of_characters(text: str) -> str:
    """Return which character cannot be in a class name or in the name of a file, '' for none."""
    refused = [c for c in text if unicodedata.category(c) in _REFUSED_CATEGORIES]
    return f"has the character {refused[0]!r}" if refused else ""

"""Class names and ids: labels.txt has one name a line, and the line number is the class id."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened, write_whole

# Class names, image ids and file names: what they must not hold, and which class names look alike.

_MOST_CHARACTERS = 200
_MOST_BYTES = 255  # of a file's name, on the usual file systems
_MOST_CHARACTERS_OF_PATH = 1000
# control characters such as NUL and line breaks, halves of pairs such as \ud800, separators of lines and paragraphs
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")  # but for those between digits


def fault_of_name(name: str) -> str:
    """Return what is wrong with a class name, '' for nothing."""
    if len(name) > _MOST_CHARACTERS:
        return f"has {len(name)} characters, more than {_MOST_CHARACTERS}"
    return _fault_of_characters(name)


def _fault_of_characters(text: str) -> str:
    refused = [c for c in text if unicodedata.category(c) in _REFUSED_CATEGORIES]
    return f"has the character {refused[0]!r}" if refused else ""


def _fault_of_part(part: str) -> str:
    """Return what is wrong with the name of a file or folder, '' for nothing."""
    too_long = len(part.encode(errors="replace")) > _MOST_BYTES
    return f"has a part of more than {_MOST_BYTES} bytes" if too_long else _fault_of_characters(part)


def fault_of_image_id(image_id: str) -> str:
    """Return what is wrong with an image id, '' for nothing: it names files, so it must not lead to other folders."""
    separators = [c for c in image_id if c in "/\\"]
    return _fault_of_part(image_id) or (f"has a {separators[0]!r}, and so names another folder" if separators else "")


def fault_of_relative_path(path: str) -> str:
    """Return what is wrong with a path below a folder, with slashes, '' for nothing."""
    if path.startswith("/") or path[1:3] == ":/":
        return "is absolute"
    if len(path) > _MOST_CHARACTERS_OF_PATH:
        return f"has {len(path)} characters, more than {_MOST_CHARACTERS_OF_PATH}"
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return "leads out of the folder"
        fault = _fault_of_part(part)
        if fault:
            return fault
    return ""


def look_alikes(counts: Mapping[str, int], first: Mapping[str, str]) -> tuple[str, ...]:
    """Return a remark for each group of class names, given with their numbers of objects, that look alike.

    `first` tells, by name, where the first of its objects is; it may lack names without objects.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        where = f", the first in {first[name]}" if name in first else ""
        groups[_without_details(name)].append(f"{name} ({counts[name]}{where})")
    return tuple(
        f"class names that differ only by case, spaces or accents, with numbers of objects: {', '.join(group)}; they "
        "are classes of their own: if they mean the same, give them one name in the annotations"
        for group in groups.values()
        if len(group) > 1
    )


def _without_details(name: str) -> str:
    """Return a name in small letters without spaces and accents.

    Only Latin letters lose their accents: elsewhere a mark makes another letter, as in Japanese and Russian. Spaces
    between digits stay: 1 1 is not 11.
    """
    letters = unicodedata.normalize("NFC", _SPACES.sub("", name.casefold()))
    return "".join(
        unicodedata.normalize("NFD", c)[0] if unicodedata.name(c, "").startswith("LATIN ") else c for c in letters
    )


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
        UserError: the file is empty or not UTF-8, or a name is blank, repeated, too long, or 'background', or
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
        UserError: there is no name, or one is blank, repeated, too long, or 'background', or has control characters
            or outer white space.
    """
    check_names(names, f"labels for {path}")
    for name in names:
        if name != name.strip():
            raise UserError(f"labels for {path}: {name!r} has white space around it; strip it")
    write_whole(path, "".join(f"{name}\n" for name in names))


def check_names(names: Sequence[str], where: str, unit: str = "line") -> None:
    """Raise a UserError for a list of class names that cannot be one; `unit` is what each name is called.

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
        fault = fault_of_name(name)
        if fault:
            raise UserError(f"{place} is '{shortened(name)}', which {fault}; give one class name a {unit}")
        if name.lower() == BACKGROUND:
            raise UserError(f"{place} is {name!r}; background is always id 0, remove the {unit}")
        if name in number_of:
            raise UserError(f"{where}: {name!r} is on {unit}s {number_of[name]} and {number}; remove one of them")
        number_of[name] = number

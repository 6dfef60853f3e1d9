"""Class names, image ids and file names: what they must not hold, and which class names look alike."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping

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

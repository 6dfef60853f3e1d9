"""Class names, image ids and file names: what they must not hold, and which class names look alike."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping

_MOST_CHARACTERS = 200
_MOST_BYTES = 255  # of a file's name, on the usual file systems
_MOST_CHARACTERS_OF_PATH = 1000
# control characters such as NUL and line breaks, halves of pairs such as \ud800, separators of lines and paragraphs
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def fault_of_name(name: str) -> str:
    """Return what is wrong with a class name, or with a part of a path, '' for nothing."""
    if len(name) > _MOST_CHARACTERS:
        return f"has {len(name)} characters, more than {_MOST_CHARACTERS}"
    refused = [c for c in name if unicodedata.category(c) in _REFUSED_CATEGORIES]
    return f"has the character {refused[0]!r}" if refused else ""


def fault_of_image_id(image_id: str) -> str:
    """Return what is wrong with an image id, '' for nothing: it names files, so it must not lead to other folders."""
    separators = [c for c in image_id if c in "/\\"]
    return fault_of_name(image_id) or (f"has a {separators[0]!r}, and so names another folder" if separators else "")


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
        fault = fault_of_name(part)
        if fault or len(part.encode()) > _MOST_BYTES:
            return fault or f"has a part of more than {_MOST_BYTES} bytes"
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
    """Return a name in small letters, without accents and white space."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in decomposed if not (unicodedata.combining(c) or c.isspace()))

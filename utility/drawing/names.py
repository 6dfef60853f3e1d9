"""Names of classes as pictures show them."""

from __future__ import annotations


def cut_to_length(name: str, longest: int) -> str:
    """Return a name without line breaks and control characters, cut to `longest` characters, the last a "…"."""
    line = "".join(letter if letter.isprintable() else " " for letter in name[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"

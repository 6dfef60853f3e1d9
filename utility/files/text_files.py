"""Text files, read as UTF-8 and written whole or not at all."""

from __future__ import annotations

import math
import os
from pathlib import Path


def read_utf8(path: Path) -> str:
    """Return a text file without its byte order mark; text in another encoding is a ValueError naming it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it in that encoding") from error


def write_whole(path: str | Path, text: str) -> None:
    """Write UTF-8 text so that the file appears under its name only when whole; makes missing folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    # newline="" keeps "\n" on every platform, so that the same input gives the same bytes.
    with unfinished.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    os.replace(unfinished, path)  # noqa: PTH105 (the atomic step is what this function is for)


def finite_number(text: str) -> float | None:
    """Return the number that a text stands for, None where it is no number, infinite or NaN."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

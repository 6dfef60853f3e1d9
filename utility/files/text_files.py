"""Text files, read as UTF-8 and written whole or not at all, and what an error message quotes of a text."""

from __future__ import annotations

import os
import reprlib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utility.errors import UserError

_MOST_IN_MESSAGE, _MOST_QUOTED = 2000, 80  # characters
_quoting = reprlib.Repr()
_quoting.maxlevel, _quoting.maxtuple, _quoting.maxlist, _quoting.maxdict = 3, 9, 9, 4
_quoting.maxstring = _quoting.maxother = _quoting.maxlong = 60


def read_utf8(path: Path) -> str:
    """Return a text file without its byte order mark; text in another encoding is a UserError naming it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it in that encoding") from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name of this process beside `path`; what is there is renamed, or removed at an error."""
    unfinished = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)  # atomic
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, text: str) -> None:
    """Write UTF-8 text so that the file appears under its name only when whole; makes missing folders."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # newline="" keeps "\n" on every platform, so that the same input gives the same bytes.
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)


def shortened(value: Any) -> str:
    """Return a value as an error quotes it: in one line of at most 80 characters."""
    text = value if isinstance(value, str) else _quoting.repr(value)
    line = "".join(c if _is_shown(c) else repr(c)[1:-1] for c in text[: _MOST_QUOTED + 1])
    return line if len(line) <= _MOST_QUOTED else f"{line[: _MOST_QUOTED - 3]}..."


def one_line(text: str) -> str:
    """Return a message as one line that a terminal shows as it is, of at most 2000 characters."""
    line = "".join(c if _is_shown(c) else " " if c.isspace() else repr(c)[1:-1] for c in text[:_MOST_IN_MESSAGE])
    return line if len(text) <= _MOST_IN_MESSAGE else f"{line}..."


def _is_shown(letter: str) -> bool:
    """Tell whether a letter stands in a line as it is; to Python, only the plain one among the spaces is printable."""
    return letter.isprintable() or unicodedata.category(letter) == "Zs"

"""JSON written entry by entry, so that what is written is whole whatever happens next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class JsonLines:
    """Writes a file with one JSON value a line, each as soon as it is there; as a context manager."""

    def __init__(self, path: Path):
        self._stream = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, entry: Any) -> None:
        """Write one value."""
        self._stream.write(f"{_line(entry)}\n")
        self._stream.flush()


class JsonList:
    """Writes a file with one JSON list, an entry a line; as a context manager, which ends the list in any case.

    A file that is there is replaced at the first entry, or by an empty list at an end without an exception.
    """

    def __init__(self, path: Path):
        self._path = path
        self._stream: TextIO | None = None

    def __enter__(self) -> JsonList:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._stream:
            with self._stream as stream:
                stream.write("\n]\n")
        elif kind is None:
            self._path.write_text("[]\n", encoding="utf-8")

    def write(self, entry: Any) -> None:
        """Write one entry."""
        separator = ",\n" if self._stream else "[\n"
        self._stream = self._stream or self._path.open("w", encoding="utf-8", newline="")
        self._stream.write(separator + _line(entry))


def _line(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)

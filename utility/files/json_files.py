"""JSON files: written entry by entry, and read with their content compared with declared types, by msgspec."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TextIO

import msgspec

from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened

_WORDS = {  # of msgspec's messages
    "Expected": "must be",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list [...]",
    "object": "an object {...}",
}


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


def read_json(path: Path, remedy: str, kind: Any = dict[str, Any]) -> Any:
    """Return the content of a JSON file of this project as it is, entries that `kind` does not declare included.

    Args:
        path: the file.
        remedy: ends each error: what the user can do.
        kind: the type of the outermost value, such as a TypedDict or list[X].

    Raises:
        OSError: the file cannot be read.
        UserError: it is not UTF-8, or `parse_json` refuses it.
    """
    return parse_json(read_utf8(path), str(path), remedy, kind)


def parse_json(text: str, source: str, remedy: str, kind: Any = dict[str, Any]) -> Any:
    """Return the content of a JSON text; `source` names it in errors, the others are as in `read_json`.

    Raises:
        UserError: it is not JSON, which has neither NaN nor infinity; or the first value that is of another type.
    """
    try:
        document = msgspec.json.decode(text)
    except RecursionError:
        raise UserError(f"{source} is not JSON that can be read (nested too deeply): {remedy}") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{source} is not JSON ({error}): {remedy}") from error
    try:
        converted(document, kind)
    except UserError as error:
        raise UserError(f"{source}: {error}: {remedy}") from error
    return document


def converted(value: Any, kind: Any) -> Any:
    """Return a value as a declared type: lists as tuples, objects as dataclasses; its numbers are in their ranges.

    Raises:
        UserError: names the first part, as in `network.image_size[0]=0`, that is of another type or out of range.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault, _, path = str(error).partition(" - at `$")  # such as: Expected `int` >= 1 - at `$.schedule.batch_size`
    name = path.strip("`.")
    fault = re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), fault.replace("`", ""))
    if "[...]" in name:  # which entry of a dict[str, X], msgspec does not tell
        raise UserError(f"{name}: {fault}")
    for key, index in re.findall(r"(\w+)|\[(\d+)\]", name):
        value = value[key or int(index)]
    raise UserError(f"{name}={shortened(value)}: {fault}" if name else fault)


def read_foreign_json(path: Path, remedy: str, without: str) -> dict[str, Any]:
    """Return the object that a JSON file of another program holds, read as Python does.

    Numbers may be NaN, infinite or of 4300 digits, and of a key that comes twice the last value counts: who uses a
    value checks it. What the key `without` holds, in any object, is dropped, so that it takes no memory.

    Raises:
        OSError: the file cannot be read.
        UserError: it is not UTF-8, not JSON, nested hundreds of levels deep, or holds something else.
    """

    def lessened(entries: dict[str, Any]) -> dict[str, Any]:
        entries.pop(without, None)
        return entries

    text = read_utf8(path)
    try:
        document = json.loads(text, object_hook=lessened)
    except RecursionError:
        raise UserError(f"{path} is not JSON that can be read (nested too deeply): {remedy}") from None
    except ValueError as error:  # also of a number with more digits
        reason = str(error).partition("; use sys.")[0]  # without Python's advice to a programmer
        raise UserError(f"{path} is not JSON ({reason}): {remedy}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold an object {{...}}, but holds {shortened(document)}: {remedy}")
    return document

"""JSON files, read with their content compared with declared types, by msgspec."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def read_json(path: Path, remedy: str, kind: Any = dict[str, Any]) -> Any:
    """Return the content of a JSON file of this project as it is, entries that `kind` does not declare included.

    Args:
        path: the file.
        remedy: ends each error: what the user can do.
        kind: the type of the outermost value, such as a TypedDict or list[X].

    Raises:
        OSError: the file cannot be read.
        UserError: it is not UTF-8 or not JSON, which has neither NaN nor infinity, or a value is of another type.
    """
    document = _decoded(path, remedy, msgspec.json.decode)
    try:
        converted(document, kind)
    except UserError as error:
        raise UserError(f"{path}: {error}: {remedy}") from error
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
        UserError: it is not UTF-8, not JSON, nested too deeply, or holds something else.
    """

    def lessened(entries: dict[str, Any]) -> dict[str, Any]:
        entries.pop(without, None)
        return entries

    document = _decoded(path, remedy, lambda text: json.loads(text, object_hook=lessened))
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold an object {{...}}, but holds {shortened(document)}: {remedy}")
    return document


def _decoded(path: Path, remedy: str, decode: Callable[[str], Any]) -> Any:
    text = read_utf8(path)
    try:
        return decode(text)
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, msgspec.DecodeError) as error:  # a ValueError also of a number with too many digits
        reason = str(error).partition("; use sys.")[0]  # without Python's advice to a programmer
    raise UserError(f"{path} is not JSON ({reason}): {remedy}")

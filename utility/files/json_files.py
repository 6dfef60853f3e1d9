"""JSON files: read within limits, and their content compared with declared types before any of it is used."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened, whole_number

# JSON written entry by entry, so that what is written is whole whatever happens next.


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


_NAMES: dict[type, str] = {dict: "an object {...}", list: "a list [...]"}
_PLAIN = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", types.NoneType: "null"}


def read_json(path: Path, remedy: str, top: type = dict, *, most_bytes: int = 100_000_000) -> Any:
    """Return the content of a JSON file of this project.

    Args:
        path: the file.
        remedy: ends each error: what the user can do.
        top: `dict` or `list`, which the outermost value must be.
        most_bytes: a larger file is not read.

    Raises:
        OSError: the file cannot be read.
        UserError: it is too large, or not UTF-8, or `parse_json` refuses it.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise UserError(f"{path} has {size / 1e6:.0f} MB, more than {most_bytes / 1e6:.0f}: {remedy}")
    return parse_json(read_utf8(path), str(path), remedy, top)


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

    return _decoded(partial(json.loads, object_hook=lessened), read_utf8(path), str(path), remedy, dict)


def parse_json(text: str, source: str, remedy: str, top: type = dict) -> Any:
    """Return the content of a JSON text; `source` names it in errors, the others are as in `read_json`.

    Raises:
        UserError: it is not JSON, or is nested hundreds of levels deep, has a key twice, NaN, Infinity or a whole
            number of more than 40 digits, or its outermost value is of another type.
    """
    decode = partial(
        json.loads, object_pairs_hook=_with_distinct_keys, parse_int=_whole, parse_constant=_refuse_constant
    )
    return _decoded(decode, text, source, remedy, top)


def _decoded(decode: Callable[[str], Any], text: str, source: str, remedy: str, top: type) -> Any:
    try:
        value = decode(text)
    except RecursionError:
        raise UserError(f"{source} is not JSON that can be read (nested too deeply): {remedy}") from None
    except ValueError as error:
        reason = str(error).partition("; use sys.")[0]  # Python's advice to a programmer, on a number of 4300 digits
        raise UserError(f"{source} is not JSON ({reason}): {remedy}") from error
    if type(value) is not top:
        raise UserError(f"{source} must hold {_NAMES[top]}, but holds {shortened(value)}: {remedy}")
    return value


def _with_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise UserError(f"the key {shortened(repeated)!r} comes twice")
    return found


def _whole(digits: str) -> int:
    value = whole_number(digits)
    if value is None:
        raise UserError(f"a number of {len(digits)} digits")
    return value


def _refuse_constant(name: str) -> None:
    raise UserError(f"{name} is no number of JSON")


def checked(kind: Any, value: Any, name: str = "") -> Any:
    """Return a value from JSON as a declared type: lists as tuples, objects as dataclasses.

    The standard library has `dataclasses.asdict` but not the inverse, and no package that this project depends on has.

    Args:
        kind: a dataclass, whose fields are all the keys that there may be, and those without default must be; a
            TypedDict, whose keys are some of those that there may be; tuple[X, ...], tuple[X, Y], list[X],
            dict[str, X]; int, float, str, bool, None, and unions of these.
        value: as the json module gives it.
        name: of the value in errors, as in `network.image_size`.

    Raises:
        UserError: names the first value of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _object(kind, _instance(dict, value, name), name)
    if origin is dict:
        return {
            key: checked(arguments[1], item, _dotted(name, key)) for key, item in _instance(dict, value, name).items()
        }
    if origin in (tuple, list):
        return _sequence(origin, arguments, _instance(list, value, name), name)
    return _plain(arguments if origin is types.UnionType else (kind,), value, name)


def _object(kind: Any, value: dict[str, Any], name: str) -> Any:
    hints = typing.get_type_hints(kind)
    for key in _required(kind):
        if key not in value:
            raise UserError(f"{_dotted(name, key)} is missing")
    found = {key: checked(hints[key], item, _dotted(name, key)) for key, item in value.items() if key in hints}
    if typing.is_typeddict(kind):
        return {**value, **found}
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise UserError(f"unknown setting {_dotted(name, unknown[0])}")
    return kind(**found)


def _required(kind: Any) -> Collection[str]:
    if typing.is_typeddict(kind):
        return sorted(kind.__required_keys__)
    fields, missing = dataclasses.fields(kind), dataclasses.MISSING
    return [field.name for field in fields if field.default is missing and field.default_factory is missing]


def _sequence(origin: type, arguments: tuple[Any, ...], value: list[Any], name: str) -> Any:
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise UserError(f"{name}={shortened(value)}: must be a list of {len(arguments)}, not of {len(value)}")
        return tuple(checked(kind, item, name) for kind, item in zip(arguments, value, strict=True))
    return origin(checked(arguments[0], item, f"{name}[{index}]") for index, item in enumerate(value))


def _instance(kind: type, value: Any, name: str) -> Any:
    if type(value) is not kind:
        raise UserError(f"{name or 'it'}={shortened(value)}: must be {_NAMES[kind]}")
    return value


def _plain(allowed: tuple[Any, ...], value: Any, name: str) -> Any:
    if type(value) is int and float in allowed and int not in allowed:
        value = float(value)
    usable = type(value) in allowed
    if isinstance(value, float):
        usable = usable and math.isfinite(value)  # 1e999 is infinite
    if isinstance(value, str):  # half of a pair such as \ud800 is no text: it cannot be written to a file
        usable = usable and value.encode(errors="replace").decode() == value
    if not usable:
        raise UserError(f"{name}={shortened(value)}: must be {' or '.join(_PLAIN[kind] for kind in allowed)}")
    return value


def _dotted(name: str, key: str) -> str:
    return f"{name}.{shortened(key)}".lstrip(".")

"""The log that a user reads, on stdout, and progress bars, on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_prefix: list[str] = []


def set_log_prefix(name: str) -> None:
    """Begin every line of the log with a name, such as that of this worker."""
    _prefix[:] = [f"{name}: "]


def log(message: str) -> None:
    """Write a line for the user to stdout, and flush it."""
    print("".join(_prefix) + message, flush=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if there is none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def attempted(what: str) -> Iterator[None]:
    """Turn any error into a line of the log: a picture that cannot be drawn must not end a training of days."""
    try:
        yield
    except Exception as error:
        log(f"warning: {what} cannot be drawn: {first_line(error)}")


def progress(items: Iterable[Item], total: int | None, unit: str) -> Iterator[Item]:
    """Iterate over items, `total` of them if that is known, with a progress bar on stderr, if that is a terminal."""
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False))

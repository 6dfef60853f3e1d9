"""The log that a user reads, on stdout, and progress bars, on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or else its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


_speaker: list[str] = []


def set_log_prefix(name: str) -> None:
    """Begin all lines of the log with a name: of several processes, the one that speaks."""
    _speaker[:] = [f"{name}: "]


def log(message: str) -> None:
    """Write one line for the user, at once, to stdout."""
    print("".join(_speaker) + message, flush=True)


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Pass items on with a progress bar on stderr, if that is a terminal."""
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False))

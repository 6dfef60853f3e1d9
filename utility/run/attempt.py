"""Work that a run can do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from utility.run.log import first_line, log


@contextmanager
def attempted(what: str) -> Iterator[None]:
    """Turn any error into a line of the log: a picture that cannot be drawn must not end a training of days."""
    try:
        yield
    except Exception as error:
        log(f"warning: {what} cannot be drawn: {first_line(error)}")

"""Files that appear under their name only when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name of this process beside `path`; what is written there is renamed, or removed at an error.

    Several processes may write the same file; the last one's counts.
    """
    unfinished = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)  # atomic
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise

"""Pictures that appear under their name only when whole."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name of this process beside `path`; what is written there is renamed, or removed at an error.

    Several processes may write the same picture; the last one's counts.
    """
    unfinished = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)  # noqa: PTH105 (as text_files.write_whole)
    finally:
        unfinished.unlink(missing_ok=True)


def save_figure(figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure of matplotlib as PNG; the folder must exist."""
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=dpi)

"""Figures as files."""

from __future__ import annotations

import warnings
from pathlib import Path

from utility.files.whole_files import whole_file


def save_figure(figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure of matplotlib as PNG; the folder must exist."""
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=dpi)

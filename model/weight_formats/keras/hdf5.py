"""HDF5 files of weights, opened with h5py; damage and data outside of the file become a ValueError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h5py


@contextmanager
def opened(path: str, layer: str = "it") -> Iterator[h5py.File]:
    """Open an HDF5 file; a ValueError, which names `layer`, if the file is cut off or damaged."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py's errors for a damaged file
        raise ValueError(f"{layer} cannot be read as HDF5: {error}") from error


def check_inside(path: str, dataset: h5py.Dataset) -> None:
    """Raise a ValueError if the values of the dataset at `path` lie in another file, which could be any."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path} is kept in another file, which is not read")

"""HDF5 files of weights, read with h5py within limits; damage and data outside of the file become a UserError.

A few bytes of HDF5 can stand for gigabytes (a shape whose numbers were never written, a chunk, a compressed chunk), for
groups in a circle, or for a file elsewhere. So the shapes come first, and what is read is looked at before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import h5py
import numpy as np

from utility.errors import UserError
from utility.files.text_files import shortened

_MOST_OBJECTS = 10_000  # groups and datasets; Keras' ResNet50 with its optimizer has a thousand
_MOST_LEVELS = 12  # of groups
_MOST_CHUNKS = 100_000  # of a dataset; Keras does not divide them at all


class Dataset(NamedTuple):
    """A dataset: its path in the file and the shape that it claims."""

    path: str
    shape: tuple[int, ...]


@contextmanager
def _opened(path: str, part: str = "it") -> Iterator[h5py.File]:
    """Open an HDF5 file; a UserError, which names `part`, if the file is cut off or damaged."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, OverflowError) as error:  # h5py's errors for a damaged file
        raise UserError(f"{shortened(part)} cannot be read as HDF5: {shortened(str(error))}") from error


def datasets(path: str) -> list[Dataset]:
    """Return all datasets of a file, without reading them; links to other files are not followed.

    Raises:
      UserError: the file is damaged, or has more or more deeply nested groups than Keras writes.
    """
    with _opened(path) as file:
        found, todo, visited, count = [], [("", file["/"])], set(), 0
        while todo:
            place, group = todo.pop()
            count += len(group)
            if count > _MOST_OBJECTS or place.count("/") > _MOST_LEVELS:
                raise UserError("it has more or more deeply nested groups than any network of Keras")
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                node = group[name]
                address = h5py.h5o.get_info(node.id).addr
                if address in visited:
                    continue
                visited.add(address)
                if isinstance(node, h5py.Group):
                    todo.append((f"{place}{name}/", node))
                elif isinstance(node, h5py.Dataset):
                    found.append(Dataset(place + name, node.shape or ()))
    return found


def read(path: str, place: str, dtype: type[np.floating]) -> np.ndarray:
    """Return the values of the dataset at `place`, whose shape the caller has checked, in a dtype.

    Raises:
      UserError: the values are no floating-point numbers, lie in another file, are compressed, in more or larger
        chunks than their shape needs, or damaged.
    """
    with _opened(path, place) as file:
        dataset = file[place]
        problem = _problem(dataset)
        if problem:
            raise UserError(f"{shortened(place)} {problem}")
        return dataset.astype(dtype)[()]


def _problem(dataset: h5py.Dataset) -> str | None:
    """Return why a dataset is not read, or None."""
    if dataset.external or dataset.is_virtual:
        return "is kept in another file, which is not read"
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8 or dataset.shape is None:
        return f"holds {shortened(str(dataset.dtype))}, and weights are floating-point numbers"
    if dataset.id.get_create_plist().get_nfilters():
        return "is compressed or filtered, as Keras does not: unpack it with 'h5repack -f NONE'"
    if dataset.chunks:
        chunks = math.prod(-(-side // part) for side, part in zip(dataset.shape, dataset.chunks, strict=True))
        if chunks > _MOST_CHUNKS or math.prod(dataset.chunks) > math.prod(dataset.shape):
            return (
                f"is in chunks of {shortened(dataset.chunks)}, as no network of Keras: copy it with 'h5repack -l CONTI'"
            )
    return None

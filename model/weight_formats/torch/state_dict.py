"""State dicts from files of torch.save, read without PyTorch, which is a dependency of hundreds of megabytes.

Nothing in a file is executed: unpickling.py allows tensors and containers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.weight_formats.torch import sequential, zip_archive
from model.weight_formats.torch.unpickling import Storage, Tensor
from utility.errors import UserError
from utility.files.text_files import shortened

_MOST_AXES = 8  # of a tensor; a kernel has four


class StateDict:
    """The tensors of a file by name; their elements are read on demand."""

    def __init__(self, tensors: dict[str, Tensor], read_storage: Callable[[Storage], np.ndarray]):
        """Take name -> tensor, and a function that returns all elements of a storage."""
        self._tensors = tensors
        self._read_storage = read_storage

    def names(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; a UserError if the tensor exceeds its storage."""
        storage, offset, shape, strides = self._tensors[name]
        if not isinstance(storage, Storage) or not _fits(storage.size, offset, shape, strides):
            raise UserError(f"tensor {shortened(name)} does not lie within its storage")
        if storage.start + storage.size > storage.total:
            raise UserError(f"the storage of tensor {shortened(name)} is cut off")
        return shape

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as a read-only view of its storage; a UserError if it exceeds the storage."""
        shape = self.shape(name)
        storage, offset, _, strides = self._tensors[name]
        elements = self._read_storage(storage)[storage.start :][offset:]
        byte_strides = [stride * elements.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(elements, shape, byte_strides, writeable=False)


def _fits(size: int, offset: Any, shape: Any, strides: Any) -> bool:
    """Tell whether a view lies within `size` elements and has no more elements than that.

    numpy's own check, in np.ndarray(shape, buffer=...), is not enough: 5 elements with a stride of 2^62 bytes pass it,
    because the 64-bit extent overflows to 0.
    """
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)):
        return False
    if len(shape) > _MOST_AXES or not all(_is_count(number) for number in (offset, *shape, *strides)):
        return False
    last = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return 0 < math.prod(shape) <= size and offset + last < size


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 1 << 63


def is_torch_file(head: bytes) -> bool:
    """Tell by its first 32 bytes or more whether torch.save can have written a file."""
    return head.startswith(zip_archive.SIGNATURE) or sequential.MAGIC_BYTES in head[:32]


def read(path: str) -> StateDict:
    """Return the tensors of a file that torch.save wrote, in its zip form or its older sequential form.

    Raises:
      UserError: the file is damaged, or holds anything but tensors in containers.
    """
    with Path(path).open("rb") as file:
        is_zip = file.read(len(zip_archive.SIGNATURE)) == zip_archive.SIGNATURE
    return StateDict(*(zip_archive if is_zip else sequential).read(path))

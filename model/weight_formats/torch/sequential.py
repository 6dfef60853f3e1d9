"""The older form of torch.save, before PyTorch 1.6: five pickles, then the numbers of each storage.

The pickles are the magic number, the protocol version, the machine's byte order, the tensors and the storage keys.
A storage is its number of elements as int64, then the elements.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.weight_formats.torch import unpickling
from model.weight_formats.torch.unpickling import Storage, Tensor
from utility.errors import UserError
from utility.files.text_files import shortened

# MAGIC_NUMBER and PROTOCOL_VERSION of torch.serialization
_MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001


def read(path: str) -> tuple[dict[str, Tensor], Callable[[Storage], np.ndarray]]:
    """Return name -> tensor, and a function that maps all elements of a storage into memory.

    Raises:
      UserError: the file is damaged, or holds anything but tensors in containers.
    """
    with Path(path).open("rb") as opened:
        file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)  # mapped, because fc6 alone has 411 MB
    (magic, _), (protocol, _), (machine, _) = (unpickling.unpickle(file) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise UserError("it is a pickle, but not one of torch.save")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise UserError("it was not written by a little-endian machine")
    loaded, itemsizes = unpickling.unpickle(file)
    tensors = unpickling.tensors(loaded)
    keys, _ = unpickling.unpickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UserError("it has no list of its storages")
    positions = _positions(file, keys, itemsizes)
    return tensors, lambda storage: _elements(file, positions, storage)


def _positions(file: mmap.mmap, keys: list[str], itemsizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return storage key -> byte position of its first element, and its number of elements."""
    positions = {}
    position = file.tell()
    for key in keys:
        if key not in itemsizes:
            raise UserError(f"its storage {shortened(key)} belongs to no tensor")
        length = int.from_bytes(file[position : position + 8], "little")
        positions[key] = (position + 8, length)
        position += 8 + length * itemsizes[key]
        if position > len(file):
            raise UserError(f"it is cut off: storage {shortened(key)} would end at byte {position} of {len(file)}")
    return positions


def _elements(file: mmap.mmap, positions: dict[str, tuple[int, int]], storage: Storage) -> np.ndarray:
    position, length = positions.get(storage.key, (0, -1))
    if length != storage.total:
        raise UserError(f"storage {shortened(storage.key)} has another size than its tensors say")
    return np.frombuffer(file, "<" + storage.dtype, length, position)

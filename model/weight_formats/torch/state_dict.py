"""Tensors from PyTorch's files, read without PyTorch and without running anything that is in them.

Such a file is a pickle, which can name any function to be called, and beside it the tensors' numbers. Here the
pickle may name ordered dictionaries, storages and tensors only; all else is refused before anything is called.
Both of torch.save's forms are read: the zip archive, and the older sequence of pickles and numbers.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# torch.serialization's MAGIC_NUMBER, with which the older form begins, and its PROTOCOL_VERSION
_MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
ZIP_BYTES = b"PK\x03\x04"
_PROTOCOL = 1001

_MOST_MEMORIZED = 1 << 20  # objects of a pickle; names and shapes of a network are far fewer
_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    """Numbers in a row: `size` of them from `start` in the file's storage `key`, which has `total`."""

    key: str
    dtype: str
    start: int
    size: int
    total: int


class _Tensor(NamedTuple):
    """A view of a storage; sizes and strides count elements. Nothing of it is to be trusted yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Rebuild:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2, without attributes that could be set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, shape, strides)


class _Parameter:
    """Stands for torch._utils._rebuild_parameter: a parameter is the tensor in it."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _RefusedError(ValueError):
    """The pickle asks for something that is neither a tensor nor a container."""


class _Unpickler(pickle.Unpickler):
    """Builds containers of `_Tensor`; everything else that a pickle could name is refused."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.itemsizes: dict[str, int] = {}  # storage key -> bytes of an element

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _GLOBALS[module_name, global_name]
        except KeyError:
            raise _RefusedError(
                f"it names {module_name:.40}.{global_name:.40}; only tensors and containers are read, none is run"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, total, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise _RefusedError(f"it holds a {kind!r}, and only tensors and containers are read")
        start, size = 0, total
        if view and view[0] is not None:  # a part of a storage, in files of before PyTorch 0.4
            _, start, size = view[0]
        self.itemsizes[str(key)] = np.dtype(storage_type.dtype).itemsize
        return _Storage(str(key), storage_type.dtype, _count(start), _count(size), _count(total))


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of elements")
    return value


def _unpickle(file: Any) -> tuple[Any, dict[str, int]]:
    """Load one pickle, and return its object and storage key -> bytes of an element, of all storages in it.

    Raises:
      ValueError: whatever is wrong with it.
    """
    try:
        _check_memo(file)
        unpickler = _Unpickler(file)
        return unpickler.load(), unpickler.itemsizes
    except _RefusedError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"its pickle is damaged: {type(error).__name__}: {error}") from error


def _check_memo(file: Any) -> None:
    """Refuse a pickle that is cut off, or with a place in its memo so high that the memo would fill the memory."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and int(argument or 0) > _MOST_MEMORIZED:
            raise ValueError(f"place {argument} in the memo")
    file.seek(start)


def _tensors(loaded: Any) -> dict[str, _Tensor]:
    """Return the tensors of a state dict, or of a dictionary with one as its `state_dict`, by name."""
    if isinstance(loaded, dict) and isinstance(dict.get(loaded, "state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError("it holds no dictionary of tensors")
    for name, tensor in dict.items(loaded):
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"it holds {name!r:.80}, which is no tensor")
    return dict(dict.items(loaded))


class StateDict:
    """The tensors of a file by their names; their numbers are read when they are asked for."""

    def __init__(self, tensors: dict[str, _Tensor], read_storage: Callable[[_Storage], np.ndarray]):
        """Take the tensors and what reads a storage's numbers."""
        self._tensors = tensors
        self._read_storage = read_storage

    def names(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._tensors)

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as a view of its storage; a ValueError if it does not lie within it."""
        storage, offset, shape, strides = self._tensors[name]
        if not isinstance(storage, _Storage) or not _fits(storage.size, offset, shape, strides):
            raise ValueError(f"tensor {name} does not lie within its storage")
        if storage.start + storage.size > storage.total:
            raise ValueError(f"the storage of tensor {name} is cut off")
        numbers = self._read_storage(storage)[storage.start :][offset:]
        steps = [stride * numbers.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)


def _fits(size: int, offset: Any, shape: Any, strides: Any) -> bool:
    """Tell whether a view [shape] with those strides lies in `size` elements, without one counted twice."""
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)):
        return False
    if not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides)):
        return False
    last = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return 0 < math.prod(shape) <= size and offset + last < size


def read(path: str) -> StateDict:
    """Return the tensors of a file that torch.save wrote, in either of its forms.

    Raises:
      ValueError: the file is damaged, or holds anything but tensors in containers.
    """
    with Path(path).open("rb") as file:
        is_zip = file.read(4) == ZIP_BYTES
    return _read_zip(path) if is_zip else _read_sequence(path)


def _read_zip(path: str) -> StateDict:
    with _archive(path) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("its zip archive has no data.pkl, which torch.save writes")
        folder = pickles[0].removesuffix("data.pkl")
        pickled = _entry(archive, pickles[0])
        big = f"{folder}byteorder" in archive.namelist() and _entry(archive, f"{folder}byteorder") == b"big"
    tensors = _tensors(_unpickle(io.BytesIO(pickled))[0])
    return StateDict(tensors, partial(_zip_storage, path, f"{folder}data/", ">" if big else "<"))


def _zip_storage(path: str, folder: str, byte_order: str, storage: _Storage) -> np.ndarray:
    with _archive(path) as archive:
        numbers = np.frombuffer(_entry(archive, folder + storage.key), np.uint8)
    dtype = np.dtype(byte_order + storage.dtype)
    if numbers.size != storage.total * dtype.itemsize:
        raise ValueError(f"storage {storage.key} has another size than its tensors say")
    return numbers.view(dtype)


@contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; whatever is wrong with it becomes a ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its zip archive is damaged: {error}") from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return an entry, its checksum checked; torch.save compresses none, so that none is larger than the file."""
    if name not in archive.namelist():
        raise ValueError(f"its zip archive lacks {name}")
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its zip archive has {name} compressed, as torch.save does not")
    return archive.read(name)


def _read_sequence(path: str) -> StateDict:
    """Read the older form: magic number, version, the machine, the pickle, the storages' keys, then each one."""
    with Path(path).open("rb") as opened:
        file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)  # fc6 alone has 411 MB
    (magic, _), (protocol, _), (machine, _) = (_unpickle(file) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("it is a pickle, but not one of torch.save")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it was not written by a little-endian machine")
    loaded, itemsizes = _unpickle(file)
    tensors = _tensors(loaded)
    keys, _ = _unpickle(file)
    if not isinstance(keys, list):
        raise ValueError("it has no list of its storages")
    places = _places(file, [str(key) for key in keys], itemsizes)
    return StateDict(tensors, lambda storage: _mapped(file, places, storage))


def _places(file: mmap.mmap, keys: list[str], itemsizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return storage key -> (position, number of elements): each is its length, int64, and the elements."""
    places = {}
    position = file.tell()
    for key in keys:
        if key not in itemsizes:
            raise ValueError(f"its storage {key} belongs to no tensor")
        length = int.from_bytes(file[position : position + 8], "little")
        places[key] = (position + 8, length)
        position += 8 + length * itemsizes[key]
        if position > len(file):
            raise ValueError(f"it is cut off: storage {key} would end at byte {position} of {len(file)}")
    return places


def _mapped(file: mmap.mmap, places: dict[str, tuple[int, int]], storage: _Storage) -> np.ndarray:
    position, length = places.get(storage.key, (0, -1))
    if length != storage.total:
        raise ValueError(f"storage {storage.key} has another size than its tensors say")
    return np.frombuffer(file, "<" + storage.dtype, length, position)

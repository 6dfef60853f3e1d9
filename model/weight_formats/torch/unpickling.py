"""Unpickling of a state dict without PyTorch and without running anything that the file names.

A pickle can call any function by its name. `pickle.Unpickler` is the reader; its `find_class` and `persistent_load`
here give it only ordered dictionaries, storages and tensors, so everything else is refused before it is called. What
the pickle would build is weighed first (`weighing.py`), since a hundred bytes can stand for a tuple without end.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from model.weight_formats.torch import weighing
from model.weight_formats.torch.weighing import RefusedError
from utility.errors import UserError
from utility.files.text_files import shortened

MOST_BYTES = 1 << 24  # of a pickle; a state dict of thousands of tensors has less than one megabyte
_MOST_ENTRIES = 100_000  # that a pickle's ordered dictionaries are made with
_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


class _StorageType(NamedTuple):
    dtype: str


class Storage(NamedTuple):
    """A flat array in the file, or a part of one: `size` elements from `start` of storage `key` with `total`."""

    key: str
    dtype: str
    start: int
    size: int
    total: int


class Tensor(NamedTuple):
    """A view of a storage, with offset, shape and strides in elements. The values are unchecked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


# Instances with empty __slots__, because a pickle can set attributes of classes and functions.
class _RebuildTensor:
    """Replaces torch._utils._rebuild_tensor and _rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
        return Tensor(storage, offset, shape, strides)


class _RebuildParameter:
    """Replaces torch._utils._rebuild_parameter; returns the parameter's tensor."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _MakeOrderedDict:
    """Replaces OrderedDict, and limits what one pickle's are made with: Python 2 gave them a list of their entries."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_ENTRIES

    def __call__(self, entries: Any = ()) -> OrderedDict:
        if not isinstance(entries, (list, tuple, dict)):
            raise RefusedError("its pickle is damaged: an ordered dictionary of no entries")
        self._left -= len(entries)
        if self._left < 0:
            raise RefusedError(f"its ordered dictionaries have more than {_MOST_ENTRIES} entries, as no network's have")
        return OrderedDict(entries)


_GLOBALS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Builds containers of `Tensor` and refuses every other global."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.itemsizes: dict[str, int] = {}  # storage key -> bytes of an element
        self._globals = {**_GLOBALS, ("collections", "OrderedDict"): _MakeOrderedDict()}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return self._globals[module_name, global_name]
        except KeyError:
            name = shortened(f"{module_name:.40}.{global_name:.40}")
            raise RefusedError(f"it names {name}; only tensors and containers are read, none is run") from None

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _, total, *view = (
            pid if isinstance(pid, tuple) and len(pid) >= 5 else (pid,) + 4 * ("",)
        )
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise RefusedError(f"it holds a '{shortened(kind)}', and only tensors and containers are read")
        start, size = 0, total
        if view and view[0] is not None:  # part of a storage, in files from before PyTorch 0.4
            _, start, size = view[0]
        self.itemsizes[key] = np.dtype(storage_type.dtype).itemsize
        return Storage(key, storage_type.dtype, _count(start), _count(size), _count(total))


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 48:
        raise UserError(f"{shortened(value)} is no number of elements")
    return value


def unpickle(file: Any) -> tuple[Any, dict[str, int]]:
    """Load one pickle from a binary file, and return its object and storage key -> bytes of an element.

    Raises:
      UserError: the pickle is damaged, or names anything but tensors and containers.
    """
    start = file.tell()
    pickled = io.BytesIO(file.read(MOST_BYTES))
    try:
        weighing.check(pickled)
        pickled.seek(0)
        unpickler = _Unpickler(pickled)
        loaded = unpickler.load()
    except RefusedError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise UserError(f"its pickle is damaged: {type(error).__name__}: {shortened(str(error))}") from error
    file.seek(start + pickled.tell())
    return loaded, unpickler.itemsizes


def tensors(loaded: Any) -> dict[str, Tensor]:
    """Return name -> tensor of an unpickled state dict, or of a dictionary with one under `state_dict`.

    Raises:
      UserError: there is no dictionary, or it has a value that is no tensor.
    """
    # dict.get and dict.items, because an OrderedDict from a pickle can have attributes of these names
    if isinstance(loaded, dict) and isinstance(dict.get(loaded, "state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise UserError("it holds no dictionary of tensors")
    for name, tensor in dict.items(loaded):
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"it holds '{shortened(name)}', which is no tensor")
    return dict(dict.items(loaded))

"""Unpickling of a state dict without PyTorch and without running anything that the file names.

A pickle can call any function by its name. `pickle.Unpickler` is the reader; its `find_class` and `persistent_load`
here give it only ordered dictionaries, storages and tensors, so everything else is refused before it is called.
"""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

_MAX_MEMO = 1 << 20  # objects in one pickle; a network has far fewer names and shapes
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


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _RefusedError(ValueError):
    """The pickle names something that is neither a tensor nor a container."""


class _Unpickler(pickle.Unpickler):
    """Builds containers of `Tensor` and refuses every other global."""

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

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _, total, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise _RefusedError(f"it holds a {kind!r}, and only tensors and containers are read")
        start, size = 0, total
        if view and view[0] is not None:  # part of a storage, in files from before PyTorch 0.4
            _, start, size = view[0]
        self.itemsizes[str(key)] = np.dtype(storage_type.dtype).itemsize
        return Storage(str(key), storage_type.dtype, _count(start), _count(size), _count(total))


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of elements")
    return value


def unpickle(file: Any) -> tuple[Any, dict[str, int]]:
    """Load one pickle from a binary file, and return its object and storage key -> bytes of an element.

    Raises:
      ValueError: the pickle is damaged, or names anything but tensors and containers.
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
    """Refuse a truncated pickle, and one with a high memo index, for which pickle would allocate gigabytes."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and int(argument or 0) > _MAX_MEMO:
            raise ValueError(f"place {argument} in the memo")
    file.seek(start)


def tensors(loaded: Any) -> dict[str, Tensor]:
    """Return name -> tensor of an unpickled state dict, or of a dictionary with one under `state_dict`.

    Raises:
      ValueError: there is no dictionary, or it has a value that is no tensor.
    """
    # dict.get and dict.items, because an OrderedDict from a pickle can have attributes of these names
    if isinstance(loaded, dict) and isinstance(dict.get(loaded, "state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError("it holds no dictionary of tensors")
    for name, tensor in dict.items(loaded):
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"it holds {name!r:.80}, which is no tensor")
    return dict(dict.items(loaded))

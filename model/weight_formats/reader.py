"""Reads the arrays of another project's file of weights, in a process of its own.

A file from elsewhere may be damaged or made to do harm: reading it may take all memory, take hours, or crash. So
`arrays_in` starts this module as a child within limits that the operating system keeps, and returns arrays or raises a
UserError, whatever becomes of the child. Nothing that a file contains is executed.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from utility.errors import UserError
from utility.files import protobuf
from utility.files.text_files import one_line, shortened

HDF5, KERAS, TORCH, CAFFE = "HDF5", "a .keras file", "a file of torch.save", "a caffemodel"
ZIP = b"PK\x03\x04"
_TORCH_BEFORE_1_6 = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # a pickled number at the file's beginning


def format_of(head: bytes) -> str | None:
    """Return a file's format by its first 64 bytes or more, or None if it is none of those read here."""
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return HDF5
    if head.startswith(ZIP) and b"metadata.json" in head[:64]:  # the first file in the archive
        return KERAS
    if head.startswith(ZIP) or _TORCH_BEFORE_1_6 in head[:32]:
        return TORCH
    # a message of protocol buffers has no signature: the tags of a network's name, layers, input or layer
    return CAFFE if head.startswith((b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")) else None


def arrays_in(path: str, kind: str, memory_bytes: int = 0, cpu_seconds: int = 0) -> dict[str, np.ndarray]:
    """Return name -> array of a file; the arrays are read-only and mapped from temporary files.

    Names: of HDF5 the path in the file; of torch.save the key in the state dict; of a caffemodel the layer and the
    number of the blob, as in conv1_1/0. A UserError if the file is damaged or takes more than a network's weights do.

    `kind` is what `format_of` returns. `memory_bytes` are what the child may use, and what it may write, `cpu_seconds`
    its time; 0: by the size of the file.
    """
    # a caffemodel is in memory up to three times while it is parsed; 1 GiB is for Python and compressed numbers
    size = Path(path).stat().st_size
    memory_bytes = memory_bytes or min(max(1 << 30, 4 * size), 6 << 30)
    cpu_seconds = cpu_seconds or 8 + size // 50_000_000
    with tempfile.TemporaryDirectory() as folder:
        arguments = [kind, str(Path(path).absolute()), folder, str(memory_bytes), str(cpu_seconds)]
        start = "from model.weight_formats.reader import main; main()"
        command = [sys.executable, "-c", start, *arguments]
        root = Path(__file__).resolve().parents[2]
        child = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
        if child.returncode:
            reason = (child.stderr.strip().splitlines() or [""])[-1]
            if -child.returncode == signal.SIGXCPU:
                reason = f"reading it takes more than {cpu_seconds} s, as no network of its size does"
            elif child.returncode < 0:
                reason = f"reading it ended with {signal.Signals(-child.returncode).name}"
            raise UserError(one_line(f"as {kind} it cannot be read: {reason[:300]}; download or save it anew"))
        names = json.loads((Path(folder) / "names.json").read_text())
        files = [Path(folder) / f"{index}.npy" for index in range(len(names))]
        return dict(zip(names, (np.load(file, mmap_mode="r", allow_pickle=False) for file in files), strict=True))


def main() -> None:
    """As the child, read the file within the limits, and leave its arrays in the folder: 0.npy ... and names.json."""
    kind, path, folder, memory, seconds = sys.argv[1:]
    for limit, most in (("DATA", int(memory)), ("CPU", int(seconds)), ("FSIZE", int(memory))):
        number = getattr(resource, f"RLIMIT_{limit}")
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    read = {HDF5: _hdf5, KERAS: _keras, TORCH: _torch, CAFFE: _caffe}[kind]
    names: list[str] = []
    left = int(memory)
    try:
        for name, array in read(path):
            left -= array.nbytes
            if left < 0:
                raise MemoryError
            np.save(Path(folder) / f"{len(names)}.npy", array, allow_pickle=False)
            names.append(name)
    except UserError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit(f"it takes more than {int(memory) / 1e6:.0f} MB of memory, as no network of its size does")
    (Path(folder) / "names.json").write_text(json.dumps(names))


def _keras(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and values of each dataset of the HDF5 file in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        yield from _hdf5(io.BytesIO(archive.read("model.weights.h5")))


def _hdf5(source: str | io.BytesIO) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and values of each dataset of numbers; links to other places and files are not followed."""
    with h5py.File(source, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in found:
            dataset = file[name]
            if dataset.external or dataset.is_virtual:
                raise UserError(f"{shortened(name)} is kept in another file, which is not read")
            if "optimizer_weights" not in name.split("/") and dataset.dtype.kind in "fiubc" and dataset.size:
                yield name, dataset[()]


# The messages of caffe.proto with layers and their blobs, old (V1Layer) and new. A packed list of numbers is on the
# wire what bytes are, which come at once rather than as a hundred million Python numbers.
_MESSAGES = protobuf.message_classes(
    "caffe",
    {
        "Net": [("layers", 2, "V1Layer"), ("layer", 100, "Layer")],
        "V1Layer": [("name", 4, protobuf.BYTES), ("blobs", 6, "Blob")],
        "Layer": [("name", 1, protobuf.BYTES), ("blobs", 7, "Blob")],
        "Blob": [
            *((side, number, protobuf.INT32) for number, side in enumerate(("num", "channels", "height", "width"), 1)),
            *(("data", 5, protobuf.BYTES), ("shape", 7, "Shape"), ("double_data", 8, protobuf.BYTES)),
        ],
        "Shape": [("dim", 1, protobuf.INT64)],
    },
)


def _caffe(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each blob of a caffemodel; the shapes of old ones without the sides of 1 that they begin with."""
    try:
        network = _MESSAGES["Net"].FromString(Path(path).read_bytes())
    except DecodeError as error:
        raise UserError("it is damaged or cut off") from error
    layers = [layer for layer in (*network.layers, *network.layer) if layer.blobs]
    if not layers:
        raise UserError("it has no layer with weights")
    for layer in layers:
        name = b"".join(layer.name).decode(errors="replace")
        for index, blob in enumerate(layer.blobs):
            dtype, parts = ("<f8", blob.double_data) if blob.double_data else ("<f4", blob.data)
            numbers = parts[0] if len(parts) == 1 else b"".join(parts)
            shape = [side for part in blob.shape for side in part.dim]
            if not blob.shape:  # an old blob always has four sides
                shape = [side[-1] if side else 0 for side in (blob.num, blob.channels, blob.height, blob.width)]
                while len(shape) > 1 and shape[0] == 1:
                    shape = shape[1:]
            if min(shape, default=0) < 0 or math.prod(shape) * np.dtype(dtype).itemsize != len(numbers):
                what = f"{len(numbers)} bytes of numbers, which do not fill the shape {shortened(shape)}"
                raise UserError(f"layer {shortened(name)} has {what}")
            yield f"{name}/{index}", np.frombuffer(numbers, dtype).reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Reads PyTorch's pickles: containers, and tensors as views of their storages; any other class is refused.

    The numbers of the storages are not in the pickle: whoever calls it fills them in.
    """

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _CLASSES:
            raise UserError(f"it names {shortened(name)}, and only tensors are read: save the state_dict() alone")
        return _CLASSES[name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage":
            raise UserError(f"it holds a {shortened(kind)}, and only tensors are read: save the state_dict() alone")
        return self.storages.setdefault(str(key), np.zeros(count, dtype))


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if min([offset, *shape, *strides]) < 0 or (0 not in shape and last >= len(storage)):
        raise UserError(f"a tensor of {shortened(shape)} does not lie within its storage of {len(storage)} numbers")
    byte_strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, byte_strides)


_CLASSES: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    **{f"torch.{kind}Storage": np.dtype(code) for kind, code in {
        "Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1",
        "Byte": "u1", "Bool": "?",
    }.items()},
}  # fmt: skip


def _torch(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of a state dict, or of one under the key `state_dict`."""
    with Path(path).open("rb") as file:
        loaded = _torch_zip(path) if file.read(len(ZIP)) == ZIP else _torch_before_1_6(file)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    tensors = [item for item in loaded.items() if isinstance(item[1], np.ndarray)] if isinstance(loaded, dict) else []
    if not tensors:
        raise UserError("it holds no dictionary of tensors: save the model's state_dict()")
    yield from ((str(name), tensor) for name, tensor in tensors if tensor.size)


def _torch_zip(path: str) -> Any:
    """Return what a zip archive's data.pkl holds; each storage is a file beside it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        folder = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
        if folder is None:
            raise UserError("its zip archive has no data.pkl, which torch.save writes")
        order = ">" if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") == b"big" else "<"
        with archive.open(f"{folder}data.pkl") as file:
            unpickler = _Unpickler(file)
            loaded = unpickler.load()
        for key, elements in unpickler.storages.items():
            numbers = np.frombuffer(archive.read(f"{folder}data/{key}"), elements.dtype.newbyteorder(order))
            if len(numbers) != len(elements):
                what = f"has {len(numbers)} numbers, and its tensors say {len(elements)}"
                raise UserError(f"storage {shortened(key)} {what}")
            elements[:] = numbers
        return loaded


def _torch_before_1_6(file: Any) -> Any:
    """Return the fourth pickle of a file; the fifth lists the storages, which follow as length and numbers."""
    file.seek(0)
    unpicklers = [_Unpickler(file) for _ in range(5)]
    _, _, machine, loaded, keys = (unpickler.load() for unpickler in unpicklers)
    if not machine["little_endian"]:
        raise UserError("it was not written by a little-endian machine")
    for key in keys:
        elements = unpicklers[3].storages[key]
        if int.from_bytes(file.read(8), "little") != len(elements) or file.readinto(elements) != elements.nbytes:
            raise UserError(f"it is cut off in storage {shortened(key)}")
    return loaded

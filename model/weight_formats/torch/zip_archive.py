"""The zip form of torch.save: data.pkl with the tensors' names and shapes, and a file of numbers for each storage."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from model.weight_formats.torch import unpickling
from model.weight_formats.torch.unpickling import Storage, Tensor
from utility.errors import UserError
from utility.files.text_files import shortened

# zipfile.is_zipfile looks at the end of a file, and so does not recognise one that is cut off.
SIGNATURE = b"PK\x03\x04"
_MOST_BYTES = 1 << 30  # of a storage; VGG-16's fc6 has 411 MB, or 822 in float64
_MOST_DIRECTORY = 1 << 20  # bytes; an entry takes about 100, and a tensor one entry
_MOST_END = 22 + 65535 + 76  # bytes of the end record, of its comment, and of the end records in the form of 64 bits


def read(path: str) -> tuple[dict[str, Tensor], Callable[[Storage], np.ndarray]]:
    """Return name -> tensor, and a function that reads all elements of a storage.

    Raises:
      UserError: the file is damaged, or holds anything but tensors in containers.
    """
    with _opened(path) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("its zip archive has no data.pkl, which torch.save writes")
        folder = pickles[0].removesuffix("data.pkl")
        pickled = _entry(archive, pickles[0], unpickling.MOST_BYTES)
        order = f"{folder}byteorder"
        big = order in archive.namelist() and _entry(archive, order, len("little")) == b"big"
    loaded, _ = unpickling.unpickle(io.BytesIO(pickled))
    return unpickling.tensors(loaded), partial(_read_storage, path, f"{folder}data/", ">" if big else "<")


def _read_storage(path: str, folder: str, byte_order: str, storage: Storage) -> np.ndarray:
    with _opened(path) as archive:
        dtype = np.dtype(byte_order + storage.dtype)
        size = _checked(archive, folder + storage.key, _MOST_BYTES).file_size
        if size != storage.total * dtype.itemsize:
            raise UserError(f"storage {shortened(storage.key)} has another size than its tensors say")
        numbers = archive.read(folder + storage.key)
    return np.frombuffer(numbers, dtype)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; a UserError if it is damaged."""
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise UserError(f"its zip archive is damaged: {shortened(str(error))}") from error


def _check_directory(path: str) -> None:
    """Refuse an archive with a directory larger than a network's, because zipfile makes an object for each entry.

    The end record, or the one before it in the form of 64 bits, has the directory's size (APPNOTE.TXT, 4.3.14 to 16).
    """
    with Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - _MOST_END))
        end = file.read()
    start = end.rfind(b"PK\5\6")
    size = int.from_bytes(end[start + 12 : start + 16], "little")
    if end[start - 20 : start - 16] == b"PK\6\7":
        size = int.from_bytes(end[start - 36 : start - 28], "little")
    if start >= 0 and size > _MOST_DIRECTORY:
        raise UserError(f"its zip archive has a directory of {size} bytes, more than any network has")


def _entry(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """Return an entry's content; zipfile checks its CRC-32."""
    return archive.read(_checked(archive, name, most_bytes))


def _checked(archive: zipfile.ZipFile, name: str, most_bytes: int) -> zipfile.ZipInfo:
    """Return an entry of at most that size; a UserError if it is missing, larger or compressed.

    torch.save does not compress. Refusing compressed entries keeps a small file from filling the memory.
    """
    if name not in archive.namelist():
        raise UserError(f"its zip archive lacks {shortened(name)}")
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise UserError(f"its zip archive has {shortened(name)} compressed, as torch.save does not")
    if entry.file_size > most_bytes:
        raise UserError(f"its zip archive has {shortened(name)} with {entry.file_size} bytes, more than {most_bytes}")
    return entry

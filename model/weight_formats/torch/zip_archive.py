"""The zip form of torch.save: data.pkl with the tensors' names and shapes, and a file of numbers for each storage."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from model.weight_formats.torch import unpickling
from model.weight_formats.torch.unpickling import Storage, Tensor

# zipfile.is_zipfile looks at the end of a file, and so does not recognise one that is cut off.
SIGNATURE = b"PK\x03\x04"


def read(path: str) -> tuple[dict[str, Tensor], Callable[[Storage], np.ndarray]]:
    """Return name -> tensor, and a function that reads all elements of a storage.

    Raises:
      ValueError: the file is damaged, or holds anything but tensors in containers.
    """
    with _opened(path) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("its zip archive has no data.pkl, which torch.save writes")
        folder = pickles[0].removesuffix("data.pkl")
        pickled = _entry(archive, pickles[0])
        big = f"{folder}byteorder" in archive.namelist() and _entry(archive, f"{folder}byteorder") == b"big"
    loaded, _ = unpickling.unpickle(io.BytesIO(pickled))
    return unpickling.tensors(loaded), partial(_read_storage, path, f"{folder}data/", ">" if big else "<")


def _read_storage(path: str, folder: str, byte_order: str, storage: Storage) -> np.ndarray:
    with _opened(path) as archive:
        numbers = _entry(archive, folder + storage.key)
    dtype = np.dtype(byte_order + storage.dtype)
    if len(numbers) != storage.total * dtype.itemsize:
        raise ValueError(f"storage {storage.key} has another size than its tensors say")
    return np.frombuffer(numbers, dtype)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; a ValueError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its zip archive is damaged: {error}") from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return an entry's content; zipfile checks its CRC-32.

    torch.save does not compress. Refusing compressed entries keeps a small file from filling the memory.
    """
    if name not in archive.namelist():
        raise ValueError(f"its zip archive lacks {name}")
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its zip archive has {name} compressed, as torch.save does not")
    return archive.read(name)

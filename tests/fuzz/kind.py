"""What is common to the kinds of input."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar


class Kind:
    """A kind of input; `name` is that of its file."""

    name: str
    may_end_the_process: ClassVar = False  # is read by a library in C that does so at some bytes

    @classmethod
    def write(cls, rng: random.Random, folder: Path) -> Path:
        """Write a case, and return its path."""
        (folder / cls.name).write_bytes(cls.content(rng))
        return folder / cls.name

    @classmethod
    def content(cls, rng: random.Random) -> bytes:
        raise NotImplementedError

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[None]:
        """Hold what all cases are read with."""
        yield

    @staticmethod
    def read(path: Path) -> None:
        """Read a case, and check what must hold of a result."""
        raise NotImplementedError

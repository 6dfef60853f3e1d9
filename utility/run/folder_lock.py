"""A folder that one program at a time may write to."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from utility.run.log import log


@contextlib.contextmanager
def locked(folder: Path, flag: str) -> Iterator[None]:
    """Make a folder if it is missing, and keep it from other programs that call this, until the end of the block.

    The lock is on the folder itself: it leaves no file behind, and goes with the process, however that ends. On a file
    system without such locks the log says so, and the block runs without one.

    Raises:
        ValueError: another program holds the folder; the message names it and `flag`, which has set it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(
            f"{flag}={folder}: another program is writing there: wait until it has ended, or choose another folder"
        ) from None
    except OSError as error:
        log(f"{folder} cannot be locked ({error.strerror}): do not start a second program that writes there")
    try:
        yield
    finally:
        os.close(descriptor)

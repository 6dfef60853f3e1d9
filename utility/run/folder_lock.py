"""A folder that one program at a time may write to."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from utility.errors import UserError
from utility.run.log import log

_NAME = ".writing.lock"


@contextlib.contextmanager
def locked(folder: Path, flag: str) -> Iterator[None]:
    """Make a folder if it is missing, and keep it from other programs that call this, until the end of the block.

    The lock is on a file in the folder that is open for writing, as NFS demands. It goes with the process, however that
    ends; a file that a killed one has left does not matter. On a file system without such locks the log says so, and
    the block runs without one.

    Raises:
        OSError: the folder cannot be written to.
        UserError: another program holds the folder; the message names it and `flag`, which has set it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, is_mine = folder / _NAME, False
    while not is_mine:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"{flag}={folder}: another program is writing there: wait until it has ended, or choose another folder"
            ) from None
        except OSError as error:
            log(f"{folder} cannot be locked ({error.strerror}): do not start a second program that writes there")
            break
        with contextlib.suppress(FileNotFoundError):  # removed since it was opened, by a program that has just ended
            is_mine = os.path.samestat(os.fstat(descriptor), path.stat())
        if not is_mine:
            os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go of, so that it is still this program's own
        os.close(descriptor)

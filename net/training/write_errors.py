"""Errors in writing checkpoints and summaries, such as a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow.compat.v1 as tf

# why a file that could be opened cannot be written
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def explained_write_errors(model_dir: str) -> Iterator[None]:
    """Turn a failure to write checkpoints or summaries, such as a full disk, into a ValueError with the remedy."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # of the threads that write checkpoints and summaries
        reasons = [os.strerror(number) for number in _WRITE_ERRORS]
        lines = [line for line in str(error).splitlines() if any(reason in line for reason in reasons)]
        if not lines:
            raise
        raise ValueError(
            f"--model_dir={model_dir}: cannot be written to: {lines[0].strip()}. The checkpoints"
            " before are whole: make room, and the same command goes on from the newest"
        ) from error

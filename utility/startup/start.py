"""Starting TensorFlow: with `tf.estimator`, and without messages that the user can do nothing about."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from utility.startup import estimator_compat, gpu_libraries

# What TensorFlow prints on import on every machine, with or without a GPU.
_IMPORT_NOISE = (
    "All log messages before absl::InitializeLog",
    "oneDNN custom operations are on",
    "Could not find cuda drivers",
    # a training names them where it finds no GPU (net/workers.py)
    "Cannot dlopen some GPU libraries",
    "Skipping registering GPU devices",
)
_WITHOUT_DRIVER = ("failed call to cuInit",)
_DEPRECATION = ("is deprecated", "Instructions for updating", "will be removed in a future version")
# Warnings on strategies that are correct as they are used here.
_STRATEGY_NOISE = ("`eval_strategy` is not passed in", "To make it possible to preserve tf.data options")


def start_tensorflow() -> None:
    """Import TensorFlow with `tf.estimator`; silence its messages on import and on deprecation, and keep its warnings.

    A command line calls this before it imports any module that imports TensorFlow.
    """
    estimator_compat.check_releases()
    driver = gpu_libraries.has_driver()
    with filtered_stderr(_IMPORT_NOISE if driver else _IMPORT_NOISE + _WITHOUT_DRIVER):
        import tensorflow.compat.v1 as tf  # noqa: PLC0415 (this is where TensorFlow starts)

        if driver:
            gpu_libraries.preload()
        tf.config.list_physical_devices()  # messages on missing devices come at the first call
    estimator_compat.install(tf)
    tf.logging.set_verbosity(tf.logging.WARN)
    logging.getLogger("tensorflow").addFilter(_is_no_deprecation)
    for phrase in (*_DEPRECATION, *_STRATEGY_NOISE):
        warnings.filterwarnings("ignore", message=f".*{phrase}")


def _is_no_deprecation(record: logging.LogRecord) -> bool:
    return not any(phrase in record.getMessage() for phrase in (*_DEPRECATION, *_STRATEGY_NOISE))


@contextmanager
def filtered_stderr(noise: tuple[str, ...]) -> Iterator[None]:
    """Buffer what is written to file descriptor 2, and at the end write the lines that contain no text of `noise`.

    TensorFlow's C++ side writes to the descriptor, not to sys.stderr.
    """
    sys.stderr.flush()
    keep = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(keep, 2)
            os.close(keep)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.writelines(line for line in lines if not any(word in line for word in noise))

"""Starting TensorFlow: with `tf.estimator`, and without the messages that nobody can act on."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from utility.platform import estimator_compat, gpu_libraries
from utility.run.log import log

# What TensorFlow prints on import on every machine, with or without a GPU, and what nobody can act on.
_IMPORT_NOISE = (
    "All log messages before absl::InitializeLog",
    "oneDNN custom operations are on",
    "Could not find cuda drivers",
    # `explain_missing_gpu` says which
    "Cannot dlopen some GPU libraries",
    "Skipping registering GPU devices",
)
_WITHOUT_DRIVER = ("failed call to cuInit",)
_DEPRECATION = ("is deprecated", "Instructions for updating", "will be removed in a future version")
# What it says of strategies, where all is as it should be.
_STRATEGY_NOISE = ("`eval_strategy` is not passed in", "To make it possible to preserve tf.data options")


def start_tensorflow() -> None:
    """Import TensorFlow with `tf.estimator`, without its import noise and its deprecation chatter; its warnings stay.

    Everything that reads a log calls this first, since TensorFlow writes part of it while it is imported.
    """
    estimator_compat.check_releases()
    driver = gpu_libraries.has_driver()
    with filtered_stderr(_IMPORT_NOISE if driver else _IMPORT_NOISE + _WITHOUT_DRIVER):
        import tensorflow.compat.v1 as tf  # noqa: PLC0415

        if driver:
            gpu_libraries.preload(_site_packages(tf))
        tf.config.list_physical_devices()  # the first look at the devices is what writes about missing ones
    estimator_compat.install(tf)
    tf.logging.set_verbosity(tf.logging.WARN)
    logging.getLogger("tensorflow").addFilter(_is_no_deprecation)
    for phrase in (*_DEPRECATION, *_STRATEGY_NOISE):
        warnings.filterwarnings("ignore", message=f".*{phrase}")


def explain_missing_gpu() -> None:
    """Log why TensorFlow uses no GPU where this machine seems to have one."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    if gpu_libraries.has_driver() and tf.test.is_built_with_cuda():
        text = gpu_libraries.explanation(os.environ.get("CUDA_VISIBLE_DEVICES"), _site_packages(tf))
        if text:
            log(f"note: {text}")


def _site_packages(tf: ModuleType) -> Path:
    return Path(tf.sysconfig.get_include()).parents[1]


def _is_no_deprecation(record: logging.LogRecord) -> bool:
    return not any(phrase in record.getMessage() for phrase in (*_DEPRECATION, *_STRATEGY_NOISE))


@contextmanager
def filtered_stderr(noise: tuple[str, ...]) -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and then pass on the lines without any of `noise`.

    TensorFlow's C++ side writes there directly, so that sys.stderr cannot be asked to do it.
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

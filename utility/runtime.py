"""Starting a script: its flags, its errors, its log, and TensorFlow without the chatter."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from absl import flags
from tqdm import tqdm

Item = TypeVar("Item")

ROOT = Path(__file__).resolve().parents[1]

# What TensorFlow 2.15 prints on import on every machine, with or without a GPU, and what nobody can act on.
_IMPORT_NOISE = (
    "Unable to register cu",
    "Could not find TensorRT",
    "All log messages before absl::InitializeLog",
)
_DEPRECATION = ("is deprecated", "Instructions for updating", "will be removed in a future version")
# What it says of strategies, where all is as it should be.
_STRATEGY_NOISE = ("`eval_strategy` is not passed in", "To make it possible to preserve tf.data options")


def run(main: Callable[[], int | None], define_flags: Callable[[], None]) -> None:
    """Define and parse the flags, call `main`, and exit with its status.

    A mistake of the user (a ValueError of this project, or an OSError) becomes one line on stderr and status 1;
    a wrong flag, status 2; Ctrl-C, status 130. Anything else is a defect and keeps its traceback.
    """
    define_flags()
    try:
        _parse(sys.argv)
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        if not _is_of_the_user(error):
            raise
        _fail(f"error: {error}", 1)


def _parse(argv: list[str]) -> None:
    """Parse a command line; print the flags for --help and exit 0; a wrong flag is one line and status 2."""
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(argv[1:]):
        description = sys.modules["__main__"].__doc__ or Path(argv[0]).name
        print(f"{description.strip()}\n\n{flags.FLAGS.module_help('utility.flags')}")
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)[1:]
        if rest:
            raise flags.Error(f"unexpected argument {rest[0]!r}: flags are written --name=value")
    except flags.Error as error:
        _fail(f"error: {error}\n'{Path(argv[0]).name} --help' lists the flags", 2)


def _is_of_the_user(error: Exception) -> bool:
    """Tell a message meant for the user from a defect: ours are raised by a file of this project."""
    if isinstance(error, OSError):
        return True
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return raised_in.is_relative_to(ROOT) and "site-packages" not in raised_in.parts


def _fail(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


def start_tensorflow() -> None:
    """Import TensorFlow with its import noise and its deprecation chatter left out; its warnings stay.

    Everything that reads a log calls this first, since TensorFlow writes part of it while it is imported.
    """
    with _filtered_stderr(_IMPORT_NOISE):
        import tensorflow.compat.v1 as tf  # noqa: PLC0415
    tf.logging.set_verbosity(tf.logging.WARN)
    logging.getLogger("tensorflow").addFilter(_is_no_deprecation)
    for phrase in (*_DEPRECATION, *_STRATEGY_NOISE):
        warnings.filterwarnings("ignore", message=f".*{phrase}")


def _is_no_deprecation(record: logging.LogRecord) -> bool:
    return not any(phrase in record.getMessage() for phrase in (*_DEPRECATION, *_STRATEGY_NOISE))


@contextmanager
def _filtered_stderr(noise: tuple[str, ...]) -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and then pass on the lines without `noise`.

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


_speaker: list[str] = []


def speak_as(name: str) -> None:
    """Begin all lines of the log with a name: of several processes, the one that speaks."""
    _speaker[:] = [f"{name}: "]


def log(message: str) -> None:
    """Write one line for the user, at once, to stdout."""
    print("".join(_speaker) + message, flush=True)


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Pass items on with a progress bar on stderr, if that is a terminal."""
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False))

"""Starting a script: its flags, its errors, its log, and TensorFlow without the chatter."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from absl import flags
from tqdm import tqdm

from utility import estimator_compat, gpu_libraries

Item = TypeVar("Item")

ROOT = Path(__file__).resolve().parents[1]

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


def run(main: Callable[[], int | None], define_flags: Callable[[], None], rest_flag: str | None = None) -> None:
    """Define and parse the flags, call `main`, and exit with its status.

    `rest_flag` names the flag, one that may be given several times, that takes the arguments which are no flags, such
    as the files that a shell makes of a pattern. Without it there may be none.

    A mistake of the user (a ValueError of this project, or an OSError) becomes one line on stderr and status 1;
    a wrong flag, status 2; Ctrl-C, status 130, and SIGTERM, 143. Anything else is a defect and keeps its traceback.
    """
    define_flags()
    try:
        _parse(sys.argv, rest_flag)
        sys.exit(main() or 0)
    except Interrupted as interrupted:
        _fail(str(interrupted), 128 + interrupted.signum)
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        if not _is_of_the_user(error):
            raise
        _fail(f"error: {error}", 1)


def _parse(argv: list[str], rest_flag: str | None) -> None:
    """Parse a command line; print the flags for --help and exit 0; a wrong flag is one line and status 2."""
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(argv[1:]):
        description = sys.modules["__main__"].__doc__ or Path(argv[0]).name
        print(f"{description.strip()}\n\n{flags.FLAGS.module_help('utility.flags')}")
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)[1:]
        if rest and not rest_flag:
            raise flags.Error(f"unexpected argument {rest[0]!r}: flags are written --name=value")
        if rest and rest_flag:
            flag = flags.FLAGS[rest_flag]
            flag.value = (flag.value or []) + rest if flag.present else rest
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


class Interrupted(Exception):  # noqa: N818 (a request, no error)
    """The program ended early, and in good order, because a signal asked for it."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    signum: int | None = None

    def check(self, state: str) -> None:
        """Raise Interrupted, telling the `state` that is left behind, if a signal has asked to stop."""
        if self.signum is not None:
            raise Interrupted(f"{signal.Signals(self.signum).name}: {state}", self.signum)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take the first SIGINT (Ctrl-C) or SIGTERM as a request to stop soon; the second ends the program at once.

    Python's own handlers would wait until a training step is over, and take two signals for one. A thread that
    reads what arrives hears of both at once.
    """
    request, numbers = StopRequest(), (signal.SIGINT, signal.SIGTERM)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    before = signal.set_wakeup_fd(writing)
    threading.Thread(target=_listen, args=(reading, request, numbers), daemon=True).start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)


def _listen(reading: int, request: StopRequest, numbers: tuple[int, ...]) -> None:
    for (number,) in iter(lambda: os.read(reading, 1), b""):
        if number not in numbers:
            continue
        if request.signum is not None:
            os._exit(128 + number)
        request.signum = number
        log(f"{signal.Signals(number).name}: ends after this step with a checkpoint; a second one ends at once")
    os.close(reading)


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


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or else its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


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

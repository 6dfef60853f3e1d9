"""A command line: its flags, its `main`, its errors and its exit status."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from utility.errors import UserError
from utility.files.text_files import one_line, shortened
from utility.run.stop_request import Interrupted

ROOT = Path(__file__).resolve().parents[2]


def run(main: Callable[[], int | None], define_flags: Callable[[], None], rest_flag: str | None = None) -> None:
    """Define and parse the flags, call `main`, and exit with its status.

    A UserError, an OSError, too little memory or a full disk becomes one line on stderr and status 1; a wrong flag,
    status 2; Ctrl-C, status 130, and SIGTERM, 143. Any other exception is a defect and keeps its traceback.

    Args:
        main: the work; returns the exit status, None for 0.
        define_flags: defines the flags.
        rest_flag: a flag that may be given several times, to which positional arguments are added, such as the files
            to which a shell expands a pattern; None: there may be none.
    """
    define_flags()
    try:
        _parse(sys.argv, rest_flag)
        sys.exit(main() or 0)
    except Interrupted as interrupted:
        _fail(str(interrupted), 128 + interrupted.signum)
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError) as error:
        _fail(f"error: {one_line(str(error))}", 1)
    except _exhausted() as error:
        _fail(f"error: {_what_is_exhausted(str(error).partition(chr(10))[0])}", 1)


def _parse(argv: list[str], rest_flag: str | None) -> None:
    """Parse a command line; print the flags for --help and exit 0; a wrong flag is one line and status 2."""
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(argv[1:]):
        description = sys.modules["__main__"].__doc__ or Path(argv[0]).name
        print(f"{description.strip()}\n\n{_list_of_flags()}")
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)[1:]
        if rest and not rest_flag:
            raise flags.Error(f"unexpected argument {rest[0]!r}: flags are written --name=value")
        if rest and rest_flag:
            flag = flags.FLAGS[rest_flag]
            flag.value = (flag.value or []) + rest if flag.present else rest
    except flags.Error as error:
        _fail(f"error: {one_line(str(error))}\n'{Path(argv[0]).name} --help' lists the flags", 2)


def _list_of_flags() -> str:
    """Return a description of the project's own flags in alphabetical order; absl's are left out."""
    modules = [module for module in flags.FLAGS.flags_by_module_dict() if not module.startswith("absl.")]
    texts = (flags.FLAGS.module_help(module).partition(":\n")[2] for module in modules)
    entries = [entry for text in texts for entry in re.split(r"^(?=  -)", text, flags=re.MULTILINE) if entry.strip()]
    return "".join(f"{entry.rstrip()}\n" for entry in sorted(entries, key=lambda e: e.strip(" -").removeprefix("[no]")))


def _exhausted() -> tuple[type[Exception], ...]:
    """Return the exceptions of Python and, if it is in use, of TensorFlow, whose own stands for memory and disk."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return (MemoryError, errors.ResourceExhaustedError) if errors else (MemoryError,)


def _what_is_exhausted(message: str) -> str:
    if "No space left on device" in message or "Disk quota exceeded" in message:
        return f"the disk is full: make room there ({one_line(message)})"
    remedy = ": take a smaller --batch_size" if "batch_size" in flags.FLAGS else ""
    if "accumulate_steps" in flags.FLAGS:
        remedy += " or --train_image_size, or a larger --accumulate_steps"
    return f"out of memory{remedy} ({shortened(message)})"


def _fail(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)

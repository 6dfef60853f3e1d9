"""Ctrl-C and SIGTERM as requests to stop after the current step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from utility.run.log import log


class Interrupted(Exception):  # noqa: N818 (not an error)
    """The program ended early, in an orderly way, because of a signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    signum: int | None = None

    def check(self, state: str) -> None:
        """Raise Interrupted, with a message on the `state` of the run, if a signal has asked to stop."""
        if self.signum is not None:
            raise Interrupted(f"{signal.Signals(self.signum).name}: {state}", self.signum)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Treat the first SIGINT (Ctrl-C) or SIGTERM as a request to stop soon; the second ends the program at once.

    Python runs signal handlers between two training steps only, and merges signals that arrive meanwhile. So a thread
    reads the signals' numbers from the wakeup file descriptor.
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

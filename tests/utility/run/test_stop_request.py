"""Signals: the first asks a program to stop, the second ends it, and the exit status tells which."""

import signal
import sys

import pytest

from tests import kill_loop

STOPPED = """
import time
from utility.run.command import run
from utility.run.log import log
from utility.run.stop_request import stop_requests

def main():
    with stop_requests() as request:
        log("started")
        while not {at_once} and request.signum is None:
            time.sleep(0.01)
        time.sleep(60 if {at_once} else 0)
        request.check("the state")

run(main, lambda: None)
"""


def stopped(at_once):
    process = kill_loop.start([sys.executable, "-c", STOPPED.format(at_once=at_once)])
    kill_loop.await_line(process, "started")
    return process


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_status_tells_the_signal(signum, status):
    process = stopped(at_once=False)
    process.send_signal(signum)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed.splitlines()[-1] == f"{signum.name}: the state"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(signum, status):
    process = stopped(at_once=True)
    process.send_signal(signal.SIGINT)
    kill_loop.await_line(process, "SIGINT: ends after this step")
    assert process.poll() is None
    process.send_signal(signum)
    assert process.wait(timeout=30) == status

"""How cases end: with a result, with an error that is the user's, or in a way that is a defect."""

import collections
import contextlib
import faulthandler
import json
import os
import random
import resource
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.kind import Kind
from utility.errors import UserError

SECONDS, BYTES = 5.0, 2**30
_CASES_OF_A_CHILD = 500  # a child's memory grows


class TooSlowError(BaseException):
    """A case took longer than it may."""


def outcome(kind: type[Kind], case: int, folder: Path) -> str:
    """Try a case; returns `right`, `refused`, or what is wrong with the way in which it failed."""
    path = kind.write(random.Random(f"{kind.__name__} {case}"), folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor's time, for other processes take theirs
    try:
        kind.read(path)
        verdict = "right"
    except (UserError, OSError):  # the user's mistake, which command lines print as one line
        verdict = "refused"
    except TooSlowError:
        verdict = f"took more than {SECONDS} s"
    except BaseException as error:
        verdict = f"{type(error).__name__}: {traceback.format_exc(limit=-3)[-600:]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return f"took {grown / 2**20:.0f} MB" if grown > BYTES else verdict


def _too_slow(number, frame) -> None:
    raise TooSlowError


def fuzz(kind: type[Kind], cases: range, folder: Path) -> dict[str, int]:
    """Try some cases of a kind, keep what fails, and return how many ended how."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("wrong_*.txt"):
        old.unlink()
    counts: collections.Counter[str] = collections.Counter()
    for case, verdict in (_in_children if kind.may_end_the_process else _here)(kind, cases, folder):
        counts[verdict if verdict in ("right", "refused") else "wrong"] += 1
        if verdict not in ("right", "refused"):
            (folder / f"wrong_{case}.txt").write_text(verdict)
            print(f"{kind.__name__} {case}: {verdict}", flush=True)
    return dict(counts)


def _here(kind: type[Kind], cases: range, folder: Path) -> Iterator[tuple[int, str]]:
    with kind.opened():
        yield from ((case, outcome(kind, case, folder)) for case in cases)


def _in_children(kind: type[Kind], cases: range, folder: Path) -> Iterator[tuple[int, str]]:
    """Try cases in child processes: one that a case ends is followed by another."""
    kind.write(random.Random(0), folder)  # what all cases are made from is made once
    while cases:
        tried = 0
        for tried, found in enumerate(_in_a_child(kind, cases[:_CASES_OF_A_CHILD], folder), start=1):
            yield cases[tried - 1], found
        cases = cases[tried:]


def _in_a_child(kind: type[Kind], cases: range, folder: Path) -> Iterator[str]:
    """Yield the verdicts of cases; the last of them is the case that ended the child, if one did."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # pytest's, which would print more than the verdict
        status = 1
        with contextlib.suppress(BaseException), os.fdopen(sending, "w") as file, kind.opened():
            for case in cases:
                faulthandler.dump_traceback_later(12 * SECONDS, exit=True)  # of code in C, which no signal ends
                print(json.dumps(outcome(kind, case, folder)), file=file, flush=True)
            status = 0
        os._exit(status)
    os.close(sending)
    with os.fdopen(receiving) as file:
        yield from map(json.loads, file)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        yield "no end within the time, or no verdict" if status > 0 else f"the process ended with signal {-status}"

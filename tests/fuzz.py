"""Damaged inputs by the thousand: each must give a result or an error of one line, within 5 s and 1 GB.

    python -m tests.fuzz 10000 /tmp/fuzz              of each kind
    python -m tests.fuzz 10000 /tmp/fuzz voc coco     of some kinds

The n-th case of a kind follows from n. What fails is kept in the folder, with a line that says why.
"""

import collections
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from utility.files.text_files import one_line
from utility.run.command import is_of_the_user

SECONDS, BYTES, LENGTH_OF_MESSAGE = 5.0, 2**30, 2003
# a header must not promise more than there is; numbers must be numbers, and texts one line
TOKENS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"%s",
        b"../",
        b"\\",
        b"/",
        b"$\\x$",
        b"\x1b[2J",
    ),
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e400", b"-1", b"0", b"1_0", "٣".encode(), "²".encode(), b"1e-320"),
    *(b"9" * 5000, b"9223372036854775808", b"-9223372036854775809", b"4294967296", b"1e308", b"0x10", b"null"),
    *(b"[" * 3000, b"{" * 500, b'{"a":' * 2000, b"<a>" * 3000, b"&lt;", b"&#0;", b"<!DOCTYPE a>", b"]]>", b"<x/>"),
    *(b"A" * 100_000, "é".encode(), b"\xff\xd8\xff", b"\xff\xc4", b"\xff\xd9", b"\xff\xda", b"\x7f\xff\xff\xff"),
)


class TooSlowError(BaseException):
    """A case took longer than it may."""


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return data after one to six edits: bits flipped, ranges removed, repeated, replaced or cut off."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place, length = rng.randrange(len(data) + 1), min(rng.choice((1, 1, 2, 4, 16, 200)), len(data))
        edit = rng.randrange(6)
        if edit == 0 and place < len(data):
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif edit == 1:
            data = data[:place] + data[place + length :]
        elif edit == 2:
            data = (
                data[: place + length] + data[place : place + length] * rng.choice((1, 1, 50)) + data[place + length :]
            )
        elif edit == 3:
            data = data[:place] + rng.choice(TOKENS) + data[place + rng.choice((0, length)) :]
        elif edit == 4:
            data = data[:place] + rng.randbytes(length) + data[place + length :]
        else:
            data = data[:place] if rng.random() < 0.3 else data
    return data


JUNK: tuple = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.0, -0.5, 1e308, 1e-320, float("nan"), float("inf")),
    *("", "x", "a\0b", "../x", "/etc/passwd", "a\\b", "$\\x$", "\ud800", "1", "٣", "A" * 100_000, "Cat\n"),
    *([], {}, [[]], [None], [1, 2, 3, 4], [0, 0, 0, 0], ["a"], {"id": 1}, [[[[[[[[[[1]]]]]]]]]]),
)


def changed(rng: random.Random, document):
    """Return a JSON document in which some values are replaced, removed or repeated."""
    places = [(document, key) for key in _keys(document)]
    for node, _ in [*places]:
        places += [(node[key], inner) for key in _keys(node) for inner in _keys(node[key])]
    for _ in range(rng.choice((1, 1, 2, 4))):
        node, key = rng.choice(places) if places else (document, None)
        if key is None or (isinstance(node, dict) and key not in node) or (isinstance(node, list) and key >= len(node)):
            return rng.choice(JUNK)
        edit = rng.randrange(4)
        if edit == 0:
            del node[key]
        elif edit == 1 and isinstance(node, list):
            node += [node[key]] * rng.choice((1, 30))
        else:
            node[key] = rng.choice(JUNK)
    return document


def _keys(node) -> list:
    if isinstance(node, dict):
        return list(node)
    return list(range(len(node))) if isinstance(node, list) else []


def outcome(kind, case: int, folder: Path) -> str:
    """Try a case; returns `right`, `refused`, or what is wrong with the way in which it failed."""
    path = kind.write(random.Random(f"{kind.__name__} {case}"), folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        kind.read(path)
        verdict = "right"
    except (ValueError, OSError) as error:
        verdict = _verdict(error)
    except TooSlowError:
        verdict = f"took more than {SECONDS} s"
    except BaseException as error:
        verdict = f"{type(error).__name__}: {traceback.format_exc(limit=-3)[-600:]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return f"took {grown / 2**20:.0f} MB" if grown > BYTES else verdict


def _too_slow(number, frame) -> None:
    raise TooSlowError


def _verdict(error: Exception) -> str:
    text = one_line(str(error))
    if not is_of_the_user(error):
        return f"{type(error).__name__}, not of this project: {traceback.format_exc(limit=-3)[-600:]}"
    if len(text) > LENGTH_OF_MESSAGE or "\n" in text.strip() or not text.isprintable():
        return f"a message of {len(text)} characters, or of several lines: {text[:200]!r}"
    return "refused"


def fuzz(kind, cases: range, folder: Path) -> dict[str, int]:
    """Try some cases of a kind, keep what fails, and return how many ended how."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("wrong_*.txt"):
        old.unlink()
    counts: collections.Counter[str] = collections.Counter()
    for case in cases:
        verdict = outcome(kind, case, folder)
        counts[verdict if verdict in ("right", "refused") else "wrong"] += 1
        if verdict not in ("right", "refused"):
            (folder / f"wrong_{case}.txt").write_text(verdict)
            print(f"{kind.__name__} {case}: {verdict}", flush=True)
    return dict(counts)


def main(number: str, folder: str, *names: str) -> None:
    """Try so many cases of each kind, or of the kinds named, and print how they ended."""
    from tests.fuzz_kinds import KINDS

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wrong = 0
    for name in names or KINDS:
        start = time.monotonic()
        counts = fuzz(KINDS[name], range(int(number)), Path(folder) / name)
        wrong += counts.get("wrong", 0)
        print(f"{name}: {counts} in {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])

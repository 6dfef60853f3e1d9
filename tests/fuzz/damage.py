"""Damage: bytes that are changed, removed or repeated, and JSON documents with other values."""

import copy
import json
import random

# numbers must be numbers, and texts one line
TOKENS = (
    *(b"", b"\0", b"\n", b"\r", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", "é".encode()),
    *(b"%s", b"../", b"\\", b"/", b"$\\x$", b"\x1b[2J", b"&lt;", b"&#0;", b"]]>", b"<x/>", b"null", b"A" * 300),
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"-1", b"0", b"1_0", "٣".encode(), "²".encode(), b"0x10"),
    *(b"1e400", b"1e308", b"1e-320", b"9" * 40, b"9223372036854775808", b"-9223372036854775809", b"4294967296"),
)


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
    *("", "x", "a\0b", "../x", "/etc/passwd", "a\\b", "$\\x$", "1", "٣", "A" * 300, "Cat\n"),
    *([], {}, [[]], [None], [1, 2, 3, 4], [0, 0, 0, 0], ["a"], {"id": 1}, [[[[1]]]]),
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


def json_case(rng: random.Random, document) -> bytes:
    text = json.dumps(document if rng.random() < 0.4 else changed(rng, copy.deepcopy(document))).encode()
    return damaged(rng, text) if rng.random() < 0.5 else text

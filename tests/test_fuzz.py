"""Some hundred damaged inputs of each kind; `python -m tests.fuzz` tries as many as one likes."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import outcomes
from tests.fuzz.kind import Kind
from tests.fuzz.kinds import KINDS
from tests.fuzz.outcomes import fuzz
from utility.errors import UserError

FEWER = {"records": 40, "keras": 20, "torch": 20, "caffe": 20}  # TensorFlow, or a process for each, reads them


@pytest.mark.parametrize("name", KINDS)
def test_damaged_inputs_give_a_result_or_an_error_of_the_users(name, tmp_path, capfd):
    counts = fuzz(KINDS[name], range(FEWER.get(name, 300)), tmp_path)
    assert "wrong" not in counts, capfd.readouterr().out[-3000:]
    assert counts["refused"] > 10, "the damage is too little to test anything"


USERS = {
    "a UserError": lambda: _raise(UserError("--flag=3: must be 4")),
    "a file that is not there": lambda: Path("/nothing/here").read_bytes(),
}
DEFECTS = {
    "a KeyError": lambda: dict[str, int]()["name"],
    "a ValueError": lambda: _raise(ValueError("one line, but raised by nobody on purpose")),
    "zip": lambda: list(zip([1, 2], [1], strict=True)),
    "int": lambda: int("3.5"),
    "float": lambda: float("x"),
    "reshape": lambda: np.zeros(5).reshape(-1, 4),
    "unpacking": lambda: _unpack((1, 2, 3)),
    "decoding": b"\xff".decode,
    "an assertion": lambda: _raise(AssertionError()),
    "recursion": lambda: _raise(RecursionError("too deep")),
}


def _raise(error):
    raise error


def _unpack(values):
    first, second = values
    return first, second


class Bad(Kind):
    """A kind whose reader fails in the ways that must be told from one another."""

    @staticmethod
    def write(rng, folder):
        return {**USERS, **DEFECTS}[folder.name]

    @staticmethod
    def read(path):
        path()


@pytest.mark.parametrize("name", USERS)
def test_what_the_user_did_wrong_is_no_defect(name, tmp_path):
    assert fuzz(Bad, range(1), tmp_path / name) == {"refused": 1}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_other_error_is_a_defect_and_kept(name, tmp_path):
    assert fuzz(Bad, range(2), tmp_path / name) == {"wrong": 2}
    assert len(list((tmp_path / name).glob("wrong_*.txt"))) == 2


class Ending(Bad):
    """Ends the process, or does not end, as code in C may."""

    may_end_the_process = True

    @staticmethod
    def write(rng, folder):
        return rng.randrange(3)

    @staticmethod
    def read(case):
        if case == 0:
            os.abort()
        if case == 1:
            time.sleep(60)


def test_the_end_of_a_process_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "SECONDS", 0.02)
    counts = fuzz(Ending, range(20), tmp_path)
    reasons = {path.read_text() for path in tmp_path.glob("wrong_*.txt")}
    assert reasons == {"the process ended with signal 6", "no end within the time, or no verdict"}
    assert counts["wrong"] == len(list(tmp_path.glob("wrong_*.txt"))) and sum(counts.values()) == 20

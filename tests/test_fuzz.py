"""Some hundred damaged inputs of each kind; `python -m tests.fuzz` tries as many as one likes."""

import os
import time

import pytest

from tests.fuzz import outcomes
from tests.fuzz.kind import Kind
from tests.fuzz.kinds import KINDS
from tests.fuzz.outcomes import fuzz

FEWER = {"records": 60, "keras": 150}  # TensorFlow and HDF5 read each


@pytest.mark.parametrize("name", KINDS)
def test_damaged_inputs_give_a_result_or_one_line(name, tmp_path, capfd):
    counts = fuzz(KINDS[name], range(FEWER.get(name, 300)), tmp_path)
    assert "wrong" not in counts, capfd.readouterr().out[-3000:]
    assert counts["refused"] > 10, "the damage is too little to test anything"


class Bad(Kind):
    """A kind whose reader fails in the ways that the program must tell from one-line errors."""

    @staticmethod
    def write(rng, folder):
        return rng.randrange(3)

    @staticmethod
    def read(case):
        if case == 0:
            raise KeyError("a traceback")
        if case == 1:
            int("not of this project")


def test_what_fails_is_seen(tmp_path):
    counts = fuzz(Bad, range(20), tmp_path)
    assert counts["wrong"] == len(list(tmp_path.glob("wrong_*.txt"))) > 5 and counts["right"] > 1


class Ending(Bad):
    """Ends the process, or does not end, as code in C may."""

    may_end_the_process = True

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

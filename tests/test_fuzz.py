"""Some hundred damaged inputs of each kind; `python -m tests.fuzz` tries as many as one likes."""

import pytest

from tests.fuzz import fuzz
from tests.fuzz_kinds import KINDS

FEWER = {"records": 60}  # TensorFlow reads each


@pytest.mark.parametrize("name", KINDS)
def test_damaged_inputs_give_a_result_or_one_line(name, tmp_path, capsys):
    counts = fuzz(KINDS[name], range(FEWER.get(name, 300)), tmp_path)
    assert "wrong" not in counts, capsys.readouterr().out[-3000:]
    assert counts["refused"] > 10, "the damage is too little to test anything"


def test_what_fails_is_seen(tmp_path):
    """A kind whose reader fails in the ways that the program must tell from one-line errors."""

    class Bad:
        @staticmethod
        def write(rng, folder):
            return rng.randrange(3)

        @staticmethod
        def read(case):
            if case == 0:
                raise KeyError("a traceback")
            if case == 1:
                int("not of this project")

    counts = fuzz(Bad, range(20), tmp_path)
    assert counts["wrong"] == len(list(tmp_path.glob("wrong_*.txt"))) > 5 and counts["right"] > 1

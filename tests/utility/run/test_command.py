"""Too little memory, Python's or TensorFlow's, is one line that names what helps."""

import subprocess
import sys

import pytest

from utility.run.command import ROOT

PROGRAM = """
import sys, types
from absl import flags
from utility.run.command import run

class ResourceExhaustedError(Exception):
    pass

errors = types.SimpleNamespace(ResourceExhaustedError=ResourceExhaustedError)

def main():
    sys.modules["tensorflow"] = types.SimpleNamespace(errors=errors)
    raise {error}

def define():
    for name in {names}:
        flags.DEFINE_integer(name, 1, "")

run(main, define)
"""
TRAIN, EVAL = ["batch_size", "train_image_size", "accumulate_steps"], ["batch_size", "train_image_size"]


def ended(error, names):
    command = [sys.executable, "-c", PROGRAM.format(error=error, names=names)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("error", ["MemoryError('9 GB\\nof it')", "ResourceExhaustedError('9 GB\\nof it')"])
@pytest.mark.parametrize(
    ("names", "helps"),
    [
        (TRAIN, ": take a smaller --batch_size or --train_image_size, or a larger --accumulate_steps"),
        (EVAL, ": take a smaller --batch_size"),
        ([], ""),
    ],
)
def test_too_little_memory_is_one_line(error, names, helps):
    done = ended(error, names)
    assert (done.returncode, done.stderr) == (1, f"error: out of memory{helps} (9 GB)\n")


def test_any_other_exception_keeps_its_traceback():
    done = ended("ValueError('a defect')", TRAIN)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a defect" in done.stderr

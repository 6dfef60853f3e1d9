"""Too little memory or a full disk, told by Python or TensorFlow, is one line that names what helps."""

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


def test_a_full_disk_is_not_taken_for_too_little_memory():
    """TensorFlow raises the same class for it; this is the message of its saver."""
    message = f"/data/{'logs/' * 20}model.ckpt-5_temp/part-0.data-00000-of-00001; No space left on device"
    done = ended(f"ResourceExhaustedError({message!r} + '\\n\\t [[node save/SaveV2]]')", TRAIN)
    assert (done.returncode, done.stderr) == (1, f"error: the disk is full: make room there ({message})\n")


def test_any_other_exception_keeps_its_traceback():
    done = ended("ValueError('a defect')", TRAIN)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a defect" in done.stderr

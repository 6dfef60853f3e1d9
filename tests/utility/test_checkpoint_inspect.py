"""utility/checkpoint_inspect.py as a user runs it."""

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from tests.builders.checkpoints import save
from tests.builders.weight_files import floats
from utility import checkpoint_inspect
from utility.checkpoints import checkpoint_files
from utility.run.command import ROOT

SCRIPT = str(ROOT / "utility" / "checkpoint_inspect.py")
VARIABLES: dict[str, Any] = {
    "ssd300/conv10/kernel": np.zeros((3, 3, 4, 512), np.float32),
    "ssd300/conv9/kernel": np.zeros((1, 1, 2, 4), np.float32),
    "ssd300/conv9/bias": np.zeros(4, np.float32),
    "ssd300/conv9/bias/Momentum": np.zeros(4, np.float32),
    "global_step": np.int64(120_000),
}


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, check=False)


def test_lists_variables_sizes_and_the_step(tmp_path):
    prefix = save(tmp_path / "model.ckpt", VARIABLES, global_step=120_000)
    result = run(f"--checkpoint_path={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        prefix,
        "  global_step           int64              scalar        8 B",
        "  ssd300/conv9/bias     float32                 4       16 B",
        "  ssd300/conv9/kernel   float32           1x1x2x4       32 B",
        "  ssd300/conv10/kernel  float32         3x3x4x512    73.7 kB",
        "3 variables, 18,444 numbers, 73.8 kB",
        "1 optimizer's variable, 4 numbers, 16 B; --slots lists them",
        "global step 120000",
    ]


def test_lists_the_optimizers_variables_on_request(tmp_path):
    save(tmp_path / "model.ckpt", {name: value for name, value in VARIABLES.items() if name != "global_step"})
    lines = run(f"--checkpoint_path={tmp_path}", "--slots").stdout.splitlines()
    assert lines[2].startswith("  ssd300/conv9/bias/Momentum  float32")
    assert lines[-2:] == ["1 optimizer's variable, 4 numbers, 16 B", "no global step"]


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (np.int32(7), 7),
        (floats(7), 7),
        (np.array([7]), 7),
        (np.full((1, 1), 7, np.float16), 7),
        (floats(7.5), None),
        (floats(np.nan), None),
        (floats(np.inf), None),
        (floats([1, 2]), None),
        (np.array(b"7"), None),
        (np.zeros((0, 2), np.int64), None),
        (np.complex64(7), None),
    ],
)
def test_the_step_of_another_project_is_any_one_whole_number(tmp_path, step, found):
    prefix = save(tmp_path / "m.ckpt", {"global_step": step})
    assert checkpoint_inspect._step(checkpoint_files.open_checkpoint(prefix), "global_step") == found


def test_help_is_quick():
    start = time.monotonic()
    result = run("--help")
    assert time.monotonic() - start < 2
    assert "--checkpoint_path" in result.stdout

"""utility/checkpoint_inspect.py as a user runs it."""

import subprocess
import sys
import time
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tests.builders.checkpoints import save
from utility.checkpoints import contents
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


def test_lists_the_optimizers_variables_on_request():
    shapes = {name: np.shape(value) for name, value in VARIABLES.items()}
    variables = contents.variables_of(shapes, dict.fromkeys(shapes, tf.float32))
    lines = contents.describe(variables, None, slots=True).splitlines()
    assert lines[2].startswith("  ssd300/conv9/bias/Momentum  float32")
    assert lines[-2:] == ["1 optimizer's variable, 4 numbers, 16 B", "no global step"]


def test_help_is_quick():
    start = time.monotonic()
    result = run("--help")
    assert time.monotonic() - start < 2
    assert "--checkpoint_path" in result.stdout

"""Kill a training at random moments, start it again each time, and compare it with one that nothing disturbs.

    python -m tests.kill_loop 20 /tmp/kill_loop

Prints when each kill came, and whether both ended with the same variables, bit by bit.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.builders.records import record, write_shards
from utility.run.command import ROOT

IMAGES, BATCH = 14, 4  # an epoch ends in the middle of a batch


def tiny_data(folder):
    """Write records of a few pictures with an object each; returns the folder."""
    folder.mkdir(parents=True)
    boxes = [((0.1 + 0.03 * number, 0.2, 0.7, 0.5 + 0.03 * number), number % 20 + 1, False) for number in range(IMAGES)]
    write_shards(folder, [record(number, (box,)) for number, box in enumerate(boxes)], 3)
    write_shards(folder, [record(number, (box,)) for number, box in enumerate(boxes[:4])], 1, "val")
    return folder


def command(data, model_dir, steps, *arguments):
    """Return the command line of a small, repeatable training."""
    flags = {"preset": "tiny", "data_dir": data, "model_dir": model_dir, "max_number_of_steps": steps}
    flags |= {"batch_size": BATCH, "log_every_n_steps": 1, "num_cpu_threads": 1}
    listed = [f"--{name}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "tests.builders.tiny_train", *listed, "--deterministic", *map(str, arguments)]


def start(arguments):
    """Start a program whose output, errors included, can be read line by line."""
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def await_line(process, beginning):
    """Read until a line that begins so; returns what was read. The program must not end before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return "".join(lines)
    raise AssertionError("".join(lines))


def run(arguments, status=0):
    """Run a program to its end; returns what it printed."""
    process = start(arguments)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == status, printed
    return printed


def kill_and_go_on(data, model_dir, steps, kills, seed=0, tell=lambda line: None):
    """Kill a training so many times, each at most a second after a step of it, then let it come to its end."""
    moments = random.Random(seed)
    arguments = command(data, model_dir, steps, "--save_checkpoints_steps=1")
    for number in range(1, kills + 1):
        process = start(arguments)
        await_line(process, "step ")
        time.sleep(moments.random())
        process.send_signal(signal.SIGKILL)
        last = [line for line in process.communicate()[0].splitlines() if line.startswith("step ")]
        assert process.returncode == -signal.SIGKILL, f"it ended before kill {number}: take more steps"
        tell(f"kill {number}: {last[-1].split('  ')[0] if last else 'at its first step'}; {_files(model_dir)}")
    run(arguments)


def _files(folder):
    unfinished = [p.name for pattern in ("*.tempstate*", "*.tmp*") for p in folder.glob(pattern)]
    return f"{len(list(folder.glob('*.index')))} checkpoints, unfinished: {', '.join(unfinished) or 'none'}"


def variables(model_dir):
    """Return all variables of a folder's newest checkpoint, by name."""
    import tensorflow.compat.v1 as tf

    reader = tf.train.load_checkpoint(str(model_dir))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same(one, other):
    """Check that two sets of variables are equal, bit by bit."""
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def main(kills, folder):
    """Do it in a folder that must not be there."""
    steps, data = 12 * int(kills), tiny_data(Path(folder) / "data")
    run(command(data, Path(folder) / "undisturbed", steps))
    kill_and_go_on(data, Path(folder) / "killed", steps, int(kills), tell=lambda line: print(line, flush=True))
    assert_same(variables(Path(folder) / "undisturbed"), variables(Path(folder) / "killed"))
    print(f"{kills} kills, {steps} steps: the same variables as without")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Two workers on the loopback interface: one training, and what is left when one of them dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import evaluation, machines
from tests import kill_loop
from tests.helpers import assert_same_training

ROOT = Path(__file__).resolve().parents[1]


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Workers:
    """Processes on this machine that train together, each with a log of its own; two workers unless told otherwise.

    `commands` are the arguments of Python for each of them.
    """

    def __init__(self, home, *commands, kinds=("worker", "worker")):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(kinds))]
        cluster = {kind: [a for a, other in zip(addresses, kinds, strict=True) if other == kind] for kind in kinds}
        self.logs = [home / f"{number}.log" for number in range(len(kinds))]
        self.processes = []
        for number, (kind, log) in enumerate(zip(kinds, self.logs, strict=True)):
            task = {"cluster": cluster, "task": {"type": kind, "index": kinds[:number].count(kind)}}
            command = [sys.executable, "-m", *commands[number]]
            environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
            with log.open("w") as output:
                self.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
                )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.wait()

    def text(self, number):
        return self.logs[number].read_text()

    def statuses(self, seconds=200):
        return [process.wait(timeout=seconds) for process in self.processes]

    def wait_for(self, number, pattern, seconds=200):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text(number)):
            assert time.monotonic() < end and self.processes[number].poll() is None, self.text(number)
            time.sleep(0.2)


def tiny(home, steps, save_every=1000):
    """Two processes of tests.tiny_ssd."""
    options = [f"--steps={steps}", f"--save_checkpoints_steps={save_every}"]
    return Workers(home, *(["tests.tiny_ssd", home / "logs", home / f"{number}.npz", *options] for number in range(2)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which two workers have trained three steps together."""
    home = tmp_path_factory.mktemp("machines")
    with tiny(home, 3) as workers:
        assert workers.statuses() == [0, 0], workers.text(0) + workers.text(1)
        for number in range(2):
            lines = workers.text(number).splitlines()
            assert any(line.startswith(f"worker {number} (127.0.0.1:") and " step 1/" in line for line in lines)
    return home


def test_two_workers_with_half_a_batch_each_are_one_process_with_the_whole(home, trained_alone):
    first, second = (dict(np.load(home / f"{number}.npz")) for number in range(2))
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
    assert_same_training(first, trained_alone)


def test_only_the_chief_writes(home):
    names = {path.name.split(".")[0] for path in (home / "logs").iterdir()}
    assert names == {"checkpoint", "graph", "model", "events"}
    assert len(list((home / "logs").glob("events*"))) == 1


def kill_one(home, victim):
    """Kill one of two workers while they train, and return what the other says and does then."""
    survivor = 1 - victim
    with tiny(home, 5000, save_every=5) as workers:
        workers.wait_for(survivor, r" step \d*[1-9]0/")
        workers.processes[victim].send_signal(signal.SIGKILL)
        assert workers.processes[survivor].wait(timeout=machines.SILENCE_SECONDS + 100) == 1
        assert "Traceback" not in workers.text(survivor)
        errors = [line for line in workers.text(survivor).splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, workers.text(survivor)
        assert "go on from the last checkpoint" in errors[0]
        noted = tf.train.get_checkpoint_state(str(home / "logs")).all_model_checkpoint_paths
        assert len(noted) > 1 and all(map(tf.train.checkpoint_exists, noted))
        return errors[0]


def test_when_the_chief_dies_the_worker_stops(home):
    assert "worker 0 (127.0.0.1:" in kill_one(home, 0)


def test_when_a_worker_dies_the_chief_stops_and_all_can_go_on(home):
    assert "worker 1 (127.0.0.1:" in kill_one(home, 1)
    step = int(tf.train.load_variable(str(home / "logs"), "global_step"))
    assert step >= 5
    with tiny(home, step + 2) as workers:
        assert workers.statuses() == [0, 0], workers.text(0) + workers.text(1)
        assert "starting from random weights" not in workers.text(0)
    first, second = np.load(home / "0.npz"), np.load(home / "1.npz")
    assert first["global_step"] == step + 2
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_train_ssd_with_an_evaluator_and_with_workers_that_disagree(tmp_path):
    data = kill_loop.tiny_data(tmp_path / "data")
    flags = [f"--data_dir={data}", f"--model_dir={tmp_path / 'logs'}", "--preset=tiny", "--save_checkpoints_steps=2"]
    command = ["tests.tiny_train", *flags, "--batch_size=4", "--max_number_of_steps=4"]
    with Workers(tmp_path, *[command] * 3, kinds=("chief", "worker", "evaluator")) as workers:
        assert workers.statuses() == [0, 0, 0], "".join(map(workers.text, range(3)))
        assert "step 4: accuracy 0." in workers.text(2)
    scored = [entry["step"] for entry in json.loads((tmp_path / "logs" / evaluation.HISTORY).read_text())]
    assert scored[-1] == 4 and set(scored) <= {0, 2, 4}
    assert (tmp_path / "logs" / evaluation.BEST / "config.json").is_file()
    assert not list((tmp_path / "logs").glob("tmp_*"))

    with Workers(tmp_path, [*command, "--negative_ratio=2"], [*command, "--tf_random_seed=1"]) as workers:
        assert workers.statuses() == [1, 1], workers.text(0) + workers.text(1)
        for number in range(2):
            assert "Traceback" not in workers.text(number)
            (error,) = (line for line in workers.text(number).splitlines() if line.startswith("error: "))
            assert "tf_random_seed 1 instead of " in error and "loss.negative_ratio 3.0 instead of 2.0" in error

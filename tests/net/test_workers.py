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
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.curves import HISTORY
from net.periodic_evaluation import BEST
from net.workers import HEARTBEAT_TIMEOUT_SECONDS
from tests import kill_loop
from tests.builders.configs import assert_same_training
from utility.run.command import ROOT


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


class Survived(NamedTuple):
    """What is left of two workers one of which was killed."""

    home: Path  # logs/ is the model directory
    variables: list[dict[str, np.ndarray]]  # of both, after a step that they made together
    text: str  # what the survivor said
    error: str  # and its last words
    step: int  # of the newest checkpoint
    files: list[str]  # all that is in the model directory


def train_and_kill(home, step, victim):
    """Let two workers train, save their variables after a step, and go on until one of them is killed."""
    options = [f"--steps={step}", "--save_checkpoints_steps=5"]
    commands = [["tests.builders.tiny_ssd", home / "logs", home / f"{number}.npz", *options] for number in range(2)]
    survivor = 1 - victim
    with Workers(home, *commands) as workers:
        for number in range(2):
            workers.wait_for(number, f"worker {number} .*: saved the variables of step {step}\n")
        workers.wait_for(survivor, r" step \d*[1-9]0/")
        workers.processes[victim].send_signal(signal.SIGKILL)
        assert workers.processes[survivor].wait(timeout=HEARTBEAT_TIMEOUT_SECONDS + 100) == 1
        text = workers.text(survivor)
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in text, text
    noted = tf.train.get_checkpoint_state(str(home / "logs")).all_model_checkpoint_paths
    assert len(noted) > 1 and all(map(tf.train.checkpoint_exists, noted))
    variables = [dict(np.load(home / f"{number}.npz")) for number in range(2)]
    step = int(tf.train.load_variable(str(home / "logs"), "global_step"))
    return Survived(home, variables, text, errors[0], step, [path.name for path in (home / "logs").iterdir()])


@pytest.fixture(scope="module")
def chief(tmp_path_factory):
    """A chief whose worker was killed."""
    return train_and_kill(tmp_path_factory.mktemp("machines"), 3, victim=1)


@pytest.fixture(scope="module")
def worker(chief):
    """A worker that went on from there with a new chief, until that was killed."""
    return train_and_kill(chief.home, chief.step + 2, victim=0)


def test_two_workers_with_half_a_batch_each_are_one_process_with_the_whole(chief, trained_alone):
    first, second = chief.variables
    kill_loop.assert_same(first, second)
    assert_same_training(first, trained_alone)


def test_only_the_chief_writes(chief):
    kinds = [name.split(".")[0] for name in chief.files]
    assert set(kinds) - {"tmp_worker_1"} == {
        "checkpoint",
        "config",
        "labels",
        "graph",
        "model",
        "events",
    }  # of the one that was killed
    assert kinds.count("events") == 1


def test_when_a_worker_dies_the_chief_stops_and_all_can_go_on(chief, worker):
    assert "worker 1 (127.0.0.1:" in chief.error and "resume from the last checkpoint" in chief.error
    first, second = worker.variables
    assert first["global_step"] == chief.step + 2 >= 7
    kill_loop.assert_same(first, second)
    assert "starting from random weights" in chief.text and "starting from random weights" not in worker.text


def test_when_the_chief_dies_the_worker_stops(worker):
    assert "worker 0 (127.0.0.1:" in worker.error and "resume from the last checkpoint" in worker.error


def test_train_ssd_with_an_evaluator_and_with_workers_that_disagree(tmp_path):
    data = kill_loop.tiny_data(tmp_path / "data")
    flags = [f"--data_dir={data}", f"--model_dir={tmp_path / 'logs'}", "--preset=tiny", "--save_checkpoints_steps=2"]
    command = ["tests.builders.tiny_train", *flags, "--batch_size=4", "--max_number_of_steps=4"]
    with Workers(tmp_path, *[command] * 3, kinds=("chief", "worker", "evaluator")) as workers:
        assert workers.statuses() == [0, 0, 0], "".join(map(workers.text, range(3)))
        assert "step 4: accuracy 0." in workers.text(2)
    scored = [entry["step"] for entry in json.loads((tmp_path / "logs" / HISTORY).read_text())]
    assert scored[-1] == 4 and set(scored) <= {0, 2, 4}
    assert (tmp_path / "logs" / BEST / "config.json").is_file()
    assert not list((tmp_path / "logs").glob("tmp_*"))
    assert (tmp_path / "logs" / "curves.png").is_file()

    with Workers(tmp_path, [*command, "--negative_ratio=2"], [*command, "--tf_random_seed=1"]) as workers:
        assert workers.statuses() == [1, 1], workers.text(0) + workers.text(1)
        for number in range(2):
            assert "Traceback" not in workers.text(number)
            (error,) = (line for line in workers.text(number).splitlines() if line.startswith("error: "))
            assert "tf_random_seed 1 instead of " in error and "loss.negative_ratio 3.0 instead of 2.0" in error


def test_workers_whose_variables_overflow_save_nothing_of_that_step(tmp_path):
    """The rate passes the range check; whichever worker is first stops the other."""
    data = kill_loop.tiny_data(tmp_path / "data")
    flags = {"preset": "tiny", "data_dir": data, "model_dir": tmp_path / "logs", "batch_size": 4}
    flags |= {"max_number_of_steps": 9, "save_checkpoints_steps": 1, "learning_rate": 1e30, "end_learning_rate": 0}
    flags |= {"decay_boundaries": 1, "lr_decay_factors": "1e-35,1e8"}
    command = ["tests.builders.tiny_train", *(f"--{name}={value}" for name, value in flags.items())]
    with Workers(tmp_path, *[command] * 2) as workers:
        assert workers.statuses() == [1, 1], workers.text(0) + workers.text(1)
        printed = workers.text(0)
    (error,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert re.search(r"ssd300/\S+ is not finite at step \d, learning rate 1e\+38 .*nothing is saved", error)
    newest = tf.train.latest_checkpoint(str(tmp_path / "logs"))
    assert newest and all(np.isfinite(value).all() for value in kill_loop.variables(newest).values())

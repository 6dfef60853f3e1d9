"""`tf.estimator` on a TensorFlow without it: the names, the places of several machines, and releases not known."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow.compat.v1 as tf

from utility.run.command import ROOT
from utility.startup import estimator_compat, estimator_training
from utility.startup.start import start_tensorflow


def test_every_name_of_the_estimator_that_the_project_writes_is_there():
    used = set()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]:
        used |= set(re.findall(r"\btf\.estimator\.(\w+)", path.read_text(encoding="utf-8")))
    assert {"Estimator", "EstimatorSpec", "RunConfig"} <= used
    assert used == set(vars(tf.estimator))


def test_starting_again_keeps_what_is_there():
    before = tf.estimator.Estimator
    start_tensorflow()
    assert tf.estimator.Estimator is before


def test_layers_are_those_of_keras_2():
    with tf.Graph().as_default():
        tf.layers.conv2d(tf.zeros([1, 4, 4, 3]), 2, 3, name="conv")
        assert [v.op.name for v in tf.global_variables()] == ["conv/kernel", "conv/bias"]


# --- several machines: the values are those that TensorFlow 2.15.1 gives ------------------------------------

CLUSTER = {"chief": ["localhost:1"], "worker": ["localhost:2", "localhost:3"], "evaluator": ["localhost:4"]}


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "place"),
    [
        (CLUSTER, "chief", 0, (True, 0, 3, "grpc://localhost:1")),
        (CLUSTER, "worker", 0, (False, 1, 3, "grpc://localhost:2")),
        (CLUSTER, "worker", 1, (False, 2, 3, "grpc://localhost:3")),
        ({"worker": CLUSTER["worker"]}, "worker", 0, (True, 0, 2, "grpc://localhost:2")),
        ({"worker": CLUSTER["worker"]}, "worker", 1, (False, 1, 2, "grpc://localhost:3")),
    ],
)
def test_each_worker_is_told_its_place(monkeypatch, cluster, kind, index, place):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
    asked = tf.estimator.RunConfig(train_distribute=FakeStrategy())
    assert asked._distribute_coordinator_mode == "independent_worker"
    assert asked.cluster_spec.as_dict() == cluster
    trained: list[SimpleNamespace] = []
    estimator = FakeEstimator(asked, trained)
    spec = SimpleNamespace(input_fn="input", hooks=("hook",), max_steps=7)
    estimator_training.train_and_evaluate(estimator, spec, None, object)
    (call,) = trained
    config = call.estimator.config
    assert (call.input_fn, call.hooks, call.max_steps) == ("input", ["hook"], 7)
    assert (config.task_type, config.task_id) == (kind, index)
    assert (config.is_chief, config.global_id_in_cluster, config.num_worker_replicas, config.master) == place
    assert config.num_ps_replicas == 0 and config.cluster_spec.as_dict() == cluster
    assert not estimator_training.should_run_distribute_coordinator(config)
    assert isinstance(config.train_distribute, FakeStrategy) and config.train_distribute.configured == (kind, index)
    assert estimator.config is asked and asked.task_type == "worker"  # what the caller holds stays


class FakeStrategy:
    """As much of a strategy as the coordinator asks for."""

    extended = SimpleNamespace(experimental_between_graph=True, _std_server_started=True)
    configured = None

    def configure(self, session_config, cluster_spec=None, task_type=None, task_id=None):
        self.configured = (task_type, task_id)

    def __deepcopy__(self, memo):
        return type(self)()


class FakeEstimator:
    """Notes how it was trained."""

    def __init__(self, config, trained):
        self._config, self._trained = config, trained

    @property
    def config(self):
        return self._config

    def train(self, input_fn, hooks, max_steps):
        call = SimpleNamespace(estimator=self, input_fn=input_fn, hooks=hooks, max_steps=max_steps)
        self._trained.append(call)


@pytest.mark.parametrize("strategy", [None, FakeStrategy()])
def test_alone_there_is_no_coordinator(monkeypatch, strategy):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    config = tf.estimator.RunConfig(train_distribute=strategy)
    assert not estimator_training.should_run_distribute_coordinator(config)
    assert (config.is_chief, config.task_type, config.num_worker_replicas, config.master) == (True, "worker", 1, "")


def test_the_evaluator_knows_its_task(monkeypatch):
    task = {"cluster": {"chief": ["localhost:1"]}, "task": {"type": "evaluator", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    config = tf.estimator.RunConfig()
    assert (config.task_type, config.is_chief) == ("evaluator", False)


# --- releases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distribution", "version"), [("tensorflow", "2.22.0"), ("tensorflow-estimator", "2.14.0")])
def test_an_unknown_release_is_one_line_and_nothing_is_imported(tmp_path, distribution, version):
    metadata = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "utility/checkpoint_inspect.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1 and len(said) == 1
    assert said[0].startswith(f"error: {distribution} is {version}, but only ") and "make venv" in said[0]
    assert not re.search(r"\| +tensorflow$", done.stderr, re.MULTILINE)


def test_a_missing_distribution_is_named(monkeypatch):
    monkeypatch.setitem(estimator_compat.KNOWN, "no-such-distribution", "1.0")
    with pytest.raises(ValueError, match="no-such-distribution is not installed"):
        estimator_compat.check_releases()


def test_the_known_releases_are_those_of_the_lock():
    pinned = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#")
    for distribution, known in estimator_compat.KNOWN.items():
        assert pinned[distribution].startswith(f"{known}.")

"""TF_CONFIG: who trains, who is the chief, and every mistake one clear error."""

import json

import pytest

from utility.run import cluster


def environment(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def read(*arguments):
    task = cluster.read(environment(*arguments))
    assert task is not None
    return task


WORKERS = {"worker": ["one:2222", "two:2222"]}


@pytest.mark.parametrize("text", [None, "", " ", "{}"])
def test_without_machines_a_process_trains_alone(text):
    assert cluster.read({} if text is None else {"TF_CONFIG": text}) is None
    assert cluster.read(environment({"worker": ["one:2222"]})) is None


def test_the_first_worker_is_the_chief():
    first, second = (read(WORKERS, "worker", index) for index in (0, 1))
    assert (first.is_chief, second.is_chief) == (True, False)
    assert (first.rank, second.rank) == (0, 1)
    assert second.name() == "worker 1 (two:2222)" and second.name(0) == "worker 0 (one:2222)"


def test_a_chief_comes_before_the_workers():
    jobs = {"worker": ["two:1", "three:1"], "chief": ["[::1]:1"], "evaluator": ["four:1"]}
    worker = read(jobs, "worker", 0)
    assert worker.trainers == [("chief", 0), ("worker", 0), ("worker", 1)]
    assert worker.rank == 1 and not worker.is_chief and not worker.evaluates
    assert read(jobs, "chief").is_chief
    evaluator = read(jobs, "evaluator")
    assert evaluator.evaluates and not evaluator.is_chief
    told = {"TF_CONFIG": "something", "HOME": "here"}
    cluster.export(worker, told)
    assert cluster.read(told) == worker
    cluster.export(evaluator, told)  # TensorFlow's evaluator wants a chief in its cluster
    assert json.loads(told["TF_CONFIG"])["cluster"] == {"chief": ["[::1]:1"]}
    cluster.export(None, told)
    assert told == {"HOME": "here"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{'cluster'", "not JSON"),
        ("[1]", "JSON object"),
        ('{"task": {"type": "worker"}}', "no `cluster`"),
        ('{"cluster": {}, "task": {"type": "worker"}}', "no `cluster`"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "no `task`"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps"}}', "'ps'"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief"}}', "chief 0 is not in the cluster"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "has 2 workers"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": -1}}', "-1"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "²"}}', "'²'"),
        ('{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker"}}', '"b"'),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker"}}', "list of host:port"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker"}}', "twice"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker"}}', "'ps'"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief"}}', "more than one"),
        ('{"cluster": {"evaluator": ["a:1"]}, "task": {"type": "evaluator"}}', "nobody would train"),
    ],
)
def test_a_mistake_is_one_error_that_shows_the_right_form(text, part):
    with pytest.raises(ValueError, match="TF_CONFIG: ") as error:
        cluster.read({"TF_CONFIG": text})
    assert part in str(error.value) and "it should look like" in str(error.value) and "\n" not in str(error.value)

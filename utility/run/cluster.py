"""The cluster of a training with several processes, as the environment variable TF_CONFIG describes it.

The format is TensorFlow's own:

  TF_CONFIG='{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}'

The chief is the `chief` if there is one, else `worker` 0. An `evaluator` scores the checkpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from utility.errors import UserError

VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}'
_KINDS = ("chief", "worker", "evaluator")
_ADDRESS = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


class Task(NamedTuple):
    """The task of this process in the cluster."""

    kind: str  # "chief", "worker" or "evaluator"
    number: int  # its index among the tasks of its kind
    cluster: dict[str, list[str]]  # kind -> host:port of each

    @property
    def trainers(self) -> list[tuple[str, int]]:
        """The tasks that train, as (kind, index), the chief first."""
        return [(kind, index) for kind in ("chief", "worker") for index in range(len(self.cluster.get(kind, [])))]

    @property
    def evaluates(self) -> bool:
        """Whether this process is the evaluator."""
        return self.kind == "evaluator"

    @property
    def rank(self) -> int:
        """Index of this task among those that train; 0 is the chief."""
        return self.trainers.index((self.kind, self.number))

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints and summaries."""
        return not self.evaluates and self.rank == 0

    def name(self, rank: int | None = None) -> str:
        """Return the name of this task, or of the one with a rank, for the log: `worker 0 (host:port)`."""
        kind, index = (self.kind, self.number) if rank is None else self.trainers[rank]
        return f"{kind} {index} ({self.cluster[kind][index]})"


def read(environment: Mapping[str, str]) -> Task | None:
    """Return this process's task, or None if it trains alone: no TF_CONFIG, an empty one, or a single worker.

    Raises:
      UserError: TF_CONFIG is not JSON, lacks its cluster or task, or its task is not in the cluster.
    """
    text = environment.get(VARIABLE, "").strip()
    try:
        content = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise _error(f"is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise _error("must be a JSON object with `cluster` and `task`")
    if not content:
        return None

    cluster = content.get("cluster")
    if not isinstance(cluster, dict) or not cluster:
        raise _error("has no `cluster`, which lists host:port of each worker")
    for kind, addresses in cluster.items():
        if kind not in _KINDS:
            raise _error(f"`cluster` has {kind!r}; there are {', '.join(_KINDS)}")
        if not isinstance(addresses, list) or not all(isinstance(a, str) and _ADDRESS.fullmatch(a) for a in addresses):
            raise _error(f"`cluster.{kind}` must be a list of host:port, not {json.dumps(addresses)}")
    everything = [address for addresses in cluster.values() for address in addresses]
    if len(set(everything)) < len(everything):
        raise _error("names an address twice; each process needs its own")
    if len(cluster.get("chief", [])) > 1:
        raise _error("`cluster.chief` has more than one address; the others are workers")
    if not cluster.get("chief") and not cluster.get("worker"):
        raise _error("`cluster` has neither a chief nor a worker: nobody would train")

    place = content.get("task")
    if not isinstance(place, dict) or "type" not in place:
        raise _error("has no `task`, which says which of the cluster this process is")
    kind, index = place["type"], str(place.get("index", 0))
    if kind not in _KINDS:
        raise _error(f"`task.type` is {kind!r}; there are {', '.join(_KINDS)}")
    if not re.fullmatch("[0-9]{1,9}", index):
        raise _error(f"`task.index` is {index!r}; it must be a number from 0")
    task = Task(kind, int(index), cluster)
    addresses = cluster.get(kind, [])
    if task.number >= len(addresses):
        raise _error(f"task {kind} {index} is not in the cluster, which has {len(addresses)} {kind}s")
    return task if task.evaluates or len(task.trainers) > 1 else None


def _error(what: str) -> UserError:
    return UserError(f"{VARIABLE}: {what}; it should look like {_EXAMPLE}")


def export(task: Task | None, environment: MutableMapping[str, str]) -> None:
    """Set TF_CONFIG for TensorFlow, which reads it from the environment; remove it where there is no task."""
    if task is None:
        environment.pop(VARIABLE, None)
        return
    chief, first = task.trainers[0]
    # TensorFlow's evaluator requires a `chief` in the cluster
    cluster = {"chief": [task.cluster[chief][first]]} if task.evaluates else task.cluster
    environment[VARIABLE] = json.dumps({"cluster": cluster, "task": {"type": task.kind, "index": task.number}})

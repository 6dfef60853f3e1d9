"""TensorBoard's event files: the scalars of a training, also of one that was stopped and went on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

_NAMES = "*.tfevents.*"

Scalars = dict[str, dict[int, float]]  # by tag: the values by step, in ascending order


def event_files(folder: str | Path) -> list[Path]:
    """Return the event files of a folder in the order in which they were begun: their names hold the time."""
    return sorted(Path(folder).glob(_NAMES), key=_begun)


def _begun(path: Path) -> tuple[int, str]:
    time = path.name.partition(".tfevents.")[2].partition(".")[0]
    return int(time) if time.isdecimal() else 0, path.name


def read_scalars(folder: str | Path, tags: Collection[str]) -> Scalars:
    """Return the scalars of a folder's event files; a tag without any has no entry.

    A file that was begun later is of a run that went on from a checkpoint: from its first step on, what the files
    before tell is of steps that were lost. Of a file that is cut off or broken, the part before that counts.
    """
    found: Scalars = {}
    for path in event_files(folder):
        later = _read(path, frozenset(tags))
        first = min((step for values in later.values() for step in values), default=None)
        if first is not None:
            found = {tag: {s: v for s, v in found.get(tag, {}).items() if s < first} for tag in {**found, **later}}
            for tag, values in later.items():
                found[tag].update(values)
    return {tag: dict(sorted(values.items())) for tag, values in found.items() if values}


def _read(path: Path, tags: frozenset[str]) -> Scalars:
    found: Scalars = {}
    try:
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag in tags and value.WhichOneof("value") == "simple_value":
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    except (tf.errors.OpError, DecodeError):
        pass  # another process may be writing the rest just now
    return found

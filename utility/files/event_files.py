"""TensorBoard's event files: the scalars of a training, also of one that was stopped and resumed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError


def read_scalars(folder: str | Path, tags: Collection[str]) -> dict[str, dict[int, float]]:
    """Return the scalars of a folder's event files: by tag the values by step, in ascending order, if there are any.

    A file that was begun later is of a run that resumed from a checkpoint: from its first step on, what the files
    before tell is of steps that were lost. Of a file that is cut off or broken, the part before that counts.
    """
    found: dict[str, dict[int, float]] = {tag: {} for tag in tags}
    for path in sorted(Path(folder).glob("*.tfevents.*"), key=_begun):
        later = []
        try:
            for event in tf.train.summary_iterator(str(path)):
                scalars = (value for value in event.summary.value if value.WhichOneof("value") == "simple_value")
                later += [(value.tag, event.step, value.simple_value) for value in scalars if value.tag in found]
        except (tf.errors.OpError, DecodeError):
            pass  # another process may be writing the rest just now
        if later:
            first = min(step for _, step, _ in later)
            found = {tag: {step: v for step, v in values.items() if step < first} for tag, values in found.items()}
        for tag, step, value in later:
            found[tag][step] = value
    return {tag: dict(sorted(values.items())) for tag, values in found.items() if values}


def _begun(path: Path) -> tuple[int, str]:
    """Return when a file was begun, in seconds, as its name tells."""
    time = path.name.partition(".tfevents.")[2].partition(".")[0]
    return int(time) if time.isdecimal() else 0, path.name

"""Sessions of TensorFlow beside those of the Estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf


@contextmanager
def cpu_session() -> Iterator[tf.Session]:
    """Make a new graph the default, and yield a session on it that leaves the GPUs and their memory alone."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415 (so that command lines may import this module before TensorFlow)

    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        yield session

"""Sessions of TensorFlow beside those of the Estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf


@contextmanager
def cpu_session(graph: tf.Graph | None = None) -> Iterator[tf.Session]:
    """Yield a session that leaves the GPUs and their memory alone.

    It is on a new graph, which is the default one meanwhile; or on `graph`, which does not become the default: so a
    generator can keep the session while it hands over its items.
    """
    import tensorflow.compat.v1 as tf  # noqa: PLC0415 (so that command lines may import this module before TensorFlow)

    without_gpu = tf.ConfigProto(device_count={"GPU": 0})
    with nullcontext() if graph else tf.Graph().as_default(), closing(tf.Session("", graph, without_gpu)) as session:
        yield session

"""The number format that the layers of the network compute in."""

from __future__ import annotations

from enum import Enum

import tensorflow.compat.v1 as tf

from utility.run import processor
from utility.run.log import log


class Precision(Enum):
    """float16 needs a scaled loss; bfloat16 has the range of float32, and needs none."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"  # the layers of the graph are built in it
    BFLOAT16 = "bfloat16"  # TensorFlow rewrites the graph of float32: convolutions, and what is between them


def precision_of(mixed: bool) -> Precision:
    """Return the format of --mixed_precision: float16 on a GPU, bfloat16 on a processor that has instructions for it.

    Any other processor computes float32 faster than either; it is logged.
    """
    if not mixed:
        return Precision.FLOAT32
    if tf.config.list_physical_devices("GPU"):
        return Precision.FLOAT16
    if processor.multiplies_bfloat16():
        log("--mixed_precision: computing in bfloat16")
        return Precision.BFLOAT16
    log("--mixed_precision: this processor has no instructions for bfloat16 (AMX or AVX512-BF16); computing in float32")
    return Precision.FLOAT32

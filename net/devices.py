"""What this machine computes with: its GPUs, what its processor computes fast, and the number format of the layers."""

from __future__ import annotations

from enum import Enum
from functools import cache
from pathlib import Path

import tensorflow.compat.v1 as tf

from utility.run.log import log
from utility.startup import gpu_libraries

_PROCESSOR = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})  # instruction sets with products of bfloat16 numbers


def gpus() -> tuple[str, ...]:
    """Return the GPUs that TensorFlow sees, by name."""
    return tuple(f"/gpu:{number}" for number in range(len(tf.config.list_physical_devices("GPU"))))


def explain_missing_gpu() -> None:
    """Log why TensorFlow uses no GPU although this machine has the driver of one."""
    if gpu_libraries.has_driver() and tf.test.is_built_with_cuda() and (reason := gpu_libraries.explanation()):
        log(f"note: {reason}")


def default_data_format() -> str:
    """Return the layout that the device at hand runs best, or at all."""
    return "channels_first" if gpus() else "channels_last"


@cache
def processor_features() -> frozenset[str]:
    """Return the names of the x86 instruction sets of the processor; none where the system does not tell them."""
    try:
        lines = _PROCESSOR.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def has_avx512() -> bool:
    """Tell whether there are AVX-512's instructions, whose registers are twice as wide as AVX2's."""
    return "avx512f" in processor_features()


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
    if not _BFLOAT16.isdisjoint(processor_features()):
        log("--mixed_precision: computing in bfloat16")
        return Precision.BFLOAT16
    log("--mixed_precision: this processor has no instructions for bfloat16 (AMX or AVX512-BF16); computing in float32")
    return Precision.FLOAT32

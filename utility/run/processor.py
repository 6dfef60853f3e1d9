"""What this machine's processor computes fast, as Linux tells it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FACTS = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@cache
def features() -> frozenset[str]:
    """Return the names of the x86 instruction sets of the processor; none where the system does not tell them."""
    try:
        lines = _FACTS.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def multiplies_bfloat16() -> bool:
    """Tell whether there are instructions for products of bfloat16 numbers."""
    return not _BFLOAT16.isdisjoint(features())


def has_avx512() -> bool:
    """Tell whether there are AVX-512's instructions, whose registers are twice as wide as AVX2's."""
    return "avx512f" in features()

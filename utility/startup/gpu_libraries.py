"""Why TensorFlow finds no GPU on a machine that has one: the CUDA libraries that it cannot open."""

from __future__ import annotations

import contextlib
import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

# where an NVIDIA driver shows itself: on Linux, and in Linux under Windows
DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
_OF_THE_DRIVER = "libcuda.so.1"
# what TensorFlow 2.21 opens before it looks for a GPU (CUDA 12, cuDNN 9); if one is missing, it takes none
LIBRARIES = [_OF_THE_DRIVER, "libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11"]
LIBRARIES += ["libcusolver.so.11", "libcusparse.so.12", "libcudnn.so.9"]


def has_driver() -> bool:
    """Tell whether this machine has an NVIDIA driver."""
    return any(Path(file).exists() for file in DRIVER_FILES)


def explanation() -> str | None:
    """Return why a TensorFlow built for CUDA finds no GPU although there is a driver, and what to type.

    None where CUDA_VISIBLE_DEVICES hides all GPUs.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    missing = [name for name in LIBRARIES if not _opens(name)]
    start = "this machine has an NVIDIA driver, but TensorFlow finds no GPU"
    if _OF_THE_DRIVER in missing:
        remedy = "start a container with its GPUs, or install the driver anew"
        return f"{start}: {_OF_THE_DRIVER}, a part of the driver, cannot be opened; {remedy}"
    if missing:
        return f"{start}: {', '.join(missing)} cannot be opened; `make GPU=1 venv` installs what it needs"
    return f"{start}, and all libraries are there: TF_CPP_MIN_LOG_LEVEL=0 before the command shows why"


def preload() -> None:
    """Open the libcusolver that pip has put beside TensorFlow, whose own search path lacks that folder."""
    for path in _beside_tensorflow("libcusolver.so.11"):
        with contextlib.suppress(OSError):  # `explanation` tells of it where no GPU is found
            ctypes.CDLL(path, ctypes.RTLD_GLOBAL)


def _opens(name: str) -> bool:
    for candidate in [*_beside_tensorflow(name), name]:
        with contextlib.suppress(OSError):
            ctypes.CDLL(candidate, ctypes.RTLD_GLOBAL)  # the libraries need each other
            return True
    return False


def _beside_tensorflow(name: str) -> list[str]:
    """Return where pip has put one of NVIDIA's libraries."""
    spec = find_spec("tensorflow")
    assert spec is not None and spec.origin is not None  # estimator_compat.check_releases has found it
    return [str(path) for path in Path(spec.origin).parents[1].glob(f"nvidia/*/lib/{name}")]

"""Why TensorFlow finds no GPU on a machine that has one: the CUDA libraries that it cannot open."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

# Where an NVIDIA driver shows itself: on Linux, and in Linux under Windows.
DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))

# What TensorFlow 2.21 opens before it looks for a GPU (CUDA 12, cuDNN 9); a single one missing, it takes none.
LIBRARIES = (
    "libcuda.so.1",
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcudnn.so.9",
)
_OF_THE_DRIVER = "libcuda.so.1"


def has_driver(files: Iterable[Path] = DRIVER_FILES) -> bool:
    """Tell whether this machine has an NVIDIA driver."""
    return any(file.exists() for file in files)


def explanation(visible_devices: str | None, site_packages: Path) -> str | None:
    """Return why a TensorFlow built for CUDA finds no GPU although there is a driver, and what to type.

    None where the user has hidden the GPUs.

    Args:
      visible_devices: the environment variable CUDA_VISIBLE_DEVICES; "" and "-1" hide all.
      site_packages: the folder that holds TensorFlow, beside which pip puts NVIDIA's libraries.
    """
    if visible_devices in ("", "-1"):
        return None
    missing = [name for name in LIBRARIES if not _opens(name, site_packages)]
    start = "this machine has an NVIDIA driver, but TensorFlow finds no GPU"
    if _OF_THE_DRIVER in missing:
        remedy = "start a container with its GPUs, or install the driver anew"
        return f"{start}: {_OF_THE_DRIVER}, a part of the driver, cannot be opened; {remedy}"
    if missing:
        return f"{start}: {', '.join(missing)} cannot be opened; `make GPU=1 venv` installs what it needs"
    return f"{start}, and all libraries are there: TF_CPP_MIN_LOG_LEVEL=0 before the command shows why"


def preload(site_packages: Path) -> None:
    """Open the libcusolver that pip has put beside TensorFlow, whose own search path lacks that folder."""
    for path in site_packages.glob("nvidia/cusolver/lib/libcusolver.so.11"):
        with contextlib.suppress(OSError):  # `explanation` tells of it where no GPU is found
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def site_packages() -> Path:
    """Return the folder in which TensorFlow is installed."""
    spec = find_spec("tensorflow")
    assert spec is not None and spec.origin is not None  # estimator_compat.check_releases has found it
    return Path(spec.origin).parents[1]


def _opens(name: str, site_packages: Path) -> bool:
    inside = [str(path) for path in site_packages.glob(f"nvidia/*/lib/{name}")]
    for candidate in [*inside, name]:
        try:
            ctypes.CDLL(candidate, ctypes.RTLD_GLOBAL)  # the libraries need each other
            return True
        except OSError:
            pass
    return False

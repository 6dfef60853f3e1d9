"""The least memory that a batch takes: a batch that this machine cannot hold is refused before it is tried."""

from __future__ import annotations

import os
from pathlib import Path

from utility.config.settings import BACKBONES, Config
from utility.errors import UserError

_BYTES, _BYTES_MIXED = 4, 2  # of a number: float32; bfloat16
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # v2, v1
_GPUS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))  # NVIDIA's driver, AMD's, Windows' for Linux


def check_training(config: Config, images: int, remedy: str, *, parts: int = 1, mixed_precision: bool = False) -> None:
    """Raise a UserError with the estimate if a training step takes more memory than this machine has.

    Args:
        config: of the network.
        images: of a batch, on this machine.
        remedy: ends the error: what to do, with the flags of the command line.
        parts: in which the batch is computed, one after the other.
        mixed_precision: whether the maps are bfloat16.
    """
    maps = BACKBONES[config.network.backbone].kept_per_pixel * -(-images // parts)
    _check(config, images, maps * (_BYTES_MIXED if mixed_precision else _BYTES), remedy)


def check_detection(config: Config, images: int, remedy: str) -> None:
    """Raise a UserError with the estimate if detection in so many images at once takes more memory than there is."""
    _check(config, images, BACKBONES[config.network.backbone].largest_per_pixel * images * _BYTES, remedy)


def _check(config: Config, images: int, map_bytes_per_pixel: float, remedy: str) -> None:
    """Compare the bytes of images and maps with the memory; the maps of a machine with GPUs are in theirs."""
    network = config.network
    height, width = network.image_size
    maps = 0.0 if has_gpu() else map_bytes_per_pixel * min(network.depth_multiplier, 1.0)
    needed, there = height * width * (3.0 * _BYTES * images + maps), memory_bytes()
    if needed > there:
        count, take = (f"{images} images", "at once take") if images > 1 else ("an image", "takes")
        raise UserError(
            f"{count} of {height}x{width} pixels {take} {needed / 1e9:,.1f} GB or more, and this machine has"
            f" {there / 1e9:,.1f} GB: {remedy}"
        )


def has_gpu() -> bool:
    """Tell whether there is the driver of a GPU; TensorFlow, which could tell more, is not loaded yet."""
    return any(path.exists() for path in _GPUS)


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container or job that may take less of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(int(text) for text in map(_text, _CGROUP_LIMITS) if text.isdecimal())])


def _text(path: Path) -> str:
    """Return the text of a file, '' if it is missing; a cgroup without a limit says `max`."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

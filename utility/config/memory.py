"""The least memory that a batch takes: a batch that this machine cannot hold is refused before it is tried."""

from __future__ import annotations

import os

from utility.config.settings import BACKBONES, Config

_BYTES = 4  # of a number: float32; with mixed precision, a map and its gradient in float16


def check_batch(config: Config, images: int, parts: int = 1) -> None:
    """Raise a ValueError with the estimate if a batch takes more memory than this machine has.

    Args:
      config: of the network.
      images: of the batch, on this machine.
      parts: in which the batch is computed, one after the other.
    """
    (height, width), needed, there = config.network.image_size, batch_bytes(config, images, parts), memory_bytes()
    if needed > there:
        raise ValueError(
            f"--batch_size={images} with images of {height}x{width} pixels takes {needed / 1e9:,.1f} GB or more, and"
            f" this machine has {there / 1e9:,.1f} GB: take a smaller batch or a smaller --train_image_size"
        )


def batch_bytes(config: Config, images: int, parts: int = 1) -> float:
    """Return the bytes of a batch's images and, for a part of it, of the network's largest feature map.

    All maps and gradients together take several times as much, so what this refuses could never run.
    """
    network = config.network
    pixels = network.image_size[0] * network.image_size[1]
    features = BACKBONES[network.backbone].features_per_pixel * min(network.depth_multiplier, 1.0)
    return _BYTES * pixels * (3.0 * images + features * -(-images // parts))


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

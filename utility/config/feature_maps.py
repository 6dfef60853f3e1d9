"""What follows from a network's settings: the grids and steps of its feature maps, and its extra layers."""

from __future__ import annotations

from dataclasses import dataclass

from utility.config.settings import BACKBONES, AnchorConfig, ExtraLayer, NetworkConfig


@dataclass(frozen=True)
class FeatureMap:
    """Grid (rows, columns) of a feature map, and its step (y, x): pixels of the input between two cells."""

    grid: tuple[int, int]
    step: tuple[float, float]


def feature_maps(network: NetworkConfig) -> tuple[FeatureMap, ...]:
    """Derive the feature maps that a network gives, the backbone's first.

    A convolution with padding keeps cells over the pixels that they stand for, so the step is the product of
    the strides. One without padding gives the map of the middle of its input; its step is chosen so that the
    cells spread over the whole image, as in Caffe's script (100 and 300 pixels for SSD300).
    """
    maps = []
    for step in BACKBONES[network.backbone].steps:
        maps.append(FeatureMap(_ceil_div(network.image_size, step), (step, step)))
    for number, layer in extra_layers(network):
        maps.append(_after(maps[-1], layer, network.image_size, number))
    return tuple(maps)


def extra_layers(network: NetworkConfig) -> list[tuple[int, ExtraLayer]]:
    """Return the layers after the backbone with their numbers: 8 after a map of step 16, as in the paper.

    A backbone that goes on to step 32 gives the map in place of conv8 itself.
    """
    given = len(BACKBONES[network.backbone].steps) - 2
    return list(enumerate(network.extra_layers, start=8))[given:]


def _ceil_div(size: tuple[int, int], step: int) -> tuple[int, int]:
    return -(-size[0] // step), -(-size[1] // step)


def _after(before: FeatureMap, layer: ExtraLayer, size: tuple[int, int], number: int) -> FeatureMap:
    rows, columns = (_convolved(cells, layer) for cells in before.grid)
    if rows < 1 or columns < 1:
        raise ValueError(
            f"network.image_size={size[0]}x{size[1]}: the map of {before.grid[0]}x{before.grid[1]} cells is too"
            f" small for the extra layer conv{number} (kernel {layer.kernel}, padding {layer.padding});"
            " take a larger input or fewer extra layers"
        )
    if layer.stride > 1:
        return FeatureMap((rows, columns), (before.step[0] * layer.stride, before.step[1] * layer.stride))
    return FeatureMap((rows, columns), (size[0] / rows, size[1] / columns))


def _convolved(cells: int, layer: ExtraLayer) -> int:
    if layer.padding == "same":
        return -(-cells // layer.stride)
    padding = 0 if layer.padding == "valid" else int(layer.padding)
    return (cells + 2 * padding - layer.kernel) // layer.stride + 1


def boxes_per_cell(anchors: AnchorConfig) -> tuple[int, ...]:
    """Return the number of default boxes of a cell, for each feature map."""
    return tuple(len(ratios) + 1 for ratios in anchors.ratios)

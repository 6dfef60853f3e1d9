"""Properties derived from the network settings: grids and steps of the feature maps, and the extra layers in use."""

from __future__ import annotations

from dataclasses import dataclass

from utility.config.settings import BACKBONES, AnchorConfig, ExtraLayer, NetworkConfig
from utility.errors import UserError


@dataclass(frozen=True)
class FeatureMap:
    """Grid (rows, columns) of a feature map, and its step (y, x): the distance of two cells in pixels of the input."""

    grid: tuple[int, int]
    step: tuple[float, float]


def feature_maps(network: NetworkConfig) -> tuple[FeatureMap, ...]:
    """Return grid and step of the feature maps that the default boxes are placed on, those of the backbone first.

    An extra layer with a stride above 1 multiplies the step by its stride. One with stride 1 shrinks the map because
    it has too little padding; its step is the input size / cells, so that the cells spread over the whole image, as
    in Caffe's script (100 and 300 pixels for SSD300).

    Raises:
      UserError: the input is too small for the extra layers.
    """
    height, width = network.image_size
    steps = BACKBONES[network.backbone].steps
    maps = [FeatureMap((-(-height // step), -(-width // step)), (step, step)) for step in steps]
    for number, layer in extra_layers(network):
        previous = maps[-1]
        rows, columns = (_cells_after(cells, layer) for cells in previous.grid)
        if rows < 1 or columns < 1:
            raise UserError(
                f"network.image_size={height}x{width}: the map of {previous.grid[0]}x{previous.grid[1]} cells is too"
                f" small for the extra layer conv{number} (kernel {layer.kernel}, padding {layer.padding});"
                " take a larger input or fewer extra layers"
            )
        strided = previous.step[0] * layer.stride, previous.step[1] * layer.stride
        maps.append(FeatureMap((rows, columns), strided if layer.stride > 1 else (height / rows, width / columns)))
    return tuple(maps)


def _cells_after(cells: int, layer: ExtraLayer) -> int:
    if layer.padding == "same":
        return -(-cells // layer.stride)
    padding = 0 if layer.padding == "valid" else int(layer.padding)
    return (cells + 2 * padding - layer.kernel) // layer.stride + 1


def extra_layers(network: NetworkConfig) -> list[tuple[int, ExtraLayer]]:
    """Return the extra layers after the backbone with their numbers, which start at 8 (conv8) as in the paper.

    A backbone with a map of step 32 replaces conv8 by that map, so its extra layers start at 9.
    """
    replaced = len(BACKBONES[network.backbone].steps) - 2
    return list(enumerate(network.extra_layers, start=8))[replaced:]


def boxes_per_cell(anchors: AnchorConfig) -> tuple[int, ...]:
    """Return the number of default boxes per cell for each feature map: one per ratio and the extra square."""
    return tuple(len(ratios) + 1 for ratios in anchors.ratios)

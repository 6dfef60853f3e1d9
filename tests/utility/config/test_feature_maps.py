"""Grids and steps of the feature maps, as the paper has them."""

from utility.config.feature_maps import feature_maps
from utility.config.settings import ExtraLayer, NetworkConfig


def test_feature_maps_of_ssd300():
    maps = feature_maps(NetworkConfig())
    assert [m.grid for m in maps] == [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    assert [m.step for m in maps] == [(8, 8), (16, 16), (32, 32), (64, 64), (100, 100), (300, 300)]


def test_feature_maps_of_ssd512_follow_from_its_layers():
    stage = ExtraLayer
    layers = (
        stage(256, 512, 3, 2, "same"),
        *[stage(128, 256, 3, 2, "same")] * 3,
        stage(128, 256, 4, 1, 1),
    )
    maps = feature_maps(NetworkConfig(image_size=(512, 512), extra_layers=layers))
    assert [m.grid[0] for m in maps] == [64, 32, 16, 8, 4, 2, 1]
    assert [m.step[0] for m in maps] == [8, 16, 32, 64, 128, 256, 512]

"""The weights behind the golden outputs of the network."""

import json
from pathlib import Path

import numpy as np


def golden_weights(golden: Path) -> dict[str, np.ndarray]:
    """Generate the weights as golden/network.json tells."""
    random, weights = np.random.RandomState(0), {}
    for variable in json.loads((golden / "network.json").read_text())["variables"]:
        name, shape = variable["name"], variable["shape"]
        value = random.standard_normal(shape)
        if name.endswith("/kernel"):
            value *= np.sqrt((1 if "multibox_head" in name else 2) / np.prod(shape[:-1]))
            value /= 64 if "conv1_1/" in name else 1
        elif name.endswith("/weights"):
            value += 20
        else:
            value *= 0.01
        weights[name] = value.astype(np.float32)
    return weights

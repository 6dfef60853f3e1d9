"""What several tests of weight files share: a picture, this project's VGG-16, and the check of a refusal."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise
from tests.builders.weight_files import SMALL, floats

MEANS_BGR = floats([103.94, 116.78, 123.68])
PICTURE = np.random.default_rng(5).integers(0, 256, (40, 48, 3)).astype(np.float32)  # RGB grey levels

# torchvision.transforms.Normalize of its models
TORCHVISION_MEANS, TORCHVISION_DEVIATIONS = floats([0.485, 0.456, 0.406]), floats([0.229, 0.224, 0.225])


def source_image(order: str) -> np.ndarray:
    """Preprocess the picture as a source's own code does, to [1, 3, Y, X]."""
    if order == "torchvision":
        image = (PICTURE / 255 - TORCHVISION_MEANS) / TORCHVISION_DEVIATIONS
    else:
        image = PICTURE - MEANS_BGR[::-1]
    return (image[..., ::-1] if order == "bgr" else image).transpose(2, 0, 1)[np.newaxis]


def project_maps(variables: dict[str, np.ndarray], picture: np.ndarray = PICTURE) -> dict[str, np.ndarray]:
    """Compute with imported variables what the network does with this project's input; maps are [1, C, Y, X]."""
    maps = tf.constant((picture[..., ::-1] - MEANS_BGR)[np.newaxis])
    kept = {}
    for stage, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convs + 1):
            name = f"conv{stage}_{number}"
            maps = kept[name] = _conv(maps, variables, f"vgg_16/conv{stage}/{name}")
        size, stride = (3, 1) if stage == 5 else (2, 2)
        maps = tf.nn.max_pool2d(maps, size, stride, "SAME")
    if "vgg_16/fc6/weights" in variables:
        kept["fc7"] = _conv(_conv(maps, variables, "vgg_16/fc6", 6), variables, "vgg_16/fc7")
    with tf.Session() as session:
        found = session.run(kept)
    return {name: values.transpose(0, 3, 1, 2) for name, values in found.items()}


def _conv(maps, variables, scope, dilation=1):
    kernel, bias = (tf.constant(variables[f"{scope}/{part}"]) for part in ("weights", "biases"))
    return tf.nn.relu(tf.nn.conv2d(maps, kernel, 1, "SAME", dilations=dilation) + bias)


def refuse(path, *words):
    with pytest.raises(ValueError, match="(?i)" + ".*".join(words)) as caught:
        recognise.read(str(path), SMALL)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

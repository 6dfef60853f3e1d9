"""VGG-16 in PyTorch's files."""

import numpy as np
import pytest

from model.weight_formats import recognise
from tests.builders import weight_files as files
from tests.builders.weight_files import SMALL, VGG_WRITERS, floats
from tests.model.weight_formats.helpers import refuse

ORIGINAL_FILTER_BGR = [
    [0.42947057, 0.55037946, 0.4800154],
    [0.3734673, 0.44007453, 0.4085474],
    [-0.06136011, -0.08138704, -0.06514555],
]


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("kind", ["torchvision zip", "ports zip"])
def test_the_original_vggs_first_filter_tells_the_order_of_channels(tmp_path, weights, order, kind):
    kernel, bias = weights["conv1_1"]
    row = floats(ORIGINAL_FILTER_BGR).T if order == "bgr" else floats(ORIGINAL_FILTER_BGR).T[::-1]
    kernel = kernel.copy()
    kernel[0, :, 0, :] = row  # [I, X]
    path = VGG_WRITERS[kind][0](tmp_path / "weights.pth", {**weights, "conv1_1": (kernel, bias)})
    found = recognise.read(str(path), SMALL).variables["vgg_16/conv1/conv1_1/weights"]
    np.testing.assert_array_equal(found[0, :, :, 0], floats(ORIGINAL_FILTER_BGR))


def test_torchvisions_features_only_file_holds_nan_in_its_classifier(tmp_path, weights):
    nothing = {name: tuple(np.full_like(v, np.nan) for v in weights[name]) for name in ("fc6", "fc7")}
    path = files.write_torch_zip(tmp_path / "weights", files.torchvision_arrays({**weights, **nothing}))
    assert len(recognise.read(str(path), SMALL).variables) == 26


def test_batch_normalization_is_not_overlooked(tmp_path, weights):
    arrays = {**files.torchvision_arrays(weights), "features.1.weight": np.ones(4, np.float32)}
    refuse(files.write_torch_zip(tmp_path / "w", arrays), "batch normalization", "features.1")


def test_half_precision_and_doubles_become_float32(tmp_path, weights):
    arrays = {name: array.astype(np.float64) for name, array in files.torchvision_arrays(weights).items()}
    items = {
        name: files.tensor(str(key), array.shape, files.strides_of(array), array.size, kind="DoubleStorage")
        for key, (name, array) in enumerate(arrays.items())
    }
    path = files.write_torch_zip(tmp_path / "w", arrays, files.pickled(items))
    variables = recognise.read(str(path), SMALL).variables
    np.testing.assert_array_equal(variables["vgg_16/conv2/conv2_1/biases"], weights["conv2_1"][1])
    assert {array.dtype for array in variables.values()} == {np.dtype(np.float32)}

"""The gradient of a convolution's kernel by matrix products, against TensorFlow's."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.layers import Layers
from utility.run import processor

KEEPS_SIZE = {"strides": 1, "dilation_rate": 1, "padding": "same"}


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2"}))


def gradients(training, rows, columns, kernel, options):
    """The gradients of the images and of the kernel of a convolution, and the operation types of the graph."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        random = np.random.RandomState(1)
        images = tf.constant(random.uniform(-1, 1, (2, rows, columns, 5)).astype(np.float32))
        output = Layers("channels_last", training).conv(images, 7, kernel, "conv", activation=None, **options)
        (variable,) = (v for v in tf.trainable_variables() if v.op.name == "conv/kernel")
        weight = random.uniform(-1, 1, output.shape.as_list()).astype(np.float32)
        found = tf.gradients(tf.reduce_sum(output * weight), [images, variable])
        session.run(tf.global_variables_initializer())
        variable.load(random.uniform(-1, 1, variable.shape.as_list()), session)
        return session.run(found), {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (33, 50), (75, 38)])
def test_matrix_products_agree_with_tensorflows_gradient(rows, columns, kernel):
    found, operations = gradients(True, rows, columns, kernel, KEEPS_SIZE)
    assert "MatMul" in operations and "Conv2DBackpropFilter" not in operations
    wanted, operations = gradients(False, rows, columns, kernel, KEEPS_SIZE)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(
    ("rows", "kernel", "changed"),
    [
        (40, 3, {"strides": 2}),
        (40, 3, {"dilation_rate": 2}),
        (40, 3, {"padding": "valid"}),
        (40, 1, {}),
        (40, 4, {}),
        (40, (3, 5), {}),
        (31, 3, {}),
    ],
)
def test_other_convolutions_have_tensorflows_gradient(rows, kernel, changed):
    found, operations = gradients(True, rows, 40, kernel, KEEPS_SIZE | changed)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations
    wanted, _ = gradients(False, rows, 40, kernel, KEEPS_SIZE | changed)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_tensorflows_gradient_is_taken_with_avx512(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "avx512f"}))
    _, operations = gradients(True, 32, 32, 3, KEEPS_SIZE)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations

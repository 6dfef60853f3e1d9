"""What --mixed_precision computes in, by the machine."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.layers import Precision, precision_of
from net.run_config import session_config
from net.ssd_net import ssd_network
from tests.net.estimator.test_optimizer import four_images
from utility.run import processor


def test_the_format_is_that_of_the_device(monkeypatch, capsys):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "avx512f"}))
    assert precision_of(False) is Precision.FLOAT32 and capsys.readouterr().out == ""
    assert precision_of(True) is Precision.FLOAT32
    assert "this processor has no instructions for bfloat16" in capsys.readouterr().out
    monkeypatch.setattr(processor, "features", lambda: frozenset({"amx_bf16"}))
    assert precision_of(True) is Precision.BFLOAT16 and "bfloat16" in capsys.readouterr().out
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert precision_of(True) is Precision.FLOAT16 and precision_of(False) is Precision.FLOAT32


def test_bfloat16_gives_what_float32_gives_nearly(tiny):
    if not processor.multiplies_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    outputs = []
    for precision in (Precision.FLOAT32, Precision.BFLOAT16):
        with tf.Graph().as_default(), tf.Session(config=session_config(precision=precision)) as session:
            tf.set_random_seed(1)
            output = ssd_network(tf.constant(four_images()[0]["image"]), tiny, "channels_last")
            session.run(tf.global_variables_initializer())
            outputs.append(session.run(output))
    for one, other in zip(*outputs, strict=True):
        assert other.dtype == np.float32 and np.abs(one - other).max() > 0
        np.testing.assert_allclose(other, one, atol=3e-2 * np.abs(one).max())

"""The download of Keras' weights."""

from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats.keras import download


def test_what_keras_downloads_is_the_file_that_its_own_vgg16_takes(monkeypatch):
    applications = pytest.importorskip("keras.src.applications.vgg16")
    asked: dict[str, str] = {}

    def get_file(name, url, **options):
        asked.update(options, name=name, url=url)
        return "vgg16.h5"

    monkeypatch.setattr(tf.keras.utils, "get_file", get_file)
    assert download.download() == "vgg16.h5"
    assert asked["url"] == applications.WEIGHTS_PATH
    assert asked["name"] == "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    assert asked["file_hash"] in Path(applications.__file__).read_text()

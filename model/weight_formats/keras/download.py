"""Download of Keras' ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import tensorflow.compat.v1 as tf

from model.weight_formats.keras import backbones

# tf.keras.applications.vgg16 of TensorFlow 2.15: WEIGHTS_PATH and its MD5
URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_MD5 = "64373286793e3c8b2b4e3219cbf3544b"


def download(backbone: str = "vgg16", depth_multiplier: float = 1.0) -> str:
    """Return the path of Keras' ImageNet weights of a backbone, which Keras downloads unless they are in its cache.

    Raises:
      ConnectionError: the download failed; the message says what to do instead.
    """
    if backbone == "vgg16":
        url, checksum = URL, _MD5
    else:
        url, checksum = backbones.url(backbone, depth_multiplier), None
    try:
        return tf.keras.utils.get_file(Path(url).name, url, cache_subdir="models", file_hash=checksum)
    except Exception as error:  # Keras raises nothing more specific
        raise ConnectionError(
            f"without --source, Keras' ImageNet weights are downloaded, and that failed: {error}. Give a"
            " file downloaded elsewhere with --source; model/README.md lists the formats"
        ) from error

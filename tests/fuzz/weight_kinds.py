"""Files of weights, and checkpoints."""

import io
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import tensorflow.compat.v1 as tf

from model.weight_formats import keras_backbones, recognise
from tests.builders import weight_files
from tests.builders.checkpoints import save
from tests.fuzz.damage import damaged
from tests.fuzz.kind import Kind
from utility.checkpoints import checkpoint_files

SMALL = weight_files.SMALL
_MOBILENET_WIDTH = 0.25


@cache
def weights(*, full: bool = True) -> weight_files.Weights:
    return weight_files.vgg_weights(SMALL, 1, full=full)


def written(write, *arguments, **options) -> bytes:
    """Return what `write` writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "w", *arguments, **options).read_bytes()


class _Weights(Kind):
    name = "weights"

    @classmethod
    def content(cls, rng):
        return damaged(rng, rng.choice(cls.sources()))

    @classmethod
    def sources(cls) -> Iterable[bytes]:
        raise NotImplementedError

    @staticmethod
    def read(path):
        for name, values in recognise.read(str(path), SMALL).variables.items():
            assert values.dtype == np.float32 and np.isfinite(values).all(), name


class Torch(_Weights):
    @classmethod
    @cache
    def sources(cls):
        arrays = weight_files.torchvision_arrays(weights())
        return [written(write, arrays) for write in weight_files.TORCH_WRITERS.values()]


class Caffe(_Weights):
    @classmethod
    @cache
    def sources(cls):
        full, small = weight_files.caffe_blobs(weights()), weights(full=False)
        return [
            written(weight_files.write_caffe, small),
            written(weight_files.write_caffe, small, double=True),
            written(weight_files.write_caffe, full, old=True),
        ]


class Keras(_Weights):
    @classmethod
    @cache
    def sources(cls):
        whole = written(weight_files.write_keras, weights(), prefix=weight_files.KERAS_SAVED)
        return [*[written(weight_files.write_keras, weights()), whole] * 20, _mobilenet()]


def _mobilenet() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, shape in keras_backbones.shapes_of("mobilenet_v1", _MOBILENET_WIDTH).items():
            layer, kind = name.split("/")
            file[f"{layer}/{layer}/{kind}:0"] = np.ones(shape, np.float32)
    return buffer.getvalue()


class Checkpoints(Kind):
    """The files of a V2 checkpoint, one of which is damaged."""

    name = ""
    may_end_the_process = True
    _version: ClassVar = tf.train.SaverDef.V2

    @classmethod
    @cache
    def _files(cls) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder) / "m.ckpt", _variables(), version=cls._version, global_step=7)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return {**files, "checkpoint": b'model_checkpoint_path: "m.ckpt-7"\nall_model_checkpoint_paths: "m.ckpt-7"\n'}

    @classmethod
    def write(cls, rng, folder):
        files = dict(cls._files())
        name = rng.choice(sorted(files))
        files[name] = damaged(rng, files[name])
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    @staticmethod
    def read(path):
        checkpoint_files.open_checkpoint(checkpoint_files.resolve(str(path)))
        recognise.read(str(path), SMALL)


class V1Checkpoints(Checkpoints):
    _version = tf.train.SaverDef.V1


def _variables() -> dict:
    variables: dict = {"global_step": np.int64(7), "text": np.array([b"abc", b""]), "flag": np.array([[True, False]])}
    for name, (kernel, bias) in weights(full=False).items():
        scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
        variables |= {f"{scope}/weights": kernel.transpose(2, 3, 1, 0), f"{scope}/biases": bias}
    return variables

"""Writers of other projects' weight files, byte by byte, and networks that compute in those files' own layouts."""

import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow.compat.v1 as tf
from numpy.lib.stride_tricks import sliding_window_view

from model.weight_formats.vgg import VggSizes

_ROWS_COLUMNS: Any = (2, 3)  # of maps [1, C, Y, X]; numpy takes a tuple, but its annotation does not

SMALL = VggSizes(stages=((2, 4), (2, 6), (3, 8), (3, 10), (3, 12)), full_fc=32, reduced_fc=8)
"""VGG-16 with few channels, and fc6 and fc7 that are reduced by four as the real ones."""

Weights = dict[str, tuple[np.ndarray, np.ndarray]]
"""Layer -> kernel [O, I, H, W] and bias [O], float32."""


def floats(values) -> np.ndarray:
    """Return values as float32."""
    return np.array(values, np.float32)


def vgg_weights(sizes: VggSizes, seed: int, *, full: bool = True) -> Weights:
    """Draw VGG-16; the deviation keeps the size of the maps from layer to layer."""
    rng = np.random.default_rng(seed)
    shapes = {**sizes.convolutions(), **(sizes.full() if full else sizes.reduced())}
    weights = {}
    for name, (height, width, inputs, outputs) in shapes.items():
        kernel = rng.standard_normal((outputs, inputs, height, width), np.float32)
        kernel *= np.float32(np.sqrt(2 / (height * width * inputs)))
        weights[name] = kernel, rng.standard_normal(outputs, np.float32)
    return weights


# --- networks in the layout of Caffe and PyTorch ------------------------------------------------------------


def conv(maps, kernel, bias, *, pad=0, stride=1, dilation=1):
    """Correlate [1, I, Y, X] with a kernel [O, I, H, W], as Caffe and PyTorch mean it."""
    maps = np.pad(maps, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    height, width = ((side - 1) * dilation + 1 for side in kernel.shape[2:])
    windows = sliding_window_view(maps, (height, width), _ROWS_COLUMNS)
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    found = np.tensordot(windows, kernel, axes=([1, 4, 5], [1, 2, 3]))  # [1, Y, X, O]
    return found.transpose(0, 3, 1, 2) + bias[:, np.newaxis, np.newaxis]


def pool(maps, size, stride, pad=0):
    """Take maxima as Caffe does: as many windows as begin inside, the last ones cut off."""
    rows, columns = (-(-(side + 2 * pad - size) // stride) + 1 for side in maps.shape[2:])
    more_y = (rows - 1) * stride + size - maps.shape[2] - pad
    more_x = (columns - 1) * stride + size - maps.shape[3] - pad
    maps = np.pad(maps, [(0, 0), (0, 0), (pad, more_y), (pad, more_x)], constant_values=-np.inf)
    return sliding_window_view(maps, (size, size), _ROWS_COLUMNS)[:, :, ::stride, ::stride].max((4, 5))


def vgg_maps(image, weights: Weights, sizes: VggSizes) -> dict[str, np.ndarray]:
    """Compute conv1_1, conv4_3, conv5_3 and, with reduced layers, fc7 of an image [1, 3, Y, X], after the ReLU."""
    maps, kept = image, {}
    for stage, (convs, _) in enumerate(sizes.stages, start=1):
        for number in range(1, convs + 1):
            name = f"conv{stage}_{number}"
            maps = kept[name] = np.maximum(conv(maps, *weights[name], pad=1), 0)
        maps = pool(maps, 3, 1, 1) if stage == 5 else pool(maps, 2, 2)
    if "fc6" in weights:
        maps = np.maximum(conv(maps, *weights["fc6"], pad=6, dilation=6), 0)
        kept["fc7"] = np.maximum(conv(maps, *weights["fc7"]), 0)
    return kept


def reduced(weights: Weights) -> Weights:
    """Reduce fc6 and fc7, one number at a time."""
    (fc6, bias6), (fc7, bias7) = weights["fc6"], weights["fc7"]
    small6 = np.zeros((len(fc6) // 4, fc6.shape[1], 3, 3), np.float32)
    for o, i, y, x in np.ndindex(small6.shape):
        small6[o, i, y, x] = fc6[4 * o, i, 3 * y, 3 * x]
    small7 = np.zeros((len(fc7) // 4, len(fc6) // 4, 1, 1), np.float32)
    for o, i in np.ndindex(small7.shape[:2]):
        small7[o, i, 0, 0] = fc7[4 * o, 4 * i, 0, 0]
    return {**weights, "fc6": (small6, bias6[::4]), "fc7": (small7, bias7[::4])}


# --- Keras ---------------------------------------------------------------------------------------------------


def keras_names() -> dict[str, str]:
    convolutions = {f"conv{s}_{n}": f"block{s}_conv{n}" for s in range(1, 6) for n in range(1, 4)}
    return {**convolutions, "fc6": "fc1", "fc7": "fc2"}


def keras_arrays(name: str, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay a layer out as Keras does; a dense layer sees row, column, channel."""
    if name in ("fc6", "fc7"):
        return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel)), bias
    return kernel.transpose(2, 3, 1, 0), bias


def write_keras(path: Path, weights: Weights, prefix: str = "{layer}/{layer}_W_1:0 {layer}/{layer}_b_1:0") -> Path:
    """Write an .h5 file; `prefix` has the paths of kernel and bias in it."""
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in weights.items():
            places = prefix.format(layer=keras_names()[name]).split()
            for place, values in zip(places, keras_arrays(name, kernel, bias), strict=True):
                file[place] = values
    return path


KERAS_SAVED = "model_weights/{layer}/{layer}/kernel:0 model_weights/{layer}/{layer}/bias:0"
"""Paths of kernel and bias in a whole saved model."""


# --- TensorFlow ----------------------------------------------------------------------------------------------


def write_slim(path: Path, weights: Weights) -> Path:
    """Write TF-slim's checkpoint: HWIO, RGB, fc6 as a convolution."""
    variables: dict[str, Any] = {}
    for name, (kernel, bias) in weights.items():
        scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
        variables[f"{scope}/weights"] = kernel.transpose(2, 3, 1, 0)
        variables[f"{scope}/biases"] = bias
    variables["global_step"] = np.int64(3)
    save_checkpoint(path, variables)
    return path


def save_checkpoint(path: Path, variables: Mapping[str, Any]) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        made = [tf.get_variable(name, initializer=value) for name, value in variables.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(made).save(session, str(path), write_meta_graph=False)


# --- PyTorch -------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def a_tuple(items: Iterable[bytes]) -> bytes:
    return b"(" + b"".join(items) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


ORDERED_DICT = named("collections", "OrderedDict") + b")R"


def tensor(key: str, shape, strides, total: int, offset: int = 0, kind: str = "FloatStorage", view=()) -> bytes:
    """Pickle a tensor; `view` has what the older form adds to a storage."""
    storage = a_tuple([text("storage"), named("torch", kind), text(key), text("cpu"), number(total), *view]) + b"Q"
    parts = [storage, number(offset), a_tuple(map(number, shape)), a_tuple(map(number, strides))]
    return named("torch._utils", "_rebuild_tensor_v2") + a_tuple([*parts, b"\x89", ORDERED_DICT]) + b"R"


def pickled(items: Mapping[str, bytes]) -> bytes:
    """Pickle a state dict as PyTorch does, with its _metadata."""
    pairs = b"".join(text(name) + value for name, value in items.items())
    return b"\x80\x02" + ORDERED_DICT + b"(" + pairs + b"u}" + text("_metadata") + ORDERED_DICT + b"sb."


def strides_of(array: np.ndarray) -> list[int]:
    return [stride // array.itemsize for stride in array.copy("C").strides]


def write_torch_zip(path: Path, arrays: Mapping[str, np.ndarray], data: bytes | None = None) -> Path:
    """Write torch.save's zip form; `data` replaces the pickle."""
    items = {
        name: tensor(str(key), array.shape, strides_of(array), array.size)
        for key, (name, array) in enumerate(arrays.items())
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(items) if data is None else data)
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array).tobytes())
        archive.writestr("archive/version", "3\n")
    return path


TORCH_MAGIC = number(0x1950A86A20F9469CFC6C)
MACHINE = b"\x80\x02}(" + text("protocol_version") + number(1001) + text("little_endian") + b"\x88u."


def write_torch_legacy(path: Path, arrays: Mapping[str, np.ndarray], data: bytes | None = None) -> Path:
    """Write torch.save's older form; `data` replaces the pickle of the tensors."""
    items = {
        name: tensor(f"9{key}", array.shape, strides_of(array), array.size, view=[b"N"])
        for key, (name, array) in enumerate(arrays.items())
    }
    with path.open("wb") as file:
        file.write(b"\x80\x02" + TORCH_MAGIC + b"." + b"\x80\x02" + number(1001) + b"." + MACHINE)
        file.write(pickled(items) if data is None else data)
        file.write(b"\x80\x02](" + b"".join(text(f"9{key}") for key in range(len(arrays))) + b"e.")
        for array in arrays.values():
            file.write(array.size.to_bytes(8, "little") + np.ascontiguousarray(array).tobytes())
    return path


TORCH_WRITERS = {"zip": write_torch_zip, "legacy": write_torch_legacy}
TORCH_ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.arange(2, dtype=np.float32),
    "steps": np.arange(1, dtype=np.float32).reshape(()),
}


_CONVOLUTIONS = dict(
    zip(
        [f"conv{s}_{n}" for s, convs in enumerate((2, 2, 3, 3, 3), start=1) for n in range(1, convs + 1)],
        [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
        strict=True,
    )
)


def torchvision_arrays(weights: Weights) -> dict[str, np.ndarray]:
    """Name weights as torchvision's vgg16 does; its linear layers are [O, C * H * W]."""
    modules = {name: f"features.{index}" for name, index in _CONVOLUTIONS.items()}
    modules |= {"fc6": "classifier.0", "fc7": "classifier.3"}
    arrays = {}
    for name, (kernel, bias) in weights.items():
        linear = name in ("fc6", "fc7")
        arrays[f"{modules[name]}.weight"] = kernel.reshape(len(kernel), -1) if linear else kernel
        arrays[f"{modules[name]}.bias"] = bias
    return arrays


def ports_arrays(weights: Weights) -> dict[str, np.ndarray]:
    """Name reduced weights as vgg16_reducedfc.pth does."""
    modules = {**_CONVOLUTIONS, "fc6": 31, "fc7": 33}
    names = [(f"{modules[name]}.weight", f"{modules[name]}.bias") for name in weights]
    return {
        name: array
        for pair, arrays in zip(names, weights.values(), strict=True)
        for name, array in zip(pair, arrays, strict=True)
    }


# --- Caffe ---------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(tag: int, value: bytes | int) -> bytes:
    """Encode one field of a protobuf message."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value)
    return varint(tag << 3 | 2) + varint(len(value)) + value


def blob(array: np.ndarray, *, old: bool, double: bool = False) -> bytes:
    """Encode a BlobProto: `old` with num, channels, height and width, else with a shape."""
    if old:
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(tag, side) for tag, side in enumerate(sides, start=1))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    numbers = field(8, array.astype("<f8").tobytes()) if double else field(5, array.astype("<f4").tobytes())
    return shape + numbers


def write_caffe(
    path: Path, blobs: Mapping[str, Iterable[np.ndarray]], *, old: bool = False, double: bool = False
) -> Path:
    """Write a caffemodel: `old` with V1 layers. Between the layers stand some without weights."""
    name_tag, blobs_tag, layer_tag = (4, 6, 2) if old else (1, 7, 100)
    with path.open("wb") as file:
        file.write(field(1, b"VGG_ILSVRC_16_layers"))
        for name, arrays in blobs.items():
            kind = field(5, 4) if old else field(2, b"Convolution")
            numbers = b"".join(field(blobs_tag, blob(array, old=old, double=double)) for array in arrays)
            file.write(field(layer_tag, field(name_tag, name.encode()) + kind + numbers))
            file.write(field(layer_tag, field(name_tag, f"relu_{name}".encode())))
    return path


def caffe_blobs(weights: Weights) -> dict[str, list[np.ndarray]]:
    """Return blobs as in a full caffemodel, whose fc6 and fc7 are [O, C * H * W]."""
    return {
        name: [kernel.reshape(len(kernel), -1) if name in ("fc6", "fc7") else kernel, bias]
        for name, (kernel, bias) in weights.items()
    }


SSD_MAPS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
SSD_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD_EXTRAS = {
    "conv6": (256, 512, 2, 1),
    "conv7": (128, 256, 2, 1),
    "conv8": (128, 256, 1, 0),
    "conv9": (128, 256, 1, 0),
}
"""Layer -> bottleneck, filters, stride and padding."""


def ssd_blobs(classes: int = 21) -> dict[str, list[np.ndarray]]:
    """Draw a whole SSD300 in Caffe's layout."""
    rng = np.random.default_rng(11)
    blobs = {name: list(layer) for name, layer in vgg_weights(VggSizes(), 10, full=False).items()}
    blobs["conv1_1"][0] = blobs["conv1_1"][0] / 64

    def draw(name, outputs, inputs, kernel, gain=2.0):
        values = rng.standard_normal((outputs, inputs, kernel, kernel), np.float32)
        values *= floats(math.sqrt(gain / (inputs * kernel * kernel)))
        blobs[name] = [values, 0.1 * rng.standard_normal(outputs, np.float32)]

    blobs["conv4_3_norm"] = [20 + rng.standard_normal(512, np.float32)]
    channels = [512, 1024]
    for name, (bottleneck, filters, _, _) in SSD_EXTRAS.items():
        draw(f"{name}_1", bottleneck, channels[-1], 1)
        draw(f"{name}_2", filters, bottleneck, 3)
        channels.append(filters)
    for name, inputs, ratios in zip(SSD_MAPS, channels, SSD_RATIOS, strict=True):
        boxes = 2 + 2 * len(ratios)
        draw(f"{name}_mbox_loc", boxes * 4, inputs, 3, 0.5)
        draw(f"{name}_mbox_conf", boxes * classes, inputs, 3, 0.5)
    return blobs


# --- all formats ---------------------------------------------------------------------------------------------


def _write_full_caffe(path: Path, weights: Weights, **options) -> Path:
    return write_caffe(path, caffe_blobs(weights), **options)


VGG_WRITERS: dict[str, tuple[Callable[..., Path], str]] = {
    "keras": (write_keras, "bgr"),
    "keras model": (partial(write_keras, prefix=KERAS_SAVED), "bgr"),
    "slim": (write_slim, "rgb"),
    "torchvision zip": (lambda p, w: write_torch_zip(p, torchvision_arrays(w)), "torchvision"),
    "torchvision legacy": (lambda p, w: write_torch_legacy(p, torchvision_arrays(w)), "torchvision"),
    "ports zip": (lambda p, w: write_torch_zip(p, ports_arrays(reduced(w))), "rgb"),
    "ports legacy": (lambda p, w: write_torch_legacy(p, ports_arrays(reduced(w))), "rgb"),
    "caffe": (_write_full_caffe, "bgr"),
    "caffe V1": (partial(_write_full_caffe, old=True), "bgr"),
    "caffe doubles": (partial(_write_full_caffe, double=True), "bgr"),
    "caffe reduced": (lambda p, w: write_caffe(p, reduced(w)), "bgr"),
}
"""Format -> writer, and the preprocessing that the network of that format expects."""

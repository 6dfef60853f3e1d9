"""VGG-16 for SSD: converts kernel layouts, reduces fc6 and fc7, and folds the preprocessing into conv1_1.

Kernels are HWIO (height, width, input channel, output channel) as in TensorFlow. Caffe and PyTorch use OIHW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.weight_formats.inputs import InputConvention, fold
from utility.errors import UserError
from utility.files.text_files import shortened

FULLY_CONNECTED = ("fc6", "fc7")


@dataclass(frozen=True)
class VggSizes:
    """Channels of VGG-16 (arXiv 1409.1556, table 1, column D) and of its reduced form; tests use fewer."""

    stages: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convs, filters
    full_fc: int = 4096  # outputs of fc6 and of fc7, as trained on ImageNet
    reduced_fc: int = 1024

    @property
    def last_filters(self) -> int:
        """Channels of conv5_3, the input of fc6."""
        return self.stages[-1][1]

    def convolutions(self) -> dict[str, tuple[int, ...]]:
        """Return layer -> kernel shape [H, W, I, O] of conv1_1 to conv5_3, in network order."""
        shapes: dict[str, tuple[int, ...]] = {}
        channels = 3
        for stage, (convs, filters) in enumerate(self.stages, start=1):
            for number in range(1, convs + 1):
                shapes[f"conv{stage}_{number}"] = (3, 3, channels, filters)
                channels = filters
        return shapes

    def full(self) -> dict[str, tuple[int, ...]]:
        """Return layer -> kernel shape of fc6 and fc7 as trained on ImageNet."""
        return {"fc6": (7, 7, self.last_filters, self.full_fc), "fc7": (1, 1, self.full_fc, self.full_fc)}

    def reduced(self) -> dict[str, tuple[int, ...]]:
        """Return layer -> kernel shape of fc6 and fc7 in SSD."""
        return {
            "fc6": (3, 3, self.last_filters, self.reduced_fc),
            "fc7": (1, 1, self.reduced_fc, self.reduced_fc),
        }

    def check(self, layer: str, kernel: tuple[int, ...], bias: tuple[int, ...]) -> None:
        """Raise a UserError if a layer, given by the shapes in its file, has more numbers than VGG-16's.

        For use before it is read; whether the shapes are the right ones is seen afterwards, in this project's layout.
        """
        shapes = [shapes[layer] for shapes in (self.convolutions(), self.full(), self.reduced()) if layer in shapes]
        most = max(map(math.prod, shapes)), max(shape[-1] for shape in shapes)
        if math.prod(kernel) > most[0] or math.prod(bias) > most[1]:
            raise UserError(
                f"{layer} has a kernel of {shortened(kernel)} and a bias of {shortened(bias)} in the file, but VGG-16's"
                f" have {most[0]:,} and {most[1]:,} numbers"
            )


VGG16 = VggSizes()


class Layer(NamedTuple):
    """A convolution's weights: kernel [height, width, in, out] and bias [out], of any float type."""

    kernel: np.ndarray
    bias: np.ndarray


class VggSource(NamedTuple):
    """VGG-16 in a file. Each layer is read on demand, because a full fc6 alone has 411 MB."""

    description: str  # such as "TF-slim's VGG-16"
    layers: Mapping[str, Callable[[], Layer]]  # conv1_1, ..., fc7 -> reads its weights
    inputs: Callable[[np.ndarray], InputConvention]  # kernel of conv1_1 -> its preprocessing


class Converted(NamedTuple):
    """VGG-16 for SSD, float32, and notes for the log on what was converted."""

    layers: dict[str, Layer]
    notes: list[str]


def convert(source: VggSource, means_rgb: Sequence[float], sizes: VggSizes = VGG16) -> Converted:
    """Read all layers, reduce fc6 and fc7 where they are full, and fold the source's preprocessing into conv1_1.

    Args:
      source: the file's layers. fc6 and fc7 may both be absent, or all NaN as in torchvision's features-only file.
      means_rgb: grey levels that this project subtracts from its input.
      sizes: the expected channels.

    Raises:
      UserError: a layer is missing, has another shape, or holds values that are not finite.
    """
    _check_complete(source.layers, sizes)
    layers, notes = {}, []
    for name, shape in sizes.convolutions().items():
        layers[name] = _finite(name, _checked(name, source.layers[name](), [shape]))
    inputs = source.inputs(layers["conv1_1"].kernel)
    layers["conv1_1"] = Layer(*fold(*layers["conv1_1"], inputs, means_rgb))
    notes.append(f"conv1_1 expected {inputs.description}; now BGR minus {_bgr(means_rgb)}")
    connected, reduced = _fully_connected(source, sizes)
    if not connected:
        notes.append("it has no fc6 and fc7: in training they start at random")
    elif reduced:
        notes.append("fc6 and fc7 reduced: every third position, every fourth output")
    layers.update(connected)
    return Converted({name: _as_float32(layer) for name, layer in layers.items()}, notes)


def _bgr(means_rgb: Sequence[float]) -> str:
    return ", ".join(f"{mean:g}" for mean in reversed(means_rgb))


def _check_complete(layers: Mapping[str, object], sizes: VggSizes) -> None:
    missing = [name for name in sizes.convolutions() if name not in layers]
    if missing:
        raise UserError(f"it lacks VGG-16's {missing[0]} ({len(missing)} layers are missing)")
    if ("fc6" in layers) != ("fc7" in layers):
        raise UserError("it has only one of fc6 and fc7")


def _checked(name: str, layer: Layer, shapes: Sequence[tuple[int, ...]]) -> Layer:
    for values in layer:
        if values.dtype.kind != "f":
            raise UserError(f"{name} holds {shortened(str(values.dtype))}, and weights are floating-point numbers")
    if layer.kernel.shape not in shapes or layer.bias.shape != layer.kernel.shape[-1:]:
        expected = " or ".join(str(shape) for shape in shapes)
        kernel, bias = shortened(layer.kernel.shape), shortened(layer.bias.shape)
        raise UserError(
            f"{name} has a kernel of {kernel} and a bias of {bias} (height, width, inputs, outputs), but VGG-16's is"
            f" {expected}"
        )
    return layer


def _finite(name: str, layer: Layer) -> Layer:
    if not (np.isfinite(layer.kernel).all() and np.isfinite(layer.bias).all()):
        raise UserError(f"{name} holds values that are infinite or not a number")
    return layer


def _fully_connected(source: VggSource, sizes: VggSizes) -> tuple[dict[str, Layer], bool]:
    """Return fc6 and fc7 in their reduced form, or {} if the file has none, and whether they were full."""
    layers, reduced = {}, False
    for name in FULLY_CONNECTED:
        if name not in source.layers:
            return {}, False
        full, small = sizes.full()[name], sizes.reduced()[name]
        layer = _checked(name, source.layers[name](), [full, small])
        if layer.kernel.shape == full:
            layer, reduced = reduce(name, layer, sizes.full_fc // sizes.reduced_fc), True
        if np.isnan(layer.kernel).all():
            return {}, False
        layers[name] = _as_float32(_finite(name, layer))
    return layers, reduced


def reduce(name: str, layer: Layer, step: int) -> Layer:
    """Subsample a full fc6 or fc7 as DeepLab-LargeFOV and ParseNet do; SSD paper, section 3, "base network".

    fc6 [7, 7, 512, 4096] keeps every third position, for which its dilation compensates, and every `step`-th output;
    fc7 [1, 1, 4096, 4096] keeps the inputs that match fc6's remaining outputs, and every `step`-th output.
    """
    if name == "fc6":
        return Layer(layer.kernel[::3, ::3, :, ::step], layer.bias[::step])
    return Layer(layer.kernel[:, :, ::step, ::step], layer.bias[::step])


def _as_float32(layer: Layer) -> Layer:
    return Layer(*(np.ascontiguousarray(values, dtype=np.float32) for values in layer))


def from_oihw(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return a view of a Caffe or PyTorch kernel as HWIO.

    Args:
      kernel: [O, I, H, W], or [O, I * H * W] of a fully connected layer.
      channels: I.
    """
    if kernel.ndim == 2:
        side = _side(kernel.shape[1], channels)
        kernel = kernel.reshape(-1, channels, side, side)
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel


def from_keras_dense(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return a view of a Keras dense kernel [H * W * I, O] as HWIO; `channels` is I."""
    side = _side(kernel.shape[0], channels)
    return kernel.reshape(side, side, channels, -1)


def _side(inputs: int, channels: int) -> int:
    """Return the side of a square feature map with that many values in all, or raise a UserError."""
    side = math.isqrt(inputs // channels) if channels else 0
    if not side or side * side * channels != inputs:
        raise UserError(f"a fully connected layer has {inputs} inputs, which is no square map of {channels} channels")
    return side

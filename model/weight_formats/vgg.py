"""VGG-16 for SSD from the files of Keras, TF-slim, PyTorch and Caffe.

Kernels are HWIO (height, width, input channel, output channel) as in TensorFlow. Caffe and PyTorch use OIHW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utility.config.settings import Config, NetworkConfig
from utility.errors import UserError
from utility.files.text_files import shortened

Arrays = Mapping[str, np.ndarray]
FULLY_CONNECTED = ("fc6", "fc7")


@dataclass(frozen=True)
class VggSizes:
    """Channels of VGG-16 (arXiv 1409.1556, table 1, column D) and of its reduced form; tests use fewer."""

    stages: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convs, filters
    full_fc: int = 4096  # outputs of fc6 and of fc7, as trained on ImageNet
    reduced_fc: int = 1024

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
        return {"fc6": (7, 7, self.stages[-1][1], self.full_fc), "fc7": (1, 1, self.full_fc, self.full_fc)}

    def reduced(self) -> dict[str, tuple[int, ...]]:
        """Return layer -> kernel shape of fc6 and fc7 in SSD."""
        return {"fc6": (3, 3, self.stages[-1][1], self.reduced_fc), "fc7": (1, 1, self.reduced_fc, self.reduced_fc)}


VGG16 = VggSizes()


class Imported(NamedTuple):
    """Variables of a file under the reference's names, and what the log says about their conversion."""

    description: str
    variables: dict[str, np.ndarray]
    notes: list[str]
    config: Config | None = None  # for a whole detector
    backbone: str = "vgg16"
    depth_multiplier: float = 1.0


def check(arrays: Arrays, expected: Mapping[str, Sequence[tuple[int, ...]]], network: str) -> None:
    """Raise a UserError unless the arrays are a network's: all there, floating-point, each of one of its shapes."""
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise UserError(f"{network}'s {missing[0]} is not in it ({len(missing)} of {len(expected)} arrays are missing)")
    for name, array in arrays.items():
        if name not in expected:
            raise UserError(f"it has a {shortened(name)}, which {network} has not")
        if array.dtype.kind != "f":
            raise UserError(f"its {name} holds {array.dtype}, and weights are floating-point numbers")
        if array.shape not in expected[name]:
            shapes = " or ".join(map(str, expected[name]))
            raise UserError(f"its {name} has the shape {shortened(array.shape)}, but {network}'s is {shapes}")


MEANS_RGB = NetworkConfig().channel_means_rgb


class InputConvention(NamedTuple):
    """A source's preprocessing: its channel order, and (grey level - mean) * scale for each channel."""

    description: str
    order: str  # "rgb" or "bgr"
    means_rgb: tuple[float, float, float]
    scales_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def note(self, layer: str) -> str:
        """Return what the log says about a first layer that `fold` has adapted."""
        return f"{layer} expected {self.description}; now BGR minus {', '.join(f'{m:g}' for m in MEANS_RGB[::-1])}"


# The original VGG-16 has 123.68, 116.779, 103.939; this project rounds them.
_VGG_MEANS = (123.68, 116.78, 103.94)
CAFFE_BGR = InputConvention("BGR minus VGG's means", "bgr", _VGG_MEANS)
CAFFE_RGB = InputConvention("RGB minus VGG's means", "rgb", _VGG_MEANS)

# torchvision.transforms.Normalize(mean=(.485, .456, .406), std=(.229, .224, .225)) on RGB / 255
_MEANS, _SCALES = (0.485 * 255, 0.456 * 255, 0.406 * 255), (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255))
_NORMALIZED = "RGB / 255, normalized by torchvision's means and deviations"
TORCHVISION = InputConvention(_NORMALIZED, "rgb", _MEANS, _SCALES)

# Top row of the first conv1_1 filter of the original VGG-16: position after position, each with B, G, R.
# The files of Keras, TF-slim and the PyTorch SSD ports hold the same weights, some with the channels reversed.
_BGR = (0.42947057, 0.55037946, 0.4800154, 0.3734673, 0.44007453, 0.4085474, -0.06136011, -0.08138704, -0.06514555)
_VGG_FILTER_BGR = np.reshape(_BGR, (3, 3))
_TOLERANCE = 0.01  # below the difference of 0.05 between blue and red


def fold(kernel: np.ndarray, bias: np.ndarray, inputs: InputConvention) -> tuple[np.ndarray, np.ndarray]:
    """Adapt a first layer's kernel [H, W, 3, O] and bias [O], trained with `inputs`, to BGR minus this project's means.

    With V = W * scales, convolving (grey level - source's means) * scales with W and bias b equals convolving grey
    level - project's means with V and bias b + sum(V * (project's means - source's means)). That is exact but for the
    outermost pixels: the zeros that pad the two images stand for grey levels that differ as the means do.

    Returns float64; unchanged values where channel order, means and scales are the same.
    """
    reverse = slice(None, None, -1)
    kernel = kernel.astype(np.float64)
    kernel = kernel[:, :, reverse] if inputs.order == "rgb" else kernel
    kernel = kernel * np.array(inputs.scales_rgb[reverse])[:, np.newaxis]
    shift_bgr = np.subtract(MEANS_RGB, inputs.means_rgb)[reverse]
    return kernel, bias + np.einsum("hwio,i->o", kernel, shift_bgr)


def hwio(kernel: np.ndarray, *, oihw: bool, channels: int | None = None) -> np.ndarray:
    """Return a view of a kernel as HWIO; one of another form as it is, for the check of the shapes to refuse.

    In Caffe and PyTorch (`oihw`) it is [O, I, H, W] or, of a fully connected layer, [O, I * H * W]; elsewhere HWIO or
    [H * W * I, O]. `channels` is I of a fully connected layer, whose map is square; None if that has one position.
    """
    if kernel.ndim == 2:
        inputs = kernel.shape[1 if oihw else 0]
        channels = channels or inputs
        side = math.isqrt(inputs // channels)
        if side * side * channels != inputs:
            return kernel
        kernel = kernel.reshape(-1, channels, side, side) if oihw else kernel.reshape(side, side, channels, -1)
    return kernel.transpose(2, 3, 1, 0) if oihw and kernel.ndim == 4 else kernel


class _Format(NamedTuple):
    description: str
    names: dict[str, str]  # layer -> its name in the file
    kernel: str  # what follows that name
    bias: str
    others: str  # a pattern of kernels of which a file has no others than VGG-16's
    inputs: InputConvention


def _formats(sizes: VggSizes) -> dict[str, _Format]:
    """Return how each project names VGG-16's layers, and what it trains conv1_1 with."""
    convolutions = list(sizes.convolutions())
    keras = {layer: f"block{layer[4]}_conv{layer[6]}" for layer in convolutions} | {"fc6": "fc1", "fc7": "fc2"}
    slim = {layer: _variable(layer, "") for layer in (*convolutions, *FULLY_CONNECTED)}
    caffe = {layer: layer for layer in slim}
    # In nn.Sequential each layer is followed by a ReLU, each stage by a pooling: conv1_1 is 0, conv1_2 2, conv2_1 5.
    indices = {layer: 2 * place + int(layer[4]) - 1 for place, layer in enumerate(convolutions)}
    # torchvision's classifier is Linear, ReLU, Dropout, Linear, ReLU, Dropout, Linear
    torchvision = {layer: f"features.{index}" for layer, index in indices.items()}
    torchvision |= {"fc6": "classifier.0", "fc7": "classifier.3"}
    last = indices[convolutions[-1]]  # after conv5_3 and its ReLU come pool5, fc6, a ReLU and fc7
    ports = {layer: str(index) for layer, index in {**indices, "fc6": last + 3, "fc7": last + 5}.items()}
    reduced = "the reduced VGG-16 of PyTorch's SSD ports"
    slim_kernels, torch_kernels = r"vgg_16/conv\d/conv\d_\d/weights", r"features\.\d+\.weight"
    return {
        "Keras": _Format("Keras' VGG16", keras, "/kernel", "/bias", r"block\d_conv\d/kernel", CAFFE_BGR),
        "TF-slim": _Format("TF-slim's VGG-16", slim, "weights", "biases", slim_kernels, CAFFE_RGB),
        "Caffe": _Format("Caffe's VGG-16", caffe, "/0", "/1", r"conv[1-5]_\d/0", CAFFE_BGR),
        "torchvision": _Format("torchvision's VGG-16", torchvision, ".weight", ".bias", torch_kernels, TORCHVISION),
        # ssd.pytorch and its descendants convert OpenCV's BGR to RGB
        "ports": _Format(reduced, ports, ".weight", ".bias", r"\d+\.weight", CAFFE_RGB),
    }


def _variable(layer: str, part: str) -> str:
    """Return the name of a variable in the checkpoints of TF-slim and of the reference."""
    return f"vgg_16/{layer}/{part}" if layer in FULLY_CONNECTED else f"vgg_16/{layer.split('_', 1)[0]}/{layer}/{part}"


def convert(arrays: Arrays, sizes: VggSizes = VGG16) -> Imported | None:
    """Return VGG-16 with reduced fc6 and fc7, for this project's input; None for another network.

    A full fc6 [7, 7, 512, 4096] keeps every third position, for which its dilation compensates, and every fourth
    output; fc7 the inputs that match, and every fourth output: as DeepLab-LargeFOV and ParseNet do, and the SSD paper,
    section 3. In the file, both may be absent, or all NaN as in torchvision's features-only file. A UserError if a
    layer is missing, of another shape or type, or none of VGG-16's.
    """
    formats = _formats(sizes).items()
    project, found = next((item for item in formats if item[1].names["conv1_1"] + item[1].kernel in arrays), ("", None))
    if found is None:
        return None
    layers: dict[str, np.ndarray] = {}
    for layer, name in found.names.items():
        if f"{name}{found.kernel}" in arrays:
            oihw, channels = project not in ("Keras", "TF-slim"), sizes.stages[-1][1] if layer == "fc6" else None
            layers[f"{layer}/kernel"] = hwio(arrays[f"{name}{found.kernel}"], oihw=oihw, channels=channels)
        if f"{name}{found.bias}" in arrays:
            layers[f"{layer}/bias"] = arrays[f"{name}{found.bias}"]
    known = {f"{name}{found.kernel}" for name in found.names.values()}
    others = sorted(name for name in arrays if re.fullmatch(found.others, name) and name not in known)
    if others:
        raise UserError(f"no VGG-16, or one with batch normalization: it has a {others[0]}")
    connected = FULLY_CONNECTED if {"fc6/kernel", "fc7/kernel"} & set(layers) else ()
    if project == "TF-slim" and not connected:
        raise UserError(
            "it has no vgg_16/fc6, whose shape distinguishes TF-slim's RGB weights from BGR weights; a checkpoint"
            " that this importer wrote needs no import"
        )
    full, reduced = sizes.full(), sizes.reduced()
    shapes = {layer: [shape] for layer, shape in sizes.convolutions().items()}
    shapes |= {layer: [full[layer], reduced[layer]] for layer in connected}
    expected = {f"{layer}/kernel": kernels for layer, kernels in shapes.items()}
    expected |= {f"{layer}/bias": [kernel[-1:] for kernel in kernels] for layer, kernels in shapes.items()}
    check(layers, expected, "VGG-16")

    description, inputs = found.description, found.inputs
    is_full = bool(connected) and layers["fc6/kernel"].shape == full["fc6"]
    if project == "Keras":
        description += " with top" if connected else " without top"
    elif project == "TF-slim" and not is_full:  # it comes from this importer or from HiKapok/SSD.TensorFlow
        description, inputs = "a reduced VGG-16 with the reference's names", CAFFE_BGR
    elif project in ("torchvision", "ports"):
        # torchvision's IMAGENET1K_FEATURES holds the original weights, as do most files of the SSD ports
        first_row = layers["conv1_1/kernel"][0, :, :, 0]
        for original, row in ((CAFFE_BGR, _VGG_FILTER_BGR), (CAFFE_RGB, _VGG_FILTER_BGR[:, ::-1])):
            if np.abs(first_row - row).max() < _TOLERANCE:
                inputs = original
    notes = [inputs.note("conv1_1")]
    if connected and np.isnan(layers["fc6/kernel"]).all():
        connected = ()
    if not connected:
        notes.append("it has no fc6 and fc7: in training they start at random")
    elif is_full:
        notes.append("fc6 and fc7 reduced: every third position, every fourth output")

    variables: dict[str, np.ndarray] = {}
    step = sizes.full_fc // sizes.reduced_fc
    for layer in (*sizes.convolutions(), *connected):
        kernel, bias = layers[f"{layer}/kernel"], layers[f"{layer}/bias"]
        if layer == "conv1_1":
            kernel, bias = fold(kernel, bias, inputs)
        if layer in connected and kernel.shape == full[layer]:
            kernel = kernel[::3, ::3, :, ::step] if layer == "fc6" else kernel[:, :, ::step, ::step]
            bias = bias[::step]
        variables |= {_variable(layer, "weights"): kernel, _variable(layer, "biases"): bias}
    return Imported(description, variables, notes)

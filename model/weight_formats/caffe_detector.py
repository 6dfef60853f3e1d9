"""Caffe's whole SSD300 for the classes of VOC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset.sources.labels import VOC_CLASSES
from model.weight_formats.vgg import VGG16, Arrays, Imported, VggSizes, check, hwio
from utility.config.feature_maps import boxes_per_cell
from utility.config.presets import preset
from utility.errors import UserError

_HEADS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")  # in the order of the feature maps


def convert(blobs: Arrays, sizes: VggSizes = VGG16) -> Imported | None:
    """Return Caffe's SSD300 with the config that it needs; None for another network.

    Variables are under this project's names, with a global step of 0. The outputs of the heads are reordered from
    Caffe's order of boxes and coordinates to this project's. A UserError if it is no SSD300 for the classes of VOC.
    """
    if f"{_HEADS[0]}_mbox_loc/0" not in blobs:
        return None
    config = preset("ssd300_caffe").replace({"class_names": VOC_CLASSES})
    if "conv10_2_mbox_loc/0" in blobs:
        raise UserError("no SSD300: it has a conv10_2_mbox_loc")
    per_cell = boxes_per_cell(config.anchors)
    outputs = getattr(blobs.get(f"{_HEADS[0]}_mbox_conf/1"), "size", 0)
    if outputs not in (0, per_cell[0] * config.num_classes):
        raise UserError(
            f"an SSD300 for {outputs / per_cell[0]:g} classes, background included; only the models for VOC, with"
            f" {config.num_classes}, can be imported, because the default boxes of others differ"
        )

    # This project's layer -> Caffe's name of it, and its kernel shape [H, W, I, O]
    layers = {f"{name.split('_')[0]}/{name}": (name, shape) for name, shape in sizes.convolutions().items()}
    layers |= {name: (name, shape) for name, shape in sizes.reduced().items()}
    channels = [sizes.stages[3][1], sizes.reduced_fc]  # of the feature maps
    for number, extra in enumerate(config.network.extra_layers, start=8):
        name, caffe_name = f"additional_layers/conv{number}/conv{number}", f"conv{number - 2}"
        layers[f"{name}_1"] = f"{caffe_name}_1", (1, 1, channels[-1], extra.bottleneck)
        layers[f"{name}_2"] = f"{caffe_name}_2", (extra.kernel, extra.kernel, extra.bottleneck, extra.filters)
        channels.append(extra.filters)
    for index, (name, inputs, boxes) in enumerate(zip(_HEADS, channels, per_cell, strict=True)):
        layers[f"multibox_head/loc_{index}"] = f"{name}_mbox_loc", (3, 3, inputs, boxes * 4)
        layers[f"multibox_head/cls_{index}"] = f"{name}_mbox_conf", (3, 3, inputs, boxes * config.num_classes)

    variables: dict[str, np.ndarray] = {}
    expected: dict[str, list[tuple[int, ...]]] = {}
    for layer, (caffe_name, shape) in layers.items():
        expected |= {f"{layer}/kernel": [shape], f"{layer}/bias": [shape[-1:]]}
        if f"{caffe_name}/0" in blobs:
            variables[f"{layer}/kernel"] = hwio(blobs[f"{caffe_name}/0"], oihw=True)
        if f"{caffe_name}/1" in blobs:
            variables[f"{layer}/bias"] = blobs[f"{caffe_name}/1"]
    expected["conv4_3_scale/weights"] = [(channels[0],)]
    if f"{_HEADS[0]}/0" in blobs:
        variables["conv4_3_scale/weights"] = blobs[f"{_HEADS[0]}/0"].reshape(-1)
    check(variables, expected, "SSD300")

    for index, ratios in enumerate(config.anchors.ratios):
        # Caffe's CENTER_SIZE offsets are x, y, width, height; this project's are y, x, height, width
        for head, parts in ((f"loc_{index}", [1, 0, 3, 2]), (f"cls_{index}", list(range(config.num_classes)))):
            order = box_order(ratios)
            of_box = np.arange(len(order) * len(parts)).reshape(len(order), -1)
            for kind in ("kernel", "bias"):
                name = f"multibox_head/{head}/{kind}"
                variables[name] = variables[name][..., of_box[order][:, parts].reshape(-1)]
    variables = {f"ssd300/{name}": values for name, values in variables.items()}
    notes = [
        "boxes and their coordinates reordered to this project's order",
        "its config.json has Caffe's padding, default boxes and means: keep it beside the checkpoint",
    ]
    return Imported("Caffe's SSD300 for VOC", {**variables, "global_step": np.array(0, np.int64)}, notes, config)


def box_order(ratios: Sequence[float]) -> list[int]:
    """Return, for each default box of a cell in this project's order, its index in Caffe's order.

    Caffe's PriorBoxLayer: the square of side min_size, the extra square of side sqrt(min_size * max_size), then each
    ratio above 1 followed by its inverse (flip). This project: the extra square, then the ratios in their order.
    """
    caffe = [1, "extra", *(box for ratio in ratios if ratio > 1 for box in (ratio, 1 / ratio))]
    return [caffe.index(box) for box in ("extra", *ratios)]

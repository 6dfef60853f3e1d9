"""A whole SSD300 of Caffe, against a computation in Caffe's own layout."""

import json
import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import caffe_detector, recognise
from net.default_boxes import default_boxes
from net.matching import decode
from net.ssd_net import ssd_network
from tests.builders import weight_files as files
from tests.builders.weight_files import SSD_EXTRAS, SSD_MAPS, SSD_RATIOS
from utility.config import checks, config_file
from utility.config.feature_maps import feature_maps
from utility.errors import UserError

MIN_SIZES, MAX_SIZES = (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315)

STEPS = (8, 16, 32, 64, 100, 300)


def caffe_forward(image, blobs):
    """Run Caffe's SSD300 on [1, 3, 300, 300]: mbox_loc [K, 4] and mbox_conf [K, 21] in Caffe's order."""
    vgg = files.vgg_maps(image, {n: b for n, b in blobs.items() if len(b) == 2}, files.VggSizes())
    norm = np.sqrt((vgg["conv4_3"] ** 2).sum(1, keepdims=True) + 1e-10)
    maps = [vgg["conv4_3"] / norm * blobs["conv4_3_norm"][0][:, None, None], vgg["fc7"]]
    for name, (_, _, stride, pad) in SSD_EXTRAS.items():
        inner = np.maximum(files.conv(maps[-1], *blobs[f"{name}_1"]), 0)
        maps.append(np.maximum(files.conv(inner, *blobs[f"{name}_2"], pad=pad, stride=stride), 0))
    loc, conf = [], []
    for name, values in zip(SSD_MAPS, maps, strict=True):  # Permute (0, 2, 3, 1), Flatten, Concat
        loc.append(files.conv(values, *blobs[f"{name}_mbox_loc"], pad=1).transpose(0, 2, 3, 1).reshape(-1, 4))
        conf.append(files.conv(values, *blobs[f"{name}_mbox_conf"], pad=1).transpose(0, 2, 3, 1).reshape(-1, 21))
    return np.concatenate(loc), np.concatenate(conf)


def caffe_priors():
    """Make PriorBoxLayer's boxes, [K, 4] of centre x, centre y, width, height in parts of the image."""
    priors = []
    for side, step, small, large, ratios in zip(
        (38, 19, 10, 5, 3, 1), STEPS, MIN_SIZES, MAX_SIZES, SSD_RATIOS, strict=True
    ):
        for h in range(side):
            for w in range(side):
                x, y = (w + 0.5) * step / 300, (h + 0.5) * step / 300
                priors.append((x, y, small / 300, small / 300))
                priors.append((x, y, math.sqrt(small * large) / 300, math.sqrt(small * large) / 300))
                for given in ratios:
                    for ratio in (given, 1 / given):
                        priors.append((x, y, small * math.sqrt(ratio) / 300, small / math.sqrt(ratio) / 300))
    return np.array(priors)


def caffe_boxes(loc, priors):
    """Decode as DecodeBBox does with CENTER_SIZE and variances .1 .1 .2 .2: [K, 4] of ymin, xmin, ymax, xmax."""
    center = 0.1 * loc[:, :2] * priors[:, 2:] + priors[:, :2]
    size = np.exp(0.2 * loc[:, 2:]) * priors[:, 2:]
    return np.concatenate([center - size / 2, center + size / 2], 1)[:, [1, 0, 3, 2]]


@pytest.fixture(scope="module")
def caffe_ssd(tmp_path_factory):
    blobs = files.ssd_blobs()
    return files.write_caffe(tmp_path_factory.mktemp("caffe") / "ssd.caffemodel", blobs), blobs


@pytest.fixture(scope="module")
def imported(caffe_ssd):
    return recognise.read(str(caffe_ssd[0]))


def test_a_whole_ssd_detects_what_caffe_detects(caffe_ssd, imported, tmp_path):
    image = np.random.default_rng(3).uniform(-110, 130, (1, 300, 300, 3)).astype(np.float32)  # BGR minus means
    loc, conf = caffe_forward(image.transpose(0, 3, 1, 2), caffe_ssd[1])
    priors = caffe_priors()
    recognise.write(str(tmp_path / "model.ckpt"), imported.variables)
    config_file.save(imported.config, str(tmp_path))
    config = config_file.load(str(tmp_path))
    assert config is not None
    boxes, logits = forward(image, config, str(tmp_path))

    boxes_xywh = default_boxes(config).cyxhw[:, [1, 0, 3, 2]]
    places = {tuple(prior): index for index, prior in enumerate(np.round(priors, 5))}
    index = [places[tuple(box)] for box in np.round(boxes_xywh.astype(np.float64), 5)]  # by coordinates
    assert sorted(index) == list(range(8732))
    np.testing.assert_allclose(logits, conf[index], rtol=1e-3, atol=1e-3 * conf.std())
    np.testing.assert_allclose(boxes, caffe_boxes(loc, priors)[index], rtol=1e-3, atol=1e-4)


def forward(image, config, directory):
    with tf.Graph().as_default(), tf.Session() as session:
        output = ssd_network(tf.constant(image), config, "channels_last")
        boxes = decode(output.offsets, default_boxes(config))
        tf.train.Saver().restore(session, tf.train.latest_checkpoint(directory))
        boxes, logits = session.run([boxes[0], output.logits[0]])
    return boxes, logits


def test_the_checkpoint_has_the_references_names_and_shapes(imported, golden):
    expected = {v["name"]: tuple(v["shape"]) for v in json.loads((golden / "network.json").read_text())["variables"]}
    variables = dict(imported.variables)
    assert variables.pop("global_step").dtype == np.int64
    assert {name: values.shape for name, values in variables.items()} == expected
    assert {values.dtype for values in variables.values()} == {np.dtype(np.float32)}


def test_the_config_is_caffes(imported):
    config = checks.check(imported.config)
    assert config.class_names[0] == "aeroplane"
    assert config.num_classes == 21
    assert config.network.channel_means_rgb == (123, 117, 104)
    assert [layer.padding for layer in config.network.extra_layers] == [1, 1, "valid", "valid"]
    assert [round(300 * scale) for scale in config.anchors.scales] == [*MIN_SIZES, 315]
    assert [feature_map.grid[0] for feature_map in feature_maps(config.network)] == [
        38,
        19,
        10,
        5,
        3,
        1,
    ]
    assert [feature_map.step[0] for feature_map in feature_maps(config.network)] == [
        8,
        16,
        32,
        64,
        100,
        300,
    ]


@pytest.mark.parametrize(
    ("ratios", "order"), [((1, 2, 1 / 2), [1, 0, 2, 3]), ((1, 2, 3, 1 / 2, 1 / 3), [1, 0, 2, 4, 3, 5])]
)
def test_order_of_a_cells_boxes(ratios, order):
    assert caffe_detector.box_order(ratios) == order


def test_other_detectors_are_refused(caffe_ssd):
    arrays = {f"{name}/{index}": array for name, blobs in caffe_ssd[1].items() for index, array in enumerate(blobs)}

    def refuse(changed, message):
        with pytest.raises(UserError, match=message):
            recognise.convert({name: values for name, values in {**arrays, **changed}.items() if values is not None})

    refuse(
        {"conv4_3_norm_mbox_conf/1": np.zeros(4 * 81)},
        "an SSD300 for 81 classes, background included; only .*, with 21",
    )
    refuse({"conv10_2_mbox_loc/0": arrays["fc7_mbox_loc/0"]}, "no SSD300: it has a conv10_2_mbox_loc")
    refuse(
        {"conv9_2_mbox_conf/0": None},
        r"SSD300's multibox_head/cls_5/kernel is not in it \(1 of 71 arrays are missing\)",
    )
    refuse({"conv7_1/1": None}, "SSD300's additional_layers/conv9/conv9_1/bias is not in it")
    refuse({"conv4_3_norm/0": np.ones(1)}, r"conv4_3_scale/weights has the shape \(1,\), but SSD300's is \(512,\)")
    refuse({"fc7_mbox_loc/0": arrays["conv4_3_norm_mbox_loc/0"]}, r"loc_1/kernel has the shape .*16\), but .*24\)")
    refuse({"conv6_1/0": arrays["conv7_1/0"]}, r"conv8_1/kernel has the shape \(1, 1, 512, 128\), but SSD300's is")
    nan = np.full_like(arrays["conv9_1/0"], np.nan)
    refuse({"conv9_1/0": nan}, "conv11_1/kernel would hold values that are infinite or not a number")

"""caffemodels: the wire format in all its forms, and a whole SSD against Caffe's own computation of it."""

import json
import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise, tf_checkpoint
from model.weight_formats.caffe import caffemodel, detectors
from net.network.ssd_net import ssd_network
from tests.builders import weight_files as files
from tests.builders.weight_files import floats
from utility.boxes.default_boxes import default_boxes
from utility.boxes.encoding import decode
from utility.config import checks, config_file
from utility.config.feature_maps import feature_maps

# --- the wire format ------------------------------------------------------------------------------------------

BLOBS: dict[str, list[np.ndarray]] = {
    "conv1_1": [np.arange(24.0).reshape(2, 3, 2, 2), np.arange(2.0)],
    "fc6": [np.arange(6.0).reshape(2, 3), np.arange(2.0)],
    "scale": [np.arange(5.0)],
}


@pytest.mark.parametrize("double", [False, True])
def test_reads_layers_with_a_shape(tmp_path, double):
    found = caffemodel.read(str(files.write_caffe(tmp_path / "f", BLOBS, double=double)))
    assert list(found) == list(BLOBS)
    for name, arrays in BLOBS.items():
        for array, expected in zip(found[name], arrays, strict=True):
            assert array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)


def test_reads_v1_layers_with_num_channels_height_and_width(tmp_path):
    found = caffemodel.read(str(files.write_caffe(tmp_path / "f", BLOBS, old=True)))
    assert found["conv1_1"][0].shape == (2, 3, 2, 2)
    assert found["fc6"][0].shape == (1, 1, 2, 3)
    assert found["fc6"][1].tolist() == [[[[0, 1]]]]


def test_fields_that_weights_do_not_need_are_skipped(tmp_path):
    numbers = files.blob(np.arange(3.0), old=False) + files.field(6, bytes(12))  # diff
    layer = files.field(1, b"a") + files.field(3, b"data") + files.field(7, numbers) + files.field(106, b"\x08\x40")
    (tmp_path / "f").write_bytes(files.field(1, b"net") + files.field(3, b"data") + files.field(100, layer))
    assert caffemodel.read(str(tmp_path / "f"))["a"][0].tolist() == [0, 1, 2]


def test_packed_numbers_may_come_in_parts(tmp_path):
    numbers = files.field(7, files.field(1, b"\x03"))
    numbers += files.field(5, floats([1]).tobytes()) + files.field(5, floats([2, 3]).tobytes())
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    assert caffemodel.read(str(tmp_path / "f"))["a"][0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [[4], [2, 2], [2**31, 2**31]])
def test_numbers_that_do_not_fill_their_shape_are_refused(tmp_path, shape):
    numbers = files.field(7, files.field(1, b"".join(map(files.varint, shape)))) + files.field(5, bytes(12))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"layer 'a' has 12 bytes of numbers"):
        caffemodel.read(str(tmp_path / "f"))


def test_a_negative_shape_is_refused(tmp_path):
    minus = files.varint(2**64 - 3)
    numbers = files.field(7, files.field(1, minus + minus)) + files.field(5, bytes(36))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"\[-3, -3\]"):
        caffemodel.read(str(tmp_path / "f"))


def test_a_file_cut_off_anywhere_is_refused_or_lacks_its_last_layers(tmp_path):
    path = files.write_caffe(tmp_path / "f", BLOBS)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            found = caffemodel.read(str(path))
        except ValueError as error:
            assert "as a caffemodel" in str(error)
        else:
            assert all(np.array_equal(found[name][0], BLOBS[name][0]) for name in found)


# --- a whole SSD ----------------------------------------------------------------------------------------------

MAPS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
MIN_SIZES, MAX_SIZES = (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315)
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS = (8, 16, 32, 64, 100, 300)
EXTRAS = {
    "conv6": (256, 512, 2, 1),
    "conv7": (128, 256, 2, 1),
    "conv8": (128, 256, 1, 0),
    "conv9": (128, 256, 1, 0),
}


def ssd_blobs(classes: int = 21) -> dict[str, list[np.ndarray]]:
    """Draw a whole SSD300 in Caffe's layout."""
    rng = np.random.default_rng(11)
    blobs = {name: list(layer) for name, layer in files.vgg_weights(files.VggSizes(), 10, full=False).items()}
    blobs["conv1_1"][0] = blobs["conv1_1"][0] / 64

    def draw(name, outputs, inputs, kernel, gain=2.0):
        values = rng.standard_normal((outputs, inputs, kernel, kernel), np.float32)
        values *= floats(math.sqrt(gain / (inputs * kernel * kernel)))
        blobs[name] = [values, 0.1 * rng.standard_normal(outputs, np.float32)]

    blobs["conv4_3_norm"] = [20 + rng.standard_normal(512, np.float32)]
    channels = [512, 1024]
    for name, (bottleneck, filters, _, _) in EXTRAS.items():
        draw(f"{name}_1", bottleneck, channels[-1], 1)
        draw(f"{name}_2", filters, bottleneck, 3)
        channels.append(filters)
    for name, inputs, ratios in zip(MAPS, channels, RATIOS, strict=True):
        boxes = 2 + 2 * len(ratios)
        draw(f"{name}_mbox_loc", boxes * 4, inputs, 3, 0.5)
        draw(f"{name}_mbox_conf", boxes * classes, inputs, 3, 0.5)
    return blobs


def caffe_forward(image, blobs):
    """Run Caffe's SSD300 on [1, 3, 300, 300]: mbox_loc [K, 4] and mbox_conf [K, 21] in Caffe's order."""
    vgg = files.vgg_maps(image, {n: b for n, b in blobs.items() if len(b) == 2}, files.VggSizes())
    norm = np.sqrt((vgg["conv4_3"] ** 2).sum(1, keepdims=True) + 1e-10)
    maps = [vgg["conv4_3"] / norm * blobs["conv4_3_norm"][0][:, None, None], vgg["fc7"]]
    for name, (_, _, stride, pad) in EXTRAS.items():
        inner = np.maximum(files.conv(maps[-1], *blobs[f"{name}_1"]), 0)
        maps.append(np.maximum(files.conv(inner, *blobs[f"{name}_2"], pad=pad, stride=stride), 0))
    loc, conf = [], []
    for name, values in zip(MAPS, maps, strict=True):  # Permute (0, 2, 3, 1), Flatten, Concat
        loc.append(files.conv(values, *blobs[f"{name}_mbox_loc"], pad=1).transpose(0, 2, 3, 1).reshape(-1, 4))
        conf.append(files.conv(values, *blobs[f"{name}_mbox_conf"], pad=1).transpose(0, 2, 3, 1).reshape(-1, 21))
    return np.concatenate(loc), np.concatenate(conf)


def caffe_priors():
    """Make PriorBoxLayer's boxes, [K, 4] of centre x, centre y, width, height in parts of the image."""
    priors = []
    for side, step, small, large, ratios in zip(
        (38, 19, 10, 5, 3, 1), STEPS, MIN_SIZES, MAX_SIZES, RATIOS, strict=True
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
    blobs = ssd_blobs()
    return files.write_caffe(tmp_path_factory.mktemp("caffe") / "ssd.caffemodel", blobs), blobs


@pytest.fixture(scope="module")
def imported(caffe_ssd):
    return recognise.read(str(caffe_ssd[0]))


def test_a_whole_ssd_detects_what_caffe_detects(caffe_ssd, imported, tmp_path):
    image = np.random.default_rng(3).uniform(-110, 130, (1, 300, 300, 3)).astype(np.float32)  # BGR minus means
    loc, conf = caffe_forward(image.transpose(0, 3, 1, 2), caffe_ssd[1])
    priors = caffe_priors()
    tf_checkpoint.write(str(tmp_path / "model.ckpt"), imported.variables)
    config_file.save(imported.config, str(tmp_path))
    config = config_file.load(str(tmp_path))
    assert config is not None
    boxes, logits = forward(image, config, str(tmp_path))

    ours = default_boxes(config).cyxhw[:, [1, 0, 3, 2]]
    places = {tuple(prior): index for index, prior in enumerate(np.round(priors, 5))}
    index = [places[tuple(box)] for box in np.round(ours.astype(np.float64), 5)]  # by what the boxes are, no rule
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
    assert config_file.from_json(config_file.to_json(config)) == config


@pytest.mark.parametrize(
    ("ratios", "order"), [((1, 2, 1 / 2), [1, 0, 2, 3]), ((1, 2, 3, 1 / 2, 1 / 3), [1, 0, 2, 4, 3, 5])]
)
def test_order_of_a_cells_boxes(ratios, order):
    assert detectors.box_order(ratios) == order


def refuse(blobs, message):
    with pytest.raises(ValueError, match=message):
        detectors.detector(blobs)


def test_other_detectors_are_refused(caffe_ssd):
    blobs = caffe_ssd[1]
    coco = {**blobs, "conv4_3_norm_mbox_conf": [np.zeros((4 * 81, 512, 3, 3)), np.zeros(4 * 81)]}
    refuse(coco, "SSD300 for 81 classes, background included; only the models for VOC, with 21")
    refuse({**blobs, "conv10_2_mbox_loc": blobs["fc7_mbox_loc"]}, "no SSD300: it has a conv10_2_mbox_loc")
    refuse({n: b for n, b in blobs.items() if n != "conv9_2_mbox_conf"}, "it has no conv9_2_mbox_conf")
    refuse({n: b for n, b in blobs.items() if n != "conv7_1"}, "conv7_1 has 0 blobs instead of weights and a bias")
    refuse({**blobs, "conv4_3_norm": [np.ones(1)]}, "1 numbers instead of one for each of 512 channels")
    refuse({**blobs, "fc7_mbox_loc": blobs["conv4_3_norm_mbox_loc"]}, "a head has 16 outputs instead of 24")
    refuse({**blobs, "conv6_1": blobs["conv7_1"]}, r"conv8_1 would be \(1, 1, 512, 128\), but SSD300's is")
    nan = [np.full_like(blobs["conv9_1"][0], np.nan), blobs["conv9_1"][1]]
    refuse({**blobs, "conv9_1": nan}, "conv11_1/kernel holds values that are infinite or not a number")

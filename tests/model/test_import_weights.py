"""model/import_weights.py as a user runs it: what it recognises, writes, prints and refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model import import_weights
from model.weight_formats import recognise
from net.backbones import vgg16
from net.layers import Layers
from tests.builders import weight_files as files
from tests.builders.weight_files import floats
from utility.checkpoints.warm_start import Scopes, WarmStart
from utility.config import config_file
from utility.config.settings import NetworkConfig
from utility.run.command import ROOT

SCRIPT = str(ROOT / "model" / "import_weights.py")
MEANS_BGR = floats([103.94, 116.78, 123.68])


def run(*flags: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *flags]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder or "/nonexistent"), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)


@pytest.fixture(scope="module")
def weights():
    """The whole reduced VGG-16; conv1_1 is small so that a picture's grey levels do not blow up."""
    drawn = files.vgg_weights(files.VggSizes(), seed=4, full=False)
    kernel, bias = drawn["conv1_1"]
    return {**drawn, "conv1_1": (kernel / 64, bias)}


def write_keras(path, weights):
    return files.write_keras(path, {n: layer for n, layer in weights.items() if n not in ("fc6", "fc7")})


def write_ports(path, weights):
    return files.write_torch_zip(path, files.ports_arrays(weights))


def write_caffe(path, weights):
    return files.write_caffe(path, weights, old=True)


@pytest.mark.parametrize(("write", "order"), [(write_keras, "bgr"), (write_ports, "rgb"), (write_caffe, "bgr")])
def test_the_projects_network_computes_what_the_source_does(tmp_path, weights, write, order, capsys):
    """The whole way: file, importer, checkpoint, warm start, network; against the source's own layout."""
    import_file(write(tmp_path / "source", weights), tmp_path / "vgg.ckpt")
    picture = np.random.default_rng(6).integers(0, 256, (1, 32, 48, 3)).astype(np.float32)  # BGR
    image = picture - MEANS_BGR
    source_image = image if order == "bgr" else image[..., ::-1]
    expected = files.vgg_maps(source_image.transpose(0, 3, 1, 2), weights, files.VggSizes())
    conv4_3, fc7 = started_network(image, str(tmp_path / "vgg.ckpt"))
    norm = np.sqrt((expected["conv4_3"] ** 2).sum(1, keepdims=True)) / 20
    np.testing.assert_allclose(conv4_3.transpose(0, 3, 1, 2), expected["conv4_3"] / norm, rtol=1e-3, atol=1e-3)
    log = capsys.readouterr().out
    if write is write_keras:
        assert "fc6            kernel bias  random: no counterpart in the checkpoint" in log
    else:
        maps = fc7.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(maps, expected["fc7"], rtol=1e-3, atol=1e-3 * expected["fc7"].std())
        assert "30 of 31 variables loaded, 1 start at random" in log


def import_file(source: Path, output: Path) -> None:
    recognise.write(str(output), recognise.read(str(source)).variables)


def started_network(image, checkpoint):
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("ssd300"):
            maps = vgg16(tf.constant(image), Layers("channels_last"), NetworkConfig())
        WarmStart(checkpoint, Scopes("vgg_16", "ssd300", ("conv4_3_scale",)), True).load()
        session.run(tf.global_variables_initializer())
        return session.run(maps)


# --- the command line -----------------------------------------------------------------------------------------


def test_help_is_quick_and_needs_no_tensorflow():
    start = time.monotonic()
    result = run("--help")
    assert time.monotonic() - start < 2
    assert result.returncode == 0
    assert "--source" in result.stdout
    assert "--output" in result.stdout


def test_writes_the_references_checkpoint_and_says_what_it_did(tmp_path):
    with h5py.File(tmp_path / "vgg16.bin", "w") as file:  # by content: the name says nothing
        connected = {"fc6": (7 * 7 * 512, 4096), "fc7": (4096, 4096)}
        for layer, shape in {**files.VggSizes().convolutions(), **connected}.items():
            name = files.keras_names()[layer]
            file.create_dataset(f"{name}/{name}_W_1:0", shape, "f4", chunks=(*shape[:-1], 1), fillvalue=0.25)
            file.create_dataset(f"{name}/{name}_b_1:0", shape[-1:], "f4", fillvalue=0.5)
    assert (tmp_path / "vgg16.bin").stat().st_size < 1 << 20
    result = run("--source=vgg16.bin", "--output=model/vgg16_reducedfc.ckpt", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "vgg16.bin: Keras' VGG16 with top",
        "  conv1_1 expected BGR minus VGG's means; now BGR minus 103.94, 116.78, 123.68",
        "  fc6 and fc7 reduced: every third position, every fourth output",
        "wrote model/vgg16_reducedfc.ckpt: 30 variables, 20.5 million numbers",
        "train from it: python train_ssd.py --checkpoint_path=model/vgg16_reducedfc.ckpt",
    ]
    assert tf.train.latest_checkpoint(str(tmp_path / "model")) == str(tmp_path / "model/vgg16_reducedfc.ckpt")
    assert str(tmp_path) not in (tmp_path / "model" / "checkpoint").read_text()
    reader = tf.train.load_checkpoint(str(tmp_path / "model/vgg16_reducedfc.ckpt"))
    shapes = reader.get_variable_to_shape_map()
    assert shapes["vgg_16/conv1/conv1_1/weights"] == [3, 3, 3, 64]
    assert shapes["vgg_16/conv5/conv5_3/biases"] == [512]
    assert shapes["vgg_16/fc6/weights"] == [3, 3, 512, 1024]
    assert shapes["vgg_16/fc7/weights"] == [1, 1, 1024, 1024]
    assert len(shapes) == 30
    assert np.unique(reader.get_tensor("vgg_16/fc6/weights")).tolist() == [0.25]


def test_without_a_source_keras_is_asked_and_offline_is_one_line(tmp_path):
    result = run(folder=tmp_path, http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Keras' ImageNet weights are downloaded, and that failed" in result.stderr
    assert "--source" in result.stderr


def test_a_detector_gets_its_config_and_labels(tmp_path):
    files.write_caffe(tmp_path / "ssd", files.ssd_blobs(), old=True)
    result = run("--source=ssd", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    folder = tmp_path / "model" / "ssd300_caffe"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint", "config.json", "labels.txt", "model.ckpt.index", "model.ckpt.data-00000-of-00001",
    }  # fmt: skip
    assert "python simple_ssd_demo.py --checkpoint_path=model/ssd300_caffe/model.ckpt" in result.stdout
    assert json.loads((folder / "config.json").read_text())["network"]["channel_means_rgb"] == [123, 117, 104]
    assert (folder / "labels.txt").read_text().split()[14] == "person"
    config = config_file.load(str(folder))
    assert config is not None
    assert config.preset == "ssd300_caffe"


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["folder", "new/", "source.ckpt"])
def test_an_output_that_would_harm_is_refused(tmp_path, output):
    (tmp_path / "folder").mkdir()
    target = f"{tmp_path}/{output}"
    with pytest.raises(ValueError, match=r"--output=.* (is a folder|is the source)"):
        import_weights._check_output(target, f"{tmp_path}/source.ckpt.index", False)


def test_a_detector_does_not_go_beside_other_checkpoints(tmp_path):
    (tmp_path / "vgg.ckpt.index").touch()
    with pytest.raises(ValueError, match=r"holds vgg.ckpt.index already.*a folder of its own"):
        import_weights._check_output(f"{tmp_path}/ssd.ckpt", "source", True)
    import_weights._check_output(f"{tmp_path}/vgg.ckpt", "source", True)

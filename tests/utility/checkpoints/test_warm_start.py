"""Checkpoints: which one a path means, what a start loads, and what it says."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.ssd_net import ssd_network
from tests.builders.checkpoints import save
from tests.builders.configs import voc_config
from tests.builders.golden import golden_weights
from tests.builders.weight_files import floats
from utility.checkpoints import warm_start
from utility.checkpoints.checkpoint_files import resolve
from utility.checkpoints.warm_start import Resume, Scopes, WarmStart
from utility.run.command import ROOT

# --- what a start loads ---------------------------------------------------------------------------------------


def build(classes: int = 3) -> None:
    """Make a few variables of the network, each of 7s."""
    sevens = tf.constant_initializer(7.0)
    with tf.variable_scope("ssd300", initializer=sevens):
        for scope, shape in (
            ("conv1/conv1_1", [3, 3, 3, 4]),
            ("fc6", [3, 3, 4, 8]),
            ("additional_layers/conv8/conv8_1", [1, 1, 8, 2]),
            ("multibox_head/cls_0", [3, 3, 8, 4 * classes]),
            ("multibox_head/loc_0", [3, 3, 8, 16]),
        ):
            tf.get_variable(f"{scope}/kernel", shape)
            tf.get_variable(f"{scope}/bias", shape[-1:])
        tf.get_variable("conv4_3_scale/weights", [4])


def values_of(classes: int = 3, scope: str = "ssd300") -> dict[str, np.ndarray]:
    """Return other values for all variables of `build`."""
    with tf.Graph().as_default():
        build(classes)
        shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
    rng = np.random.default_rng(0)
    return {name.replace("ssd300", scope): rng.random(shape).astype(np.float32) for name, shape in shapes.items()}


VGG = {
    "vgg_16/conv1/conv1_1/weights": np.full((3, 3, 3, 4), 1, np.float32),
    "vgg_16/conv1/conv1_1/biases": np.full(4, 2, np.float32),
    "vgg_16/fc6/weights": np.full((3, 3, 4, 8), 3, np.float32),
    "vgg_16/fc6/biases": np.full(8, 4, np.float32),
}
DEFAULT_EXCLUDES = ("ssd300/multibox_head", "ssd300/additional_layers", "ssd300/conv4_3_scale")


def start(checkpoint: str, scope: str = "ssd300", excludes=(), ignore_missing=True) -> WarmStart:
    return WarmStart(checkpoint, Scopes(scope, "ssd300", tuple(excludes)), ignore_missing)


def loaded(source, classes: int = 3) -> dict[str, np.ndarray]:
    """Return the network's variables after a start."""
    with tf.Graph().as_default(), tf.Session() as session:
        build(classes)
        source.load()
        session.run(tf.global_variables_initializer())
        return {v.op.name: session.run(v) for v in tf.trainable_variables()}


def test_starts_from_vgg_as_the_reference_does(tmp_path, capsys):
    checkpoint = save(tmp_path / "vgg", {**VGG, "vgg_16/fc8/weights": floats([1])})
    found = loaded(start(checkpoint, "vgg_16", DEFAULT_EXCLUDES))
    for name, values in VGG.items():
        ours = name.replace("vgg_16", "ssd300").replace("weights", "kernel").replace("biases", "bias")
        np.testing.assert_array_equal(found.pop(ours), values)
    assert all((values == 7).all() for values in found.values())
    assert capsys.readouterr().out.splitlines() == [
        f"starting from {checkpoint}",
        "  ssd300/conv1/conv1_1                    kernel bias  from vgg_16/conv1/conv1_1",
        "  ssd300/fc6                              kernel bias  from vgg_16/fc6",
        "  ssd300/additional_layers/conv8/conv8_1  kernel bias  random: excluded by"
        " --checkpoint_exclude_scopes=ssd300/additional_layers",
        "  ssd300/multibox_head/cls_0              kernel bias  random: excluded by"
        " --checkpoint_exclude_scopes=ssd300/multibox_head",
        "  ssd300/multibox_head/loc_0              kernel bias  random: excluded by"
        " --checkpoint_exclude_scopes=ssd300/multibox_head",
        "  ssd300/conv4_3_scale                    weights      random: excluded by"
        " --checkpoint_exclude_scopes=ssd300/conv4_3_scale",
        "  4 of 11 variables loaded, 7 start at random",
        "  not in the network: 1 of the checkpoint's variables: vgg_16/fc8/weights",
    ]


def test_fine_tuning_with_other_classes_draws_the_class_heads_anew(tmp_path, capsys):
    stored = values_of(classes=21)
    found = loaded(start(save(tmp_path / "m", stored)))
    for name, values in found.items():
        expected = 7 if "cls_0" in name else stored[name]
        np.testing.assert_array_equal(values, np.broadcast_to(expected, values.shape))
    said = capsys.readouterr().out
    assert "cls_0              kernel       random: shape 3x3x8x12, in the checkpoint 3x3x8x84\n" in said
    assert "cls_0              bias         random: shape 12, in the checkpoint 84\n" in said
    assert "9 of 11 variables loaded, 2 start at random" in said


def test_slots_and_the_step_of_the_source_are_not_taken(tmp_path, capsys):
    slots = {f"{name}/Momentum": value for name, value in values_of().items()}
    checkpoint = save(tmp_path / "m", {**values_of(), **slots, "global_step": np.int64(120_000)})
    with tf.Graph().as_default(), tf.Session() as session:
        build()
        start(checkpoint).load()
        step = tf.train.get_or_create_global_step()
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        optimizer.minimize(tf.add_n([tf.reduce_sum(v) for v in tf.trainable_variables()]), step)
        session.run(tf.global_variables_initializer())
        assert session.run(step) == 0
        assert all(not session.run(slot).any() for slot in optimizer.variables())
    said = capsys.readouterr().out
    assert "not taken over: the source's step and 11 variables of its optimizer\n" in said
    assert "not in the network" not in said


@pytest.mark.parametrize("scope", ["", "other", "ssd300"])
def test_the_checkpoints_scope_is_replaced(tmp_path, scope):
    stored = values_of(scope=scope or "ssd300")
    if not scope:
        stored = {name.removeprefix("ssd300/"): value for name, value in stored.items()}
    found = loaded(start(save(tmp_path / "m", stored), scope))
    for name, value in stored.items():
        np.testing.assert_array_equal(found[f"ssd300/{name.removeprefix(f'{scope}/')}"], value)


@pytest.mark.parametrize(("exclude", "count"), [("cls", 2), ("ssd300/multibox_head", 4), ("bias", 5), ("conv8_1", 2)])
def test_a_variable_with_an_excluded_scope_in_its_name_is_left_out(tmp_path, capsys, exclude, count):
    loaded(start(save(tmp_path / "m", values_of()), excludes=[exclude]))
    said = capsys.readouterr().out
    assert f"{11 - count} of 11 variables loaded, {count} start at random" in said
    assert "note:" not in said


def test_an_excluded_scope_that_is_in_no_name_is_noted(tmp_path, capsys):
    loaded(start(save(tmp_path / "m", values_of()), excludes=["ssd300/multbox_head"]))
    assert "no variable has 'ssd300/multbox_head' in its name" in capsys.readouterr().out


def test_missing_variables_are_an_error_only_when_asked_for(tmp_path, capsys):
    stored = {name: value for name, value in values_of().items() if "conv8" not in name}
    checkpoint = save(tmp_path / "m", stored)
    loaded(start(checkpoint))
    said = capsys.readouterr().out
    assert "conv8_1  kernel bias  random: no counterpart in the checkpoint" in said
    with pytest.raises(ValueError, match=r"lacks ssd300/additional_layers/conv8/conv8_1/kernel, .*ignore_missing_vars"):
        loaded(start(checkpoint, ignore_missing=False))


def test_nothing_loaded_is_an_error_that_says_why(tmp_path):
    checkpoint = save(tmp_path / "m", VGG)
    message = r"nothing of it was loaded.* vgg_16/conv1/conv1_1/biases, .*checkpoint_model_scope=resnet .*\(vgg_16\)"
    with pytest.raises(ValueError, match=message):
        loaded(start(checkpoint, "resnet"))


# --- going on, and what is chosen -----------------------------------------------------------------------------


SETTINGS: dict[str, Any] = {"scopes": Scopes("vgg_16", "ssd300"), "ignore_missing": True}


def test_a_model_directory_with_a_checkpoint_wins(tmp_path, capsys):
    checkpoint = save(tmp_path / "logs" / "m", {**values_of(), "global_step": np.int64(42)})
    vgg = save(tmp_path / "vgg", VGG)
    found = warm_start.starting_point(vgg, optional=False, model_dir=str(tmp_path / "logs"), **SETTINGS)
    assert found == Resume(checkpoint)
    loaded(found)
    said = capsys.readouterr().out
    assert said.startswith(f"resuming from {checkpoint}, step 42, with the optimizer's variables\n")
    assert "11 of 11 variables loaded\n" in said
    empty = warm_start.starting_point(vgg, optional=False, model_dir=str(tmp_path / "new"), **SETTINGS)
    assert empty == WarmStart(vgg, Scopes("vgg_16", "ssd300", ()), True)


def test_going_on_with_another_network_is_an_error(tmp_path):
    checkpoint = save(tmp_path / "m", values_of(classes=21))
    message = r"m is of another network: .*cls_0/kernel has shape 3x3x8x12, in .* \(2 of 11 .* another --model_dir"
    with pytest.raises(ValueError, match=message):
        loaded(Resume(checkpoint))


def test_no_checkpoint_is_an_error_only_if_one_was_asked_for(tmp_path, capsys):
    assert warm_start.starting_point(str(tmp_path), optional=True, **SETTINGS) is None
    assert capsys.readouterr().out == ""
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        warm_start.starting_point(str(tmp_path), optional=False, **SETTINGS)


def test_weights_that_wait_for_conversion_are_mentioned(tmp_path, capsys):
    (tmp_path / "vgg16.h5").touch()
    assert warm_start.starting_point(str(tmp_path), optional=True, **SETTINGS) is None
    assert f"convert it: python model/import_weights.py --source={tmp_path}/vgg16.h5" in capsys.readouterr().out


# --- the reference's own checkpoint ---------------------------------------------------------------------------


def test_the_references_checkpoint_gives_its_outputs(golden, tmp_path, capsys):
    """Through a warm start, and through the Saver that eval and demo restore with; slots and step are no obstacle."""
    weights = golden_weights(golden)
    slots = {f"{name}/Momentum": np.ones_like(value) for name, value in weights.items() if name.endswith("bias")}
    save(tmp_path / "model.ckpt", {**weights, **slots, "global_step": np.int64(120_000)}, global_step=120_000)
    image = np.random.RandomState(1).uniform(-120, 130, (2, 300, 300, 3)).astype(np.float32)[:1]
    expected = np.load(golden / "network.npz")
    with tf.Graph().as_default(), tf.Session() as session:
        output = ssd_network(tf.constant(image), voc_config(), "channels_last")
        start(resolve(str(tmp_path))).load()
        session.run(tf.global_variables_initializer())
        started = session.run(output)
        tf.train.get_or_create_global_step()
        session.run([tf.assign(variable, tf.zeros_like(variable)) for variable in tf.trainable_variables()])
        tf.train.Saver().restore(session, resolve(str(tmp_path)))
        restored = session.run(output)
    for found in (started, restored):
        np.testing.assert_allclose(found.offsets[0, expected["rows"]], expected["location"], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.logits[0, expected["rows"]], expected["cls"], rtol=1e-3, atol=1e-4)
    assert "71 of 71 variables loaded\n" in capsys.readouterr().out


# --- several replicas -----------------------------------------------------------------------------------------


REPLICAS = """
import sys
import tensorflow.compat.v1 as tf
from tests.utility.checkpoints import test_warm_start
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
checkpoint, directory = sys.argv[1:]

def model_fn(features, labels, mode, params):
    test_warm_start.build()
    params["start"].load()
    loss = tf.add_n([tf.reduce_sum(v) for v in tf.trainable_variables()]) * 0.0
    train_op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
session = tf.ConfigProto(device_count={"CPU": 2})
run = tf.estimator.RunConfig(directory, session_config=session, train_distribute=strategy)
start = test_warm_start.start(checkpoint, "vgg_16", test_warm_start.DEFAULT_EXCLUDES)
estimator = tf.estimator.Estimator(model_fn, config=run, params={"start": start})
estimator.train(lambda: tf.data.Dataset.from_tensors([0.0]).repeat(4).batch(1), max_steps=1)
"""


def test_several_replicas_start_alike_and_say_it_once(tmp_path):
    checkpoint = save(tmp_path / "vgg", VGG)
    command = [sys.executable, "-c", REPLICAS, checkpoint, str(tmp_path / "logs")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("starting from") == 1
    assert result.stdout.count("4 of 11 variables loaded, 7 start at random") == 1
    reader = tf.train.load_checkpoint(str(tmp_path / "logs"))
    for name, values in VGG.items():
        ours = name.replace("vgg_16", "ssd300").replace("weights", "kernel").replace("biases", "bias")
        np.testing.assert_array_equal(reader.get_tensor(ours), values)
    assert (reader.get_tensor("ssd300/multibox_head/loc_0/kernel") == 7).all()

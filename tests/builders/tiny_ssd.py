"""SSD around a backbone of a few channels, which a test can train; as a program, it trains on several devices."""

import argparse
import os

import numpy as np
import tensorflow.compat.v1 as tf

from net import ssd_net, training, workers
from net.run_config import build, run_config, session_config
from tests.builders.configs import voc_config
from utility.checkpoints import checkpoint_files
from utility.config.settings import BACKBONES, Backbone, ExtraLayer, Recipe
from utility.run import cluster
from utility.run.layout import RunLayout
from utility.run.log import log, set_log_prefix

UNTIL_KILLED = 5000  # steps of several machines, more than a test waits for


def tiny_backbone(images, layers, network):
    """Give maps of steps 8 and 16."""
    tensor = layers.pool(layers.conv(images, 16, 3, "conv1", strides=2), 2, 2, "pool1")
    stride8 = layers.conv(tensor, 32, 3, "conv2", strides=2)
    normalized = layers.l2_normalize(stride8, network.l2_norm_scale, "conv4_3_scale")
    return [normalized, layers.conv(stride8, 32, 3, "conv3", strides=2)]


def tiny_config(setitem=dict.__setitem__):
    """Make the backbone known, by `setitem(dict, key, value)`, and return a config with it."""
    setitem(ssd_net.BACKBONE_FUNCTIONS, "tiny", tiny_backbone)
    setitem(BACKBONES, "tiny", Backbone((8, 16), "./model", "tiny", Recipe(1e-3), Recipe(1e-3)))
    return voc_config(
        network__backbone="tiny",
        network__extra_layers=(ExtraLayer(16, 32, stride=2, padding="same"),),
        anchors__scales=(0.1, 0.3, 0.6, 0.9),
        anchors__ratios=((1, 2, 1 / 2),) * 3,
        schedule__batch_size=2,
        schedule__max_number_of_steps=400,
        schedule__decay_boundaries=(),
        schedule__lr_decay_factors=(1.0,),
    )


def batch(images=None, boxes=((0.1, 0.1, 0.6, 0.6),), labels=(3,)):
    """Two images with the same objects, as an input function's element."""
    images = np.zeros((2, 300, 300, 3), np.float32) if images is None else images
    features = {"image": images, "image_id": np.array(["first", "second"])}
    boxes = np.tile(np.array(boxes, np.float32).reshape(1, -1, 4), (2, 1, 1))
    return features, {"boxes_yxyx": boxes, "labels": np.tile(np.array(labels, np.int64)[None], (2, 1))}


def repeated(*elements):
    """An input function that gives the elements in turn, for ever; they are no part of the graph and its files."""
    signature = tf.nest.map_structure(_specification, elements[0])
    return lambda: tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=signature).repeat()


def _specification(values):
    """The type and shape of an element's part; images have different numbers of objects."""
    shape = [len(values), None, *values.shape[2:]] if values.ndim in (2, 3) else values.shape
    return tf.TensorSpec(shape, tf.as_dtype(values.dtype))


def quick_session():
    """Session settings for a few steps: the graph runs as it is, for improving it first would take longer."""
    session = session_config()
    session.graph_options.rewrite_options.disable_meta_optimizer = True
    return session


def make_estimator(config, model_dir, layout=RunLayout(2), save_checkpoints_steps=10**6, **params):  # noqa: B008
    """Return an Estimator that keeps one checkpoint, of its end, unless told otherwise."""
    session = quick_session()
    session.device_count["CPU"] = max(len(layout.devices), 1)
    strategy = None
    if layout.task:
        strategy = workers.join(layout.task, len(layout.devices))
    elif layout.replicas > 1:
        strategy = tf.distribute.MirroredStrategy(layout.devices)
    run = run_config(
        str(model_dir),
        session,
        checkpoint_steps=save_checkpoints_steps,
        seed=1,
        task=layout.task,
        strategy=strategy,
    )
    return build(config, run, "channels_last", **params)


class AtStart(tf.train.SessionRunHook):
    """Calls a function once the graph is built and its variables are restored."""

    def __init__(self, call):
        self._call = call

    def after_create_session(self, session, coord):
        self._call()


class SaveVariables(tf.train.SessionRunHook):
    """Writes this process's variables to a file after a step, and says so."""

    def __init__(self, path, step):
        self._path, self._step = path, step

    def after_run(self, run_context, run_values):
        if run_context.session.run(tf.train.get_global_step()) == self._step:
            variables = {variable.name.split(":")[0]: variable for variable in tf.global_variables()}
            np.savez(self._path, **run_context.session.run(variables))
            log(f"saved the variables of step {self._step}")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("output", help="file for the variables")
    parser.add_argument("--devices", type=int, default=1, help="parts to divide the CPU into")
    parser.add_argument(
        "--steps", type=int, default=3, help="after which the variables are saved; one machine stops there"
    )
    parser.add_argument("--save_checkpoints_steps", type=int, default=10**6)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--first_batch", help="file for a picture of the first batch")
    return parser.parse_args()


def main(asked):
    """Train on one batch of two images, in equal parts on all devices of all machines, and save the variables."""
    task = cluster.read(os.environ)
    if task:
        set_log_prefix(task.name())
    if asked.devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * asked.devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    images = np.random.RandomState(3).uniform(-100, 100, (2, 300, 300, 3)).astype(np.float32)
    element = batch(images)
    element[1]["labels"][1] = 0  # the second image has no object, so the halves have unequal numbers of positives

    layout = RunLayout(2, tuple(f"/cpu:{number}" for number in range(asked.devices)), task=task)
    parts = [
        tf.nest.map_structure(lambda t, n=n: np.split(t, layout.replicas)[n], element) for n in range(layout.replicas)
    ]
    input_fn = repeated(*parts[layout.worker :: layout.workers])

    options = {"save_checkpoints_steps": asked.save_checkpoints_steps, "xla": asked.xla}
    options["first_batch"] = asked.first_batch
    config = tiny_config().replace({"schedule.clip_gradient_norm": 100.0})
    estimator = make_estimator(config, asked.model_dir, layout, **options)
    if task:
        first_step = checkpoint_files.step_reader(asked.model_dir, once=True)
        agreement = {"devices": layout.replicas, "steps": asked.steps}
        hooks = [SaveVariables(asked.output, asked.steps)]
        workers.train_as_worker(estimator, input_fn, UNTIL_KILLED, task, first_step, agreement, hooks)
        return
    training.train(estimator, input_fn, asked.steps)
    np.savez(asked.output, **variables(estimator))


def variables(estimator):
    return {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}


if __name__ == "__main__":
    main(arguments())

"""Learning rate, weight decay, gradients, and training steps that must not spoil anything."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.scores import average_precision
from dataset.scores.detection_store import StoredDetections
from dataset.sources.annotations import Annotation, LabelledObject
from net import ssd_model_fn, training
from net.accumulation import in_parts
from net.devices import Precision
from net.prediction import predict_pictures
from net.training_log import NonFiniteLossError
from tests.builders.configs import VOC_LIKE, assert_same_training, voc_config
from tests.builders.tiny_ssd import AtStart, batch, make_estimator, repeated, tiny_config, variables
from utility.checkpoints.warm_start import Scopes, WarmStart
from utility.config.settings import AnchorConfig, LossConfig, NetworkConfig, ScheduleConfig


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A model directory with two steps, moved from where they were made."""
    made = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        training.train(make_estimator(tiny_config(patch.setitem), made / "here"), repeated(batch()), 2)
    return (made / "here").rename(made / "there")


def test_weight_decay_counts_biases_and_a_tenth_of_the_scale():
    with tf.Graph().as_default(), tf.Session() as session:
        for name in ("a/kernel", "a/bias", "conv4_3_scale/weights"):
            tf.get_variable(name, initializer=tf.constant([2.0, 4.0]))
        session.run(tf.global_variables_initializer())
        variables = tf.trainable_variables()
        reference = session.run(ssd_model_fn.weight_decay(variables, LossConfig()))
        caffe = session.run(ssd_model_fn.weight_decay(variables, LossConfig(decay_biases=False)))
    assert reference == pytest.approx(5e-4 * (10 + 10 + 1))
    assert caffe == pytest.approx(5e-4 * (10 + 1))


def test_the_parts_that_are_told_add_up_to_the_loss_whatever_the_weight_of_localization(tiny):
    """The weight is in what is told of it."""
    told = {}
    for weight in (1.0, 0.25):
        config = tiny.replace({"loss.localization_weight": weight})
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            features, labels = tf.nest.map_structure(tf.constant, batch())
            params = ssd_model_fn.Params(config, "channels_last")
            spec = ssd_model_fn.ssd_model_fn(features, labels, tf.estimator.ModeKeys.EVAL, params)
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            session.run([update for _, update in spec.eval_metric_ops.values()])
            means = {name: value for name, (value, _) in spec.eval_metric_ops.items()}
            l2 = ssd_model_fn.weight_decay(tf.trainable_variables(), config.loss)
            told[weight] = session.run({"loss": spec.loss, "l2": l2, **means})
    for parts in told.values():
        assert parts["loss"] == pytest.approx(parts["cross_entropy"] + parts["location"] + parts["l2"], rel=1e-5)
    assert told[0.25]["location"] == pytest.approx(told[1.0]["location"] / 4, rel=1e-5) and told[1.0]["location"] > 0


def test_it_learns_a_picture_by_heart_and_finds_its_object_again(tiny, tmp_path):
    random = np.random.RandomState(0)
    images = random.uniform(-20, 20, (2, 300, 300, 3)).astype(np.float32)
    images[0, 60:180, 60:180] += 80
    images[1, 120:240, 90:270] -= 80
    features, labels = batch(images)
    labels["boxes_yxyx"] = np.array([[[0.2, 0.2, 0.6, 0.6]], [[0.4, 0.3, 0.8, 0.9]]], np.float32)
    labels["labels"] = np.array([[3], [5]])
    layers = tuple(replace(layer, bottleneck=16, filters=32) for layer in NetworkConfig().extra_layers)
    whole = {"network.extra_layers": layers, "anchors": AnchorConfig(), "schedule.learning_rate": 3e-4}
    estimator = make_estimator(tiny.replace(whole), tmp_path)
    training.train(estimator, repeated((features, labels)), 150)
    features["size"] = np.array([[300, 300], [300, 300]], np.int32)
    input_fn = lambda: tf.data.Dataset.from_tensors(features)  # noqa: E731
    found = list(predict_pictures(estimator, input_fn, tf.train.latest_checkpoint(tmp_path)))
    assert [image["classes"][0] for image in found] == [3, 5]
    truth = [
        Annotation(name, tmp_path, 300, 300, (LabelledObject(VOC_LIKE[label - 1], tuple(box * 300), False, False),))
        for name, label, box in zip(("first", "second"), (3, 5), labels["boxes_yxyx"][:, 0], strict=True)
    ]
    assert average_precision.evaluate(StoredDetections(found, tmp_path), truth, VOC_LIKE).mean_ap >= 0.9
    metrics = estimator.evaluate(lambda: tf.data.Dataset.from_tensors((features, labels)))
    assert metrics["accuracy"] > 0.5 and np.isfinite(metrics["loss"])


def test_batches_without_usable_objects_train(tiny, tmp_path, capsys):
    nothing, zero_area = batch(boxes=(), labels=()), batch(boxes=((0.5, 0.5, 0.5, 0.5),))
    inverted, padding_only = batch(boxes=((0.6, 0.6, 0.5, 0.5),)), batch(labels=(0,))
    estimator = make_estimator(tiny, tmp_path, log_every_n_steps=1)
    training.train(estimator, repeated(nothing, zero_area, inverted, padding_only), 5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("starting from random weights")
    told = [line for line in lines if line.startswith("step ")]
    assert len(told) == 5 and all("location 0.000" in line and "nan" not in line for line in told)
    values = estimator.get_variable_value("ssd300/multibox_head/cls_0/bias")
    assert np.isfinite(values).all() and np.abs(values).max() > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_spoils_nothing(tiny, tmp_path):
    images = np.zeros((2, 300, 300, 3), np.float32)
    images[1, 5, 5, 0] = np.nan
    estimator = make_estimator(tiny, tmp_path)
    training.train(estimator, repeated(batch()), 3)
    with pytest.raises(NonFiniteLossError) as error:
        training.train(estimator, repeated(batch(images)), 10)
    for part in ("step 4", "learning rate 0.001", "cross_entropy", "gradient_norm inf", "first, second"):
        assert part in str(error.value)
    with tf.Graph().as_default(), tf.Session():
        names = [name for name, _ in tf.train.list_variables(tf.train.latest_checkpoint(tmp_path))]
    assert all(np.isfinite(estimator.get_variable_value(name)).all() for name in names)


def test_a_rate_that_is_far_too_high_is_reported_with_the_parts_of_the_loss(tiny, tmp_path):
    estimator = make_estimator(tiny.replace({"schedule.learning_rate": 1e30}), tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"step 2, learning rate 1e\+30: loss (nan|inf)"):
        training.train(estimator, repeated(batch()), 5)


def test_a_run_goes_on_from_its_checkpoint_also_where_that_was_moved(tiny, two_steps, tmp_path, capsys):
    again = make_estimator(tiny, shutil.copytree(two_steps, tmp_path / "logs"))
    training.train(again, repeated(batch()), 5)
    assert "random weights" not in capsys.readouterr().out
    assert again.get_variable_value("global_step") == 5


def test_a_run_that_is_at_its_end_says_so_and_writes_nothing(tiny, two_steps, capsys):
    before = sorted(two_steps.iterdir())
    training.train(
        make_estimator(tiny, two_steps), repeated(batch()), 2, hooks=[AtStart(lambda: pytest.fail("it started"))]
    )
    assert "is at step 2 already" in capsys.readouterr().out and sorted(two_steps.iterdir()) == before


def test_scalars_are_written_for_tensorboard(two_steps):
    events = [e for file in two_steps.glob("events*") for e in tf.train.summary_iterator(str(file))]
    tags = {value.tag for event in events for value in event.summary.value}
    assert {"train/cross_entropy", "train/location", "train/l2", "train/accuracy", "train/learning_rate"} <= tags


def test_two_replicas_with_half_a_batch_each_are_one_with_the_whole(train_tiny, trained_alone, tmp_path):
    picture = tmp_path / "first_batch.jpg"
    assert_same_training(train_tiny("--devices=2", f"--first_batch={picture}")[0], trained_alone)
    assert Image.open(picture).size == (300, 300)  # the images of the first replica
    biases = [value for name, value in trained_alone.items() if name.endswith("/bias")]
    assert max(np.abs(bias).max() for bias in biases) > 1e-4  # they start at 0


def test_xla_compiles_the_network_and_changes_nothing(train_tiny, trained_alone):
    variables, log = train_tiny("--xla")
    assert "Compiled cluster using XLA!" in log
    assert_same_training(variables, trained_alone)


def test_heads_start_small_where_a_checkpoint_is_loaded_into_a_backbone_with_batch_norm():
    spread = {}
    for start in (None, WarmStart("", Scopes("", "", ()), ignore_missing=True)):
        config = voc_config(network__backbone="mobilenet_v1", network__depth_multiplier=0.25, schedule__batch_size=2)
        with tf.Graph().as_default(), tf.Session() as session, pytest.MonkeyPatch.context() as patch:
            patch.setattr(WarmStart, "load", lambda start: None)
            features, labels = tf.nest.map_structure(tf.constant, batch())
            params = ssd_model_fn.Params(config, "channels_last", start=start)
            ssd_model_fn.ssd_model_fn(features, labels, tf.estimator.ModeKeys.TRAIN, params)
            (kernel,) = (v for v in tf.trainable_variables() if v.op.name == "ssd300/multibox_head/cls_0/kernel")
            session.run(kernel.initializer)
            spread[start is not None] = session.run(kernel).std()
    np.testing.assert_allclose(spread[True], 0.01, rtol=0.05)
    assert spread[False] > 0.03


# --- learning rate ---------------------------------------------------------------------------------------------------


def test_learning_rate_follows_the_reference_schedule():
    schedule = voc_config().schedule
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = ssd_model_fn.learning_rate(step, schedule)
        found = [session.run(rate, {step: s}) for s in (0, 500, 501, 80_000, 80_001, 100_001)]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_learning_rate_has_a_floor():
    schedule = voc_config(schedule__end_learning_rate=5e-4).schedule
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(ssd_model_fn.learning_rate(tf.constant(110_000), schedule)) == pytest.approx(5e-4)


# --- gradients -------------------------------------------------------------------------------------------------------


def test_only_sums_live_on_from_part_to_part():
    """The loop's own graph holds the work of a part, however many parts there are."""
    sizes = []
    for parts in (2, 8):
        with tf.Graph().as_default() as graph:
            batch = tf.ones([8, 3])
            total, _ = in_parts(lambda part: ((tf.reduce_sum(part),), []), parts)(batch)
            with tf.Session() as session:
                assert session.run(total) == (24.0,)
            sizes.append(len(graph.get_operations()))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(("largest", "factor"), [(0.0, 1.0), (6.5, 0.5), (13.0, 1.0), (1e6, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(largest, factor):
    """The norm of (3, 4) and (12) is 13."""
    with tf.Graph().as_default(), tf.Session() as session:
        a, b = tf.get_variable("a", initializer=[0.0, 0.0]), tf.get_variable("b", initializer=[0.0])
        loss = tf.reduce_sum(a * [3.0, 4.0]) + tf.reduce_sum(b * 12.0)
        schedule = ScheduleConfig(clip_gradient_norm=largest)
        computed = tf.train.GradientDescentOptimizer(1.0).compute_gradients(loss)
        norm, _, pairs = ssd_model_fn.safe_gradients(computed, loss, schedule)
        session.run(tf.global_variables_initializer())
        (first, second), norm = session.run([[gradient for gradient, _ in pairs], norm])
    np.testing.assert_allclose(first, np.array([3, 4]) * factor, rtol=1e-6)
    np.testing.assert_allclose(second, [12 * factor], rtol=1e-6)
    assert norm == pytest.approx(13), "the log shows what it was"


# --- parts of a batch, loss scaling, gradients that are not finite ---------------------------------------------------


SCHEDULE = ScheduleConfig(learning_rate=0.1, decay_boundaries=(), lr_decay_factors=(1.0,))


@pytest.fixture
def tiny_of_four(tiny):
    """A config for batches of four images."""
    return tiny.replace({"schedule.batch_size": 4})


def four_images():
    """Four images with one, two, no and one object."""
    images = np.random.RandomState(3).uniform(-100, 100, (4, 300, 300, 3)).astype(np.float32)
    boxes, labels = np.zeros((4, 2, 4), np.float32), np.array([[3, 0], [4, 5], [0, 0], [7, 0]])
    boxes[0, 0], boxes[1], boxes[3, 0] = (
        (0.1, 0.1, 0.6, 0.6),
        ((0.2, 0.3, 0.5, 0.9), (0.5, 0.1, 0.8, 0.3)),
        (0, 0, 1, 1),
    )
    return {"image": images, "image_id": np.array(list("abcd"))}, {"boxes_yxyx": boxes, "labels": labels}


def train(config, model_dir, steps, element=None, **params):
    """Train on one batch, and return the Estimator."""
    estimator = make_estimator(config, model_dir, log_every_n_steps=1, **params)
    training.train(estimator, repeated(element or four_images()), steps)
    return estimator


def step_one(log):
    return next(line for line in log.splitlines() if line.startswith("step 1/"))


def test_a_batch_in_parts_is_the_whole_batch_whatever_lies_in_each(tiny_of_four, tmp_path, capsys):
    whole = variables(train(tiny_of_four, tmp_path / "whole", 3))
    told = capsys.readouterr().out
    parted = variables(train(tiny_of_four, tmp_path / "parted", 3, accumulate_steps=4))
    assert_same_training(parted, whole)
    assert step_one(told) == step_one(capsys.readouterr().out)
    assert np.abs(whole["ssd300/conv2/kernel/Momentum"]).max() > 1


def one_step(gradient_of, mixed_precision=True, scale=None):
    """Make a step of one variable, 1.0, whose gradient `gradient_of` makes of the loss that it is given.

    Returns the variable and the logged scalars after it.
    """
    precision = Precision.FLOAT16 if mixed_precision else Precision.FLOAT32
    params = ssd_model_fn.Params(voc_config().replace({"schedule": SCHEDULE}), "channels_last", precision=precision)

    def total_loss(output, *_):
        loss = tf.reduce_sum(gradient_of(output, tf.ones([1, 1])))
        return ssd_model_fn.Losses(loss, *[tf.constant(1.0)] * 5)

    with tf.Graph().as_default(), tf.Session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssd_model_fn, "_network", lambda *_, **__: tf.get_variable("kernel", initializer=1.0))
        patch.setattr(ssd_model_fn, "total_loss", total_loss)
        labels = {"boxes_yxyx": tf.zeros([1, 0, 4]), "labels": tf.zeros([1, 0], tf.int64)}
        spec = ssd_model_fn.ssd_model_fn({"image": tf.zeros([1])}, labels, tf.estimator.ModeKeys.TRAIN, params)
        session.run(tf.global_variables_initializer())
        held = {variable.op.name: variable for variable in tf.global_variables()}
        if scale:
            held[ssd_model_fn.LOSS_SCALE].load(scale, session)
        (log,) = spec.training_hooks
        scalars = session.run([log.before_run(None).fetches, spec.train_op])[0]
        return session.run(held), scalars


def test_a_gradient_that_overflows_changes_nothing_but_the_scale():
    def overflows(weight, part):
        return tf.cast(tf.cast(weight, tf.float16) * 30_000, tf.float32) * part

    held, scalars = one_step(overflows)  # more than float16 holds, times 2^10
    assert held["kernel"] == 1.0 and held["kernel/Momentum"] == 0.0
    assert held[ssd_model_fn.LOSS_SCALE] == 2.0**9 and held["global_step"] == 1
    assert scalars["gradient_norm"] == 0.0 and scalars["loss"] == 30_000
    held, scalars = one_step(overflows, scale=2.0)
    assert held["kernel"] == pytest.approx(1.0 - 0.1 * 30_000) and held[ssd_model_fn.LOSS_SCALE] == 2.0
    assert scalars["gradient_norm"] == 30_000


def test_a_small_gradient_is_not_lost():
    def small(weight, part):
        return tf.cast(tf.cast(weight, tf.float16), tf.float32) * 1e-7 * part

    assert one_step(small)[0]["kernel/Momentum"] == pytest.approx(1e-7, rel=1e-3)
    assert one_step(small, scale=1.0)[0]["kernel/Momentum"] != pytest.approx(1e-7, rel=1e-3)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_gradient_that_no_scale_helps_stops_the_run(scale):
    def infinite(weight, part):
        return weight * np.float32(np.inf) * part if scale is None else tf.sqrt(weight - 1.0) * part

    held, scalars = one_step(infinite, scale=scale)
    assert held["kernel"] == 1.0
    assert scalars["gradient_norm"] == np.inf  # which the training log stops at


def test_mixed_precision_learns_in_float32_variables(tiny_of_four, tmp_path):
    element = tf.nest.map_structure(lambda values: values[:1], four_images())  # float16 is slow here
    element[0]["image"] /= 20  # a scale of 2^10 is not too high for such gradients
    trained = variables(train(tiny_of_four, tmp_path, 2, element, precision=Precision.FLOAT16))
    assert {value.dtype for name, value in trained.items() if "ssd300" in name} == {np.dtype(np.float32)}
    momenta = [value for name, value in trained.items() if name.endswith("/Momentum")]
    assert all(np.isfinite(value).all() for value in momenta) and max(np.abs(value).max() for value in momenta) > 1
    assert trained[ssd_model_fn.LOSS_SCALE] == 2.0**10 and trained["good_steps"] == 2


def test_mixed_precision_does_not_go_on_from_a_run_without(tiny_of_four, tmp_path):
    train(tiny_of_four, tmp_path, 1)
    with pytest.raises(ValueError, match=r"--mixed_precision: .*ckpt-1 was trained without it"):
        train(tiny_of_four, tmp_path, 2, precision=Precision.FLOAT16)

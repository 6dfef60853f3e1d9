"""The Estimator's model_fn: targets, network, loss, gradients and update, in this order.

The loss is that of section 2.2 of the paper plus weight decay; the update is momentum SGD, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.accumulation import in_parts
from net.default_boxes import default_boxes
from net.detections import detect
from net.devices import Precision
from net.matching import Targets, encode_targets
from net.multibox_loss import multibox_loss
from net.ssd_net import SsdOutput, ssd_network
from net.training_log import LOGGED_FEATURES, DrawFirstBatch, TrainingLog
from utility.checkpoints.warm_start import Resume, WarmStart
from utility.config.settings import Config, LossConfig, ScheduleConfig

LOSS_SCALE = "current_loss_scale"  # TensorFlow's name of the variable, in checkpoints of mixed precision
_FIRST_LOSS_SCALE = 2.0**10  # arXiv 1710.03740, section 3.2, found 8 to be enough for SSD

GradientsAndVariables = list[tuple[tf.Tensor, tf.Variable]]


@dataclass(frozen=True)
class Params:
    """The `params` of the Estimator; those after `precision` are of training alone."""

    config: Config
    data_format: str  # of the feature maps: "channels_first" or "channels_last"
    model_scope: str = "ssd300"  # of all variables
    precision: Precision = Precision.FLOAT32
    start: WarmStart | Resume | None = None  # None: random weights
    log_every_n_steps: int = 10
    images_per_epoch: int | None = None  # None: the log does not tell the epoch
    accumulate_steps: int = 1  # equal parts in which a replica computes its images, one after the other
    xla: bool = False  # compile the network
    first_batch: str | None = None  # file for a picture of the first batch


def ssd_model_fn(features: dict, labels: Any, mode: str, params: Params) -> tf.estimator.EstimatorSpec:
    """Build the graph of one mode.

    Args:
      features: `image` float32 [B, H, W, 3], BGR minus the channel means; `image_id` string [B]; others, such as
        `size`, are copied to the predictions.
      labels: `boxes_yxyx` float32 [B, N, 4] in [0, 1] of the input and `labels` int [B, N], 0 for padding; not
        needed for prediction.
      mode: one of tf.estimator.ModeKeys.
      params: see Params.
    """
    return _spec(features, labels, mode, params)  # not decorated itself: the Estimator inspects its arguments


# The graph consists of TensorFlow operations alone. With several replicas, AutoGraph would rewrite it line by line,
# to the same effect, which takes twice as long as building the graph.
@tf.autograph.experimental.do_not_convert
def _spec(features: dict, labels: Any, mode: str, params: Params) -> tf.estimator.EstimatorSpec:
    config = params.config
    anchors = default_boxes(config)
    if mode == tf.estimator.ModeKeys.PREDICT:
        detections = detect(_network(features["image"], params), anchors, config.detection)
        others = {name: value for name, value in features.items() if name != "image"}
        return tf.estimator.EstimatorSpec(mode, predictions={**others, **detections._asdict()})

    thresholds = config.targets.match_threshold, config.targets.neg_threshold
    targets = encode_targets(labels["boxes_yxyx"], labels["labels"], anchors, *thresholds)
    if mode == tf.estimator.ModeKeys.EVAL:
        losses = total_loss(_network(features["image"], params), targets, config)
        parts = {"cross_entropy": losses.cross_entropy, "location": losses.location, "accuracy": losses.accuracy}
        metrics = {name: tf.metrics.mean(value) for name, value in parts.items()}
        return tf.estimator.EstimatorSpec(mode, loss=losses.total, eval_metric_ops=metrics)

    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate(global_step, config.schedule)
    optimizer = tf.train.MomentumOptimizer(rate, config.schedule.momentum)
    half = params.precision is Precision.FLOAT16  # small gradients would become 0 in it, so the loss is scaled
    loss_scale = tf.mixed_precision.DynamicLossScale(_FIRST_LOSS_SCALE) if half else None
    scale = loss_scale() if loss_scale else None
    positives = tf.reduce_sum(tf.cast(targets.classes > 0, tf.float32))
    compute: Callable = partial(
        _losses_and_gradients, normalizer=_normalizer(positives), optimizer=optimizer, scale=scale, params=params
    )
    if params.accumulate_steps > 1:
        compute = in_parts(compute, params.accumulate_steps)
    losses, gradients = compute(features["image"], targets)
    if params.start:
        params.start.load()  # before the optimizer adds its variables to those of the network
    norm, finite, gradients = safe_gradients(gradients, losses.total, config.schedule, scale)
    scalars = {
        "cross_entropy": losses.cross_entropy,
        "location": losses.location,
        "l2": losses.l2,
        "accuracy": losses.accuracy,
        "learning_rate": rate,
        "gradient_norm": norm,
        **({} if scale is None else {"loss_scale": scale}),
    }
    step = tf.identity(global_step)  # read before the update increments it
    with tf.control_dependencies([step, losses.total, *scalars.values()]):
        train_op = optimizer.apply_gradients(gradients, global_step)
        if loss_scale:
            train_op = tf.group(train_op, _adapt(loss_scale, finite))

    for name, value in scalars.items():
        tf.summary.scalar(f"train/{name}", value)  # the Estimator writes the loss itself
    tf.summary.scalar("train/positives", positives / tf.cast(tf.shape(targets.classes)[0], tf.float32))
    logged = {name: features[name] for name in LOGGED_FEATURES if name in features}
    hooks: list[tf.train.SessionRunHook] = [
        TrainingLog(
            {"loss": losses.total, **scalars, "step": step + 1, **logged},
            config.schedule,
            params.log_every_n_steps,
            params.images_per_epoch,
        )
    ]
    if params.first_batch:  # before the log, which may stop the training at this batch
        shown = {"image": features["image"], **labels, "classes": targets.classes}
        hooks.insert(0, DrawFirstBatch(shown, anchors, config, params.first_batch))
    # the Estimator would stop at a NaN before our log can report it, so it is given the largest number instead
    finite_loss = tf.where_v2(tf.is_finite(losses.total), losses.total, losses.total.dtype.max)
    scaffold = _scaffold_with_relative_paths()
    return tf.estimator.EstimatorSpec(
        mode, loss=finite_loss, train_op=train_op, training_hooks=hooks, scaffold=scaffold
    )


def _network(images: tf.Tensor, params: Params, training: bool = False) -> SsdOutput:
    # the loss stays outside of XLA, which does not support shapes that depend on the number of objects
    with tf.xla.experimental.jit_scope(training and params.xla):
        return ssd_network(
            images,
            params.config,
            params.data_format,
            params.model_scope,
            training=training,
            mixed_precision=params.precision is Precision.FLOAT16,
            pretrained=isinstance(params.start, WarmStart),
        )


class Losses(NamedTuple):
    """The loss that is minimized, its parts, and the accuracy, scalars float32."""

    total: tf.Tensor
    cross_entropy: tf.Tensor
    location: tf.Tensor  # times localization_weight
    l2: tf.Tensor  # weight decay
    correct: tf.Tensor  # number of positives and mined negatives that are classified correctly
    selected: tf.Tensor  # number of positives and mined negatives

    @property
    def accuracy(self) -> tf.Tensor:
        """The part of positives and mined negatives that are classified correctly."""
        return tf.math.divide_no_nan(self.correct, self.selected)


def total_loss(
    output: SsdOutput, targets: Targets, config: Config, parts: int = 1, normalizer: tf.Tensor | None = None
) -> Losses:
    """Return the multibox loss of a batch plus the weight decay.

    Of a batch in several `parts`, these are the losses of one part, which add up to those of the batch; for the
    `normalizer` see `multibox_loss`.
    """
    settings = config.loss
    multibox = multibox_loss(output, targets, settings.negative_ratio, settings.negatives_without_positive, normalizer)
    location = settings.localization_weight * multibox.localization
    l2 = weight_decay(tf.trainable_variables(), settings) / parts
    total = multibox.cross_entropy + location + l2
    return Losses(total, multibox.cross_entropy, location, l2, multibox.correct, multibox.selected)


def weight_decay(variables: list[tf.Variable], settings: LossConfig) -> tf.Tensor:
    """Return weight_decay times the sum of l2_loss of the variables, float32 [].

    As in the reference, biases are included (unless decay_biases is off), and conv4_3's scale counts a tenth. Batch
    norm's gamma and beta are not decayed: the next layer's weights would grow to make up for it.
    """

    def factor(variable: tf.Variable) -> float:
        if "conv4_3_scale" in variable.name:
            return settings.scale_decay_factor
        if _last_name(variable) in ("gamma", "beta"):
            return 0.0
        return float(settings.decay_biases or _last_name(variable) != "bias")

    return settings.weight_decay * tf.add_n([factor(v) * tf.nn.l2_loss(v) for v in variables if factor(v)])


def _last_name(variable: tf.Variable) -> str:
    """Return `kernel`, `bias`, ...; a mirrored variable's `op` is named after its replica, its `name` is not."""
    return variable.name.split(":")[0].rpartition("/")[2]


def _normalizer(positives: tf.Tensor) -> tf.Tensor:
    """Return the divisor of a replica's losses: the mean number of positives of a replica, float32 [].

    The optimizer averages over the replicas, so the losses of the batch are divided by the positives of the batch.
    """
    replica = tf.distribute.get_replica_context()
    mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, positives)
    return tf.maximum(mean, 1 / replica.num_replicas_in_sync)


def _losses_and_gradients(
    images: tf.Tensor,
    targets: Targets,
    normalizer: tf.Tensor,
    optimizer: tf.train.Optimizer,
    scale: tf.Tensor | None,
    params: Params,
) -> tuple[Losses, GradientsAndVariables]:
    """Build the network on images, its losses, and the gradients of their sum."""
    output = _network(images, params, training=True)
    losses = total_loss(output, targets, params.config, params.accumulate_steps, normalizer)
    pairs = optimizer.compute_gradients(losses.total if scale is None else losses.total * scale)
    pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    return losses, pairs if scale is None else [(gradient / scale, variable) for gradient, variable in pairs]


def learning_rate(global_step: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    """Return the learning rate of a step, float32 []: piecewise constant, and never below end_learning_rate."""
    boundaries = tf.constant(schedule.decay_boundaries, tf.int64)
    passed = tf.reduce_sum(tf.cast(tf.cast(global_step, tf.int64) > boundaries, tf.int32))
    return tf.gather(tf.constant(schedule.rates, tf.float32), passed)


def safe_gradients(
    pairs: GradientsAndVariables, loss: tf.Tensor, schedule: ScheduleConfig, scale: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, GradientsAndVariables]:
    """Clip gradients, scale those of biases, and replace all by 0 where the loss or one of them is not finite.

    The training log stops the run at an infinite norm; no variable and no checkpoint has changed by then. A norm of 0
    means an overflow that may be due to a loss scale above 1: the run continues with a smaller scale.

    Args:
      pairs: (gradient, variable).
      loss: float32 [].
      schedule: clip_gradient_norm and bias_lr_factor.
      scale: the loss scale that the gradients were computed with, and divided by; None: none.

    Returns:
      norm: float32 [], of all gradients together; infinite where the run has to stop.
      finite: bool [], whether loss and gradients of all replicas were finite.
      pairs: (gradient, variable), to be applied.
    """
    # compute_gradients divides the loss by the number of replicas, and apply_gradients adds up their gradients: a
    # replica's norm times their number is near the norm of the sum
    replica = tf.distribute.get_replica_context()
    norm = tf.global_norm([gradient for gradient, _ in pairs]) * replica.num_replicas_in_sync
    # all replicas have to decide alike, or their variables would differ from here on
    failed = tf.cast(tf.logical_not(tf.is_finite([loss, norm])), tf.float32)
    failed = replica.all_reduce(tf.distribute.ReduceOp.SUM, failed)
    loss_is_finite, finite = tf.equal(failed[0], 0.0), tf.equal(tf.reduce_sum(failed), 0.0)
    largest = schedule.clip_gradient_norm
    if largest:
        gradients = [gradient for gradient, _ in pairs]
        if replica.num_replicas_in_sync > 1:  # apply_gradients adds them up, so the norm is that of their sum
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        factor = largest / tf.maximum(tf.global_norm(gradients), largest)
        pairs = [(gradient * factor, variable) for gradient, variable in pairs]
    overflow = tf.constant(False) if scale is None else tf.logical_and(loss_is_finite, scale > 1.0)
    norm = tf.where_v2(finite, norm, tf.where_v2(overflow, 0.0, float("inf")))

    def usable(gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        gradient = tf.cond(finite, lambda: gradient, lambda: tf.zeros_like(gradient))  # tf.where would copy it
        biased = schedule.bias_lr_factor != 1.0 and _last_name(variable) == "bias"
        return gradient * schedule.bias_lr_factor if biased else gradient

    return norm, finite, [(usable(gradient, variable), variable) for gradient, variable in pairs]


def _adapt(loss_scale: Any, finite: tf.Tensor) -> tf.Operation:
    """Halve the loss scale after an overflow, double it after many steps without one: arXiv 1710.03740, section 3.2."""
    gradient = tf.where_v2(finite, 0.0, float("inf"))  # `update` looks only at whether it is finite

    def adapted(strategy: Any, gradient: tf.Tensor) -> tf.Operation:
        del strategy
        return loss_scale.update([gradient])[0]

    return tf.distribute.get_replica_context().merge_call(adapted, args=(gradient,))


def _scaffold_with_relative_paths() -> tf.train.Scaffold | None:
    """Write relative paths into the checkpoint state, so that a model directory can be moved or copied.

    Not with several replicas: their scaffolds are merged, which does not work with a saver of our own.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
        return None
    saver = tf.train.Saver(max_to_keep=5, save_relative_paths=True)
    tf.add_to_collection(tf.GraphKeys.SAVERS, saver)  # where the saver hook looks for it
    return tf.train.Scaffold(saver=saver)

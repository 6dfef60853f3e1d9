"""The Estimator's model_fn for training, evaluation and prediction, with the optimizer and its schedule."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.detections import detect
from net.multibox_loss import MultiboxLoss, multibox_loss
from net.ssd_net import SsdOutput, ssd_network
from utility.anchor_manipulator import DefaultBoxes, default_boxes, encode_targets
from utility.config import Config, LossConfig, ScheduleConfig
from utility.training_log import TrainingLog


def ssd_model_fn(features: dict, labels: Any, mode: str, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    """Build the graph of one mode.

    Args:
      features: `image` float32 [B, H, W, 3], BGR minus the means; `image_id` string [B]; what else there is
        (such as `size`) is handed on to the predictions.
      labels: `boxes_yxyx` float32 [B, N, 4] in [0, 1] of the input and `labels` int [B, N], 0 for padding; not
        needed for prediction.
      mode: one of tf.estimator.ModeKeys.
      params: `config` (a utility.config.Config); `data_format` ("channels_first" or "channels_last");
        `model_scope`, the scope of all variables; for training, `log_every_n_steps` and optionally
        `start`, a WarmStart or Resume of utility.scaffolds, and `images_per_epoch`, for the log.

    The default boxes are rebuilt from the config as a constant, so the input function need not know them.
    """
    config: Config = params["config"]
    training = mode == tf.estimator.ModeKeys.TRAIN
    output = ssd_network(features["image"], config, params["data_format"], params["model_scope"], training)
    anchors = default_boxes(config)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=_predictions(features, output, anchors, config))
    losses = total_loss(output, labels, anchors, config)
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=losses.total, eval_metric_ops=_mean_metrics(losses))
    if params.get("start"):
        params["start"].load()
    return _training_spec(features, losses, config, params)


class Losses(NamedTuple):
    """The loss that is minimized and its parts, scalars float32."""

    total: tf.Tensor
    multibox: MultiboxLoss
    l2: tf.Tensor


def total_loss(output: SsdOutput, labels: dict, anchors: DefaultBoxes, config: Config) -> Losses:
    """Match and encode the ground truth, and compare the output with it; weight decay is part of the loss."""
    targets = encode_targets(
        labels["boxes_yxyx"],
        labels["labels"],
        anchors,
        config.targets.match_threshold,
        config.targets.neg_threshold,
    )
    multibox = multibox_loss(output, targets, config.loss.negative_ratio, config.loss.negatives_without_positive)
    l2 = weight_decay(tf.trainable_variables(), config.loss)
    return Losses(multibox.cross_entropy + multibox.localization + l2, multibox, l2)


def weight_decay(variables: list[tf.Variable], settings: LossConfig) -> tf.Tensor:
    """Return weight_decay x the sum of half the squares, as the reference: biases too, the scale a tenth.

    Batch norm's gamma and beta are left out: a decayed gamma would only make the next layer's weights grow.
    """

    def factor(variable: tf.Variable) -> float:
        if "conv4_3_scale" in variable.name:
            return settings.scale_decay_factor
        if _last_name(variable) in ("gamma", "beta"):
            return 0.0
        return float(settings.decay_biases or not is_bias(variable))

    return settings.weight_decay * tf.add_n([factor(v) * tf.nn.l2_loss(v) for v in variables if factor(v)])


def is_bias(variable: tf.Variable) -> bool:
    """Tell a layer's bias from its kernel."""
    return _last_name(variable) == "bias"


def _last_name(variable: tf.Variable) -> str:
    return variable.name.split(":")[0].rpartition("/")[2]  # .op of a mirrored variable is named after its replica


def learning_rate(global_step: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    """Return the rate of a step, float32: the factor of its interval, never below end_learning_rate."""
    rates = [max(schedule.learning_rate * factor, schedule.end_learning_rate) for factor in schedule.lr_decay_factors]
    boundaries = tf.constant(schedule.decay_boundaries, tf.int64)
    passed = tf.reduce_sum(tf.cast(tf.cast(global_step, tf.int64) > boundaries, tf.int32))
    return tf.gather(tf.constant(rates, tf.float32), passed)


def _training_spec(features: dict, losses: Losses, config: Config, params: dict) -> tf.estimator.EstimatorSpec:
    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate(global_step, config.schedule)
    optimizer = tf.train.MomentumOptimizer(rate, config.schedule.momentum)
    gradients, norm = _safe_gradients(optimizer, losses.total, config.schedule)
    step = tf.identity(global_step)  # its number as the user counts is one more: read before it is raised
    with tf.control_dependencies([step]):
        train_op = optimizer.apply_gradients(gradients, global_step)
    scalars = {
        "loss": losses.total,
        "cross_entropy": losses.multibox.cross_entropy,
        "location": losses.multibox.localization,
        "l2": losses.l2,
        "accuracy": losses.multibox.accuracy,
        "learning_rate": rate,
        "gradient_norm": norm,
    }
    for name, value in scalars.items():
        if name != "loss":  # the Estimator writes that one itself
            tf.summary.scalar(f"train/{name}", value)
    tf.summary.scalar("train/positives", tf.reduce_mean(tf.cast(losses.multibox.positives, tf.float32)))
    hook = TrainingLog(
        scalars,
        features["image_id"],
        step + 1,
        every=params["log_every_n_steps"],
        last_step=config.schedule.max_number_of_steps,
        batch_size=config.schedule.batch_size,
        images_per_epoch=params.get("images_per_epoch"),
        waited=features.get("waited"),
    )
    # the Estimator stops at a loss that is no number before our log can say why: it is shown a number
    shown = tf.where_v2(tf.is_finite(losses.total), losses.total, losses.total.dtype.max)
    return tf.estimator.EstimatorSpec(
        "train", loss=shown, train_op=train_op, training_hooks=[hook], scaffold=_movable_scaffold()
    )


def _movable_scaffold() -> tf.train.Scaffold | None:
    """Note the newest checkpoint by its name alone, so that a model directory can be moved or copied.

    Mirrored replicas merge their scaffolds, which a saver of their own would not survive: there the path is whole.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
        return None
    saver = tf.train.Saver(max_to_keep=5, save_relative_paths=True)
    tf.add_to_collection(tf.GraphKeys.SAVERS, saver)  # where the hook that saves looks for it
    return tf.train.Scaffold(saver=saver)


def _safe_gradients(optimizer: tf.train.Optimizer, loss: tf.Tensor, schedule: ScheduleConfig):
    """Return (gradient, variable) pairs and the gradients' norm; all gradients are 0 if any is not finite.

    The training log stops the run at such a step; by then no variable has been spoilt, and neither is the
    checkpoint that may be written at the same step.
    """
    pairs = [(g, v) for g, v in optimizer.compute_gradients(loss) if g is not None]
    norm = tf.global_norm([gradient for gradient, _ in pairs])
    # every replica must hear of the one that went wrong, or their variables would part
    spoilt = tf.cast(tf.logical_not(tf.logical_and(tf.is_finite(loss), tf.is_finite(norm))), tf.float32)
    spoilt = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, spoilt)
    finite = tf.equal(spoilt, 0.0)

    if schedule.clip_gradient_norm:
        pairs = _clipped(pairs, schedule.clip_gradient_norm)

    def safe(gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        factor = schedule.bias_lr_factor if is_bias(variable) else 1.0
        # tf.where would copy 26 million numbers a step
        usable = tf.cond(finite, lambda: gradient, lambda: tf.zeros_like(gradient))
        return usable if factor == 1.0 else usable * factor

    # an infinite norm is what the training log stops at, on whichever replica it reads
    return [(safe(g, v), v) for g, v in pairs], tf.where_v2(finite, norm, float("inf"))


def _clipped(pairs: list, largest: float) -> list:
    """Scale (gradient, variable) pairs so that the norm of all of them together is `largest` at most.

    Replicas add their gradients up when they apply them, so it is the sum that must not be larger.
    """
    replica = tf.distribute.get_replica_context()
    gradients = [gradient for gradient, _ in pairs]
    if replica.num_replicas_in_sync > 1:
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    scale = largest / tf.maximum(tf.global_norm(gradients), largest)
    return [(gradient * scale, variable) for gradient, variable in pairs]


def _mean_metrics(losses: Losses) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    multibox = losses.multibox
    scalars = {
        "cross_entropy": multibox.cross_entropy,
        "location": multibox.localization,
        "accuracy": multibox.accuracy,
    }
    return {name: tf.metrics.mean(value) for name, value in scalars.items()}


def _predictions(features: dict, output: SsdOutput, anchors: DefaultBoxes, config: Config) -> dict[str, tf.Tensor]:
    handed_on = {name: value for name, value in features.items() if name != "image"}
    return {**handed_on, **detect(output, anchors, config.detection)._asdict()}

"""The Estimator's model_fn for training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.estimator import optimizer
from net.estimator.optimizer import is_bias, last_name
from net.estimator.training_log import FEATURES, TrainingLog
from net.network.detections import detect
from net.network.multibox_loss import MultiboxLoss, multibox_loss
from net.network.ssd_net import SsdOutput, ssd_network
from utility.boxes.default_boxes import DefaultBoxes, default_boxes
from utility.boxes.encoding import Targets, encode_targets
from utility.config.settings import Config, LossConfig


def ssd_model_fn(features: dict, labels: Any, mode: str, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    """Build the graph of one mode.

    Args:
      features: `image` float32 [B, H, W, 3], BGR minus the means; `image_id` string [B]; what else there is
        (such as `size`) is handed on to the predictions.
      labels: `boxes_yxyx` float32 [B, N, 4] in [0, 1] of the input and `labels` int [B, N], 0 for padding; not
        needed for prediction.
      mode: one of tf.estimator.ModeKeys.
      params: `config` (a Config); `data_format` ("channels_first" or "channels_last");
        `model_scope`, the scope of all variables; for training, `log_every_n_steps` and optionally
        `start`, as utility.checkpoints.initialization gives it, `images_per_epoch`, for the log, `accumulate_steps`,
        the parts in which a batch is computed, `mixed_precision`, whether the network is trained in float16, and
        `xla`, whether it is compiled.

    The default boxes are rebuilt from the config as a constant, so the input function need not know them.
    """
    return _spec(features, labels, mode, params)  # a function of its own: the Estimator reads this one's arguments


# Everything here is written in operations. Where there are replicas, AutoGraph would rewrite it line by line, which
# takes twice as long as building the graph, and finds nothing to change.
@tf.autograph.experimental.do_not_convert
def _spec(features: dict, labels: Any, mode: str, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    config: Config = params["config"]
    anchors = default_boxes(config)

    def network(images: tf.Tensor) -> SsdOutput:
        training = mode == tf.estimator.ModeKeys.TRAIN
        half = training and params.get("mixed_precision", False)
        # the loss stays outside: its shapes depend on the batch, which XLA cannot do
        with tf.xla.experimental.jit_scope(training and params.get("xla", False)):
            return ssd_network(images, config, params["data_format"], params["model_scope"], training, half)

    if mode == tf.estimator.ModeKeys.PREDICT:
        output = network(features["image"])
        return tf.estimator.EstimatorSpec(mode, predictions=_predictions(features, output, anchors, config))
    targets = _targets(labels, anchors, config)
    if mode == tf.estimator.ModeKeys.EVAL:
        losses = total_loss(network(features["image"]), targets, config)
        return tf.estimator.EstimatorSpec(mode, loss=losses.total, eval_metric_ops=_mean_metrics(losses))
    return _training_spec(features, targets, network, params)


def _targets(labels: dict, anchors: DefaultBoxes, config: Config) -> Targets:
    """Match and encode the ground truth."""
    thresholds = (config.targets.match_threshold, config.targets.neg_threshold)
    return encode_targets(labels["boxes_yxyx"], labels["labels"], anchors, *thresholds)


class Losses(NamedTuple):
    """The loss that is minimized and its parts, scalars float32."""

    total: tf.Tensor
    multibox: MultiboxLoss
    l2: tf.Tensor


def total_loss(
    output: SsdOutput, targets: Targets, config: Config, parts: int = 1, normalizer: tf.Tensor | None = None
) -> Losses:
    """Compare the output with the ground truth; weight decay is part of the loss.

    Of a batch in several `parts` these are one part's losses, which add up to those of the batch; for the
    `normalizer` see multibox_loss.
    """
    multibox = multibox_loss(
        output, targets, config.loss.negative_ratio, config.loss.negatives_without_positive, normalizer
    )
    l2 = weight_decay(tf.trainable_variables(), config.loss) / parts
    return Losses(multibox.cross_entropy + multibox.localization + l2, multibox, l2)


def weight_decay(variables: list[tf.Variable], settings: LossConfig) -> tf.Tensor:
    """Return weight_decay x the sum of half the squares, as the reference: biases too, the scale a tenth.

    Batch norm's gamma and beta are left out: a decayed gamma would only make the next layer's weights grow.
    """

    def factor(variable: tf.Variable) -> float:
        if "conv4_3_scale" in variable.name:
            return settings.scale_decay_factor
        if last_name(variable) in ("gamma", "beta"):
            return 0.0
        return float(settings.decay_biases or not is_bias(variable))

    return settings.weight_decay * tf.add_n([factor(v) * tf.nn.l2_loss(v) for v in variables if factor(v)])


def _training_spec(features: dict, targets: Targets, network, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    config: Config = params["config"]
    positives = tf.reduce_sum(tf.cast(targets.classes > 0, tf.float32))
    update = optimizer.update(
        _losses_of_part(network, config, params.get("accumulate_steps", 1), _normalizer(positives)),
        (features["image"], targets),
        config.schedule,
        parts=params.get("accumulate_steps", 1),
        mixed_precision=params.get("mixed_precision", False),
        before=params["start"].load if params.get("start") else lambda: None,
    )
    scalars = dict(update.scalars)
    scalars["accuracy"] = tf.math.divide_no_nan(scalars.pop("right"), scalars.pop("chosen"))
    for name, value in scalars.items():
        if name != "loss":  # the Estimator writes that one itself
            tf.summary.scalar(f"train/{name}", value)
    tf.summary.scalar("train/positives", positives / tf.cast(tf.shape(targets.classes)[0], tf.float32))
    hook = TrainingLog(
        {**scalars, "step": update.step, **{name: features[name] for name in FEATURES if name in features}},
        params["log_every_n_steps"],
        config.schedule.max_number_of_steps,
        config.schedule.batch_size,
        params.get("images_per_epoch"),
    )
    loss = scalars["loss"]
    # the Estimator stops at a loss that is not a number before our log can report it: it is given a number instead
    finite_loss = tf.where_v2(tf.is_finite(loss), loss, loss.dtype.max)
    return tf.estimator.EstimatorSpec(
        "train", loss=finite_loss, train_op=update.train_op, training_hooks=[hook], scaffold=_relative_scaffold()
    )


def _normalizer(positives: tf.Tensor) -> tf.Tensor:
    """Return what a replica divides its losses by: the mean over the replicas of their positives, float32 [].

    The optimizer takes the mean of the replicas' losses, so that is a division by the positives of the whole batch.
    """
    replica = tf.distribute.get_replica_context()
    mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, positives)
    return tf.maximum(mean, 1 / replica.num_replicas_in_sync)


def _losses_of_part(network, config: Config, parts: int, normalizer: tf.Tensor) -> Callable:
    """Return a function from a part of the batch, (images, targets), to scalars whose sum is that of the batch."""

    def losses_of(part: tuple[tf.Tensor, Targets]) -> dict[str, tf.Tensor]:
        losses = total_loss(network(part[0]), part[1], config, parts, normalizer)
        chosen = tf.cast(tf.reduce_sum(losses.multibox.positives + losses.multibox.negatives), tf.float32)
        return {
            "loss": losses.total,
            "cross_entropy": losses.multibox.cross_entropy,
            "location": losses.multibox.localization,
            "l2": losses.l2,
            "right": losses.multibox.accuracy * chosen,
            "chosen": chosen,
        }

    return losses_of


def _relative_scaffold() -> tf.train.Scaffold | None:
    """Note the newest checkpoint by its name alone, so that a model directory can be moved or copied.

    Mirrored replicas merge their scaffolds, which a saver of their own would not survive: there the path is whole.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
        return None
    saver = tf.train.Saver(max_to_keep=5, save_relative_paths=True)
    tf.add_to_collection(tf.GraphKeys.SAVERS, saver)  # where the hook that saves looks for it
    return tf.train.Scaffold(saver=saver)


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

"""The Estimator's model_fn for training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.estimator import optimizer
from net.estimator.first_batch import DrawFirstBatch
from net.estimator.gradients import is_bias, last_name
from net.estimator.precision import Precision
from net.estimator.training_log import FEATURES, TrainingLog
from net.network.detections import detect
from net.network.multibox_loss import MultiboxLoss, multibox_loss
from net.network.ssd_net import SsdOutput, ssd_network
from utility.boxes.default_boxes import DefaultBoxes, default_boxes
from utility.boxes.encoding import Targets, encode_targets
from utility.checkpoints.warm_start import WarmStart
from utility.config.settings import Config, LossConfig


def ssd_model_fn(features: dict, labels: Any, mode: str, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    """Build the graph of one mode.

    Args:
      features: `image` float32 [B, H, W, 3], BGR minus the channel means; `image_id` string [B]; others, such as
        `size`, are copied to the predictions.
      labels: `boxes_yxyx` float32 [B, N, 4] in [0, 1] of the input and `labels` int [B, N], 0 for padding; not
        needed for prediction.
      mode: one of tf.estimator.ModeKeys.
      params: `config`, a Config; `data_format`, "channels_first" or "channels_last"; `model_scope`, the scope of all
        variables; for training `log_every_n_steps`, and optionally `start`, as
        utility.checkpoints.initialization.starting_point returns it, `images_per_epoch`, for the log,
        `accumulate_steps`, in how many parts a replica computes its batch, `xla`, to compile the network, and
        `first_batch`, a file for the picture of the first batch; in all modes optionally `precision`, what the network
        computes in.

    The default boxes are built from the config as a constant, so the input function does not need them.
    """
    return _spec(features, labels, mode, params)  # not decorated itself: the Estimator inspects its arguments


# The graph consists of TensorFlow operations alone. With several replicas, AutoGraph would rewrite it line by line,
# to the same effect, which takes twice as long as building the graph.
@tf.autograph.experimental.do_not_convert
def _spec(features: dict, labels: Any, mode: str, params: dict[str, Any]) -> tf.estimator.EstimatorSpec:
    config: Config = params["config"]
    anchors = default_boxes(config)

    def network(images: tf.Tensor) -> SsdOutput:
        training = mode == tf.estimator.ModeKeys.TRAIN
        # the loss stays outside: its shapes depend on the number of objects, which XLA does not support
        with tf.xla.experimental.jit_scope(training and params.get("xla", False)):
            return ssd_network(
                images,
                config,
                params["data_format"],
                params["model_scope"],
                training=training,
                mixed_precision=_half(params),
                pretrained=isinstance(params.get("start"), WarmStart),
            )

    if mode == tf.estimator.ModeKeys.PREDICT:
        output = network(features["image"])
        return tf.estimator.EstimatorSpec(mode, predictions=_predictions(features, output, anchors, config))
    targets = _targets(labels, anchors, config)
    if mode == tf.estimator.ModeKeys.EVAL:
        losses = total_loss(network(features["image"]), targets, config)
        return tf.estimator.EstimatorSpec(mode, loss=losses.total, eval_metric_ops=_mean_metrics(losses))
    spec = _training_spec(features, targets, network, params)
    if params.get("first_batch"):
        shown = {"image": features["image"], **labels, "classes": targets.classes}
        hook = DrawFirstBatch(shown, anchors, config, params["first_batch"])
        # before the log, which may stop the training at this batch
        spec = spec._replace(training_hooks=(hook, *spec.training_hooks))
    return spec


def _half(params: dict[str, Any]) -> bool:
    return params.get("precision") is Precision.FLOAT16


def _targets(labels: dict, anchors: DefaultBoxes, config: Config) -> Targets:
    """Match and encode the ground truth."""
    thresholds = (config.targets.match_threshold, config.targets.neg_threshold)
    return encode_targets(labels["boxes_yxyx"], labels["labels"], anchors, *thresholds)


class Losses(NamedTuple):
    """The loss that is minimized and its parts, scalars float32."""

    total: tf.Tensor
    multibox: MultiboxLoss  # its localization loss times localization_weight
    l2: tf.Tensor


def total_loss(
    output: SsdOutput, targets: Targets, config: Config, parts: int = 1, normalizer: tf.Tensor | None = None
) -> Losses:
    """Return the loss: the multibox loss of the output and the weight decay.

    Of a batch in several `parts`, these are the losses of one part, which add up to those of the batch; for the
    `normalizer` see `multibox_loss`.
    """
    multibox = multibox_loss(
        output, targets, config.loss.negative_ratio, config.loss.negatives_without_positive, normalizer
    )
    multibox = multibox._replace(localization=config.loss.localization_weight * multibox.localization)
    l2 = weight_decay(tf.trainable_variables(), config.loss) / parts
    return Losses(multibox.cross_entropy + multibox.localization + l2, multibox, l2)


def weight_decay(variables: list[tf.Variable], settings: LossConfig) -> tf.Tensor:
    """Return weight_decay times the sum of l2_loss of the variables, float32 [].

    As in the reference, biases are included (unless decay_biases is off), and conv4_3's scale counts a tenth. Batch
    norm's gamma and beta are not decayed: the next layer's weights would grow to make up for it.
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
        mixed_precision=_half(params),
        before_slots=params["start"].load if params.get("start") else lambda: None,
    )
    scalars = dict(update.scalars)
    scalars["accuracy"] = tf.math.divide_no_nan(scalars.pop("correct"), scalars.pop("selected"))
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
    # the Estimator would stop at a NaN before our log can report it, so it is given the largest number instead
    finite_loss = tf.where_v2(tf.is_finite(loss), loss, loss.dtype.max)
    return tf.estimator.EstimatorSpec(
        "train", loss=finite_loss, train_op=update.train_op, training_hooks=[hook], scaffold=_relative_scaffold()
    )


def _normalizer(positives: tf.Tensor) -> tf.Tensor:
    """Return the divisor of a replica's losses: the mean number of positives of a replica, float32 [].

    The optimizer averages over the replicas, so the losses of the batch are divided by the positives of the batch.
    """
    replica = tf.distribute.get_replica_context()
    mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, positives)
    return tf.maximum(mean, 1 / replica.num_replicas_in_sync)


def _losses_of_part(network, config: Config, parts: int, normalizer: tf.Tensor) -> Callable:
    """Return a function from a part of the batch, (images, targets), to scalars whose sum is that of the batch."""

    def losses_of(part: tuple[tf.Tensor, Targets]) -> dict[str, tf.Tensor]:
        losses = total_loss(network(part[0]), part[1], config, parts, normalizer)
        selected = tf.cast(tf.reduce_sum(losses.multibox.positives + losses.multibox.negatives), tf.float32)
        return {
            "loss": losses.total,
            "cross_entropy": losses.multibox.cross_entropy,
            "location": losses.multibox.localization,
            "l2": losses.l2,
            "correct": losses.multibox.accuracy * selected,
            "selected": selected,
        }

    return losses_of


def _relative_scaffold() -> tf.train.Scaffold | None:
    """Write relative paths into the checkpoint state, so that a model directory can be moved or copied.

    Not with several replicas: their scaffolds are merged, which does not work with a saver of our own.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
        return None
    saver = tf.train.Saver(max_to_keep=5, save_relative_paths=True)
    tf.add_to_collection(tf.GraphKeys.SAVERS, saver)  # where the saver hook looks for it
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
    others = {name: value for name, value in features.items() if name != "image"}
    return {**others, **detect(output, anchors, config.detection)._asdict()}

"""The Estimator's model_fn for training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.default_boxes import DefaultBoxes, default_boxes
from net.detections import detect
from net.layers import Precision
from net.matching import Targets, encode_targets
from net.multibox_loss import MultiboxLoss, multibox_loss
from net.ssd_net import SsdOutput, ssd_network
from net.training_log import FEATURES, DrawFirstBatch, TrainingLog
from utility.checkpoints.warm_start import WarmStart
from utility.config.settings import Config, LossConfig, ScheduleConfig

# The learning rate of a step.


def learning_rate(global_step: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    """Return the learning rate of a step, float32 []: piecewise constant, and never below end_learning_rate."""
    rates = [max(schedule.learning_rate * factor, schedule.end_learning_rate) for factor in schedule.lr_decay_factors]
    boundaries = tf.constant(schedule.decay_boundaries, tf.int64)
    passed = tf.reduce_sum(tf.cast(tf.cast(global_step, tf.int64) > boundaries, tf.int32))
    return tf.gather(tf.constant(rates, tf.float32), passed)


# Gradients of a batch: accumulated over its parts, clipped, and replaced by 0 where one of them is not finite.

GradientsAndVariables = list[tuple[tf.Tensor, tf.Variable]]


def summed_over_parts(compute: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Return the sum of `compute` over equal parts of a batch, computed one after the other in the memory of one.

    The first part builds the graph and its variables; a loop computes the others in a second copy of the graph, of
    which only the sums are kept from one part to the next.

    Args:
      compute: from a part to tensors in any structure.
      batch: tensors in any structure, whose first axis is the image.
      parts: their number; divides the images of the batch.
    """
    if parts == 1:
        return compute(batch)

    def part(number) -> Any:
        return tf.nest.map_structure(lambda t: tf.reshape(t, [parts, t.shape[0] // parts, *_sides(t)])[number], batch)

    def next_number(number, sums: Any) -> tf.Tensor:
        with tf.control_dependencies(tf.nest.flatten(sums)):  # the next part starts when this one is finished
            return number + tf.constant(1)

    def add_part(number: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            sums = tf.nest.map_structure(tf.add, sums, compute(part(number)))
        return next_number(number, sums), sums

    first = compute(part(0))
    begin = [next_number(0, first), first]
    return tf.while_loop(lambda number, _: number < parts, add_part, begin, parallel_iterations=1)[1]


def _sides(tensor: tf.Tensor) -> list:
    """Return the sizes of all axes but the first: numbers where the static shape has them, else tensors."""
    static = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(static, start=1)]


class SafeGradients(NamedTuple):
    """Gradients that can be applied whatever happened: all of them are 0 where one of them was not finite."""

    pairs: GradientsAndVariables
    norm: tf.Tensor  # float32 [], of all gradients together; infinite where the run has to stop
    finite: tf.Tensor  # bool [], whether loss and gradients of all replicas were finite


def safe_gradients(
    pairs: Sequence, loss: tf.Tensor, schedule: ScheduleConfig, scale: tf.Tensor | None = None
) -> SafeGradients:
    """Clip gradients, scale those of biases, and replace all by 0 where the loss or one of them is not finite.

    The training log stops the run at an infinite norm. Variables have not changed by then, nor has the checkpoint that
    may be written at the same step. With a loss scale above 1 the overflow may be due to the scale: then the norm is
    given as 0, and the run continues.

    Args:
      pairs: (gradient, variable).
      loss: float32 [].
      schedule: clip_gradient_norm and bias_lr_factor.
      scale: the loss scale that the gradients were computed with, and divided by; None: none.
    """
    # compute_gradients divides the loss by the number of replicas, and apply_gradients adds up their gradients: a
    # replica's norm times their number is near the norm of the sum
    replica = tf.distribute.get_replica_context()
    norm = tf.global_norm([gradient for gradient, _ in pairs]) * replica.num_replicas_in_sync
    # all replicas have to decide alike, or their variables would differ from here on
    failed = tf.cast(tf.logical_not(tf.is_finite([loss, norm])), tf.float32)
    failed = replica.all_reduce(tf.distribute.ReduceOp.SUM, failed)
    loss_is_finite, finite = tf.equal(failed[0], 0.0), tf.equal(tf.reduce_sum(failed), 0.0)
    if schedule.clip_gradient_norm:
        pairs = _clipped(pairs, schedule.clip_gradient_norm)
    overflow = tf.constant(False) if scale is None else tf.logical_and(loss_is_finite, scale > 1.0)
    norm = tf.where_v2(finite, norm, tf.where_v2(overflow, 0.0, float("inf")))
    return SafeGradients([(_or_zeros(g, v, finite, schedule), v) for g, v in pairs], norm, finite)


def _or_zeros(gradient: tf.Tensor, variable: tf.Variable, finite: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    factor = schedule.bias_lr_factor if is_bias(variable) else 1.0
    # tf.where would copy 26 million numbers a step
    usable = tf.cond(finite, lambda: gradient, lambda: tf.zeros_like(gradient))
    return usable if factor == 1.0 else usable * factor


def _clipped(pairs: Sequence, largest: float) -> GradientsAndVariables:
    """Scale (gradient, variable) pairs so that the norm of all of them together is at most `largest`.

    apply_gradients adds up the gradients of the replicas, so the norm is that of their sum.
    """
    replica = tf.distribute.get_replica_context()
    gradients = [gradient for gradient, _ in pairs]
    if replica.num_replicas_in_sync > 1:
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    scale = largest / tf.maximum(tf.global_norm(gradients), largest)
    return [(gradient * scale, variable) for gradient, variable in pairs]


def is_bias(variable: tf.Variable) -> bool:
    """Tell whether a variable is the bias of a layer."""
    return last_name(variable) == "bias"


def last_name(variable: tf.Variable) -> str:
    """Return `kernel`, `bias`, ...; a mirrored variable's `op` is named after its replica, its `name` is not."""
    return variable.name.split(":")[0].rpartition("/")[2]


# A training step: from losses to updated variables, with momentum SGD and an adaptive loss scale.

LOSS_SCALE = "current_loss_scale"  # TensorFlow's name of the variable, in checkpoints of mixed precision
_FIRST_SCALE = 2.0**10  # of the loss; arXiv 1710.03740, section 3.2, found 8 to be enough for SSD

Scalars = dict[str, tf.Tensor]


class Update(NamedTuple):
    """A training step."""

    train_op: tf.Operation
    scalars: Scalars  # those of the loss, and `learning_rate`, `gradient_norm` (and `loss_scale`)
    step: tf.Tensor  # int64 [], the number of the step, counted from 1


def update(
    losses: Callable[[Any], Scalars],
    batch: Any,
    schedule: ScheduleConfig,
    *,
    parts: int = 1,
    mixed_precision: bool = False,
    before_slots: Callable[[], None] = lambda: None,
) -> Update:
    """Build a training step.

    Args:
      losses: builds the graph of a part of the batch, and returns `loss` and other scalars, float32 []; those of the
        batch are the sums over its parts.
      batch: tensors in any structure; their first axis is the image, and its size a multiple of `parts`.
      schedule: of the optimizer.
      parts: the batch is computed in so many parts, one after the other, in the memory of one.
      mixed_precision: scale the loss, so that small gradients do not become 0 in float16. The scale is dynamic: if it
        was too high, gradients overflow, and the step applies gradients of 0.
      before_slots: called when the network is built, and before the optimizer adds its variables.
    """
    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate(global_step, schedule)
    optimizer = tf.train.MomentumOptimizer(rate, schedule.momentum)
    loss_scale = tf.mixed_precision.DynamicLossScale(_FIRST_SCALE) if mixed_precision else None
    scale = loss_scale() if loss_scale else None
    pairs, scalars = _gradients(optimizer, losses, batch, parts, scale)
    before_slots()
    safe = safe_gradients(pairs, scalars["loss"], schedule, scale)
    scalars |= {"learning_rate": rate, "gradient_norm": safe.norm} | ({} if scale is None else {"loss_scale": scale})
    step = tf.identity(global_step)  # read before it is incremented
    with tf.control_dependencies([step, *scalars.values()]):
        train_op = optimizer.apply_gradients(safe.pairs, global_step)
        if loss_scale:
            train_op = tf.group(train_op, _adapt(loss_scale, safe.finite))
    return Update(train_op, scalars, step + 1)


def _gradients(optimizer, losses, batch, parts: int, scale: tf.Tensor | None) -> tuple[GradientsAndVariables, Scalars]:
    variables: list[tf.Variable] = []

    def of_part(part: Any) -> tuple[list[tf.Tensor], Scalars]:
        scalars = losses(part)
        pairs = optimizer.compute_gradients(scalars["loss"] if scale is None else scalars["loss"] * scale)
        variables[:] = [variable for gradient, variable in pairs if gradient is not None]
        return [gradient for gradient, _ in pairs if gradient is not None], scalars

    gradients, scalars = summed_over_parts(of_part, batch, parts)
    if scale is not None:
        gradients = [gradient / scale for gradient in gradients]
    return list(zip(gradients, variables, strict=True)), scalars


def _adapt(loss_scale, finite: tf.Tensor) -> tf.Operation:
    """Halve the loss scale after an overflow, double it after many steps without one: arXiv 1710.03740, section 3.2."""
    gradient = tf.where_v2(finite, 0.0, float("inf"))  # update() looks only at whether it is finite

    def adapted(strategy, gradient) -> tf.Operation:
        del strategy
        return loss_scale.update([gradient])[0]

    return tf.distribute.get_replica_context().merge_call(adapted, args=(gradient,))


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
        utility.checkpoints.warm_start.starting_point returns it, `images_per_epoch`, for the log,
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
    step = update(
        _losses_of_part(network, config, params.get("accumulate_steps", 1), _normalizer(positives)),
        (features["image"], targets),
        config.schedule,
        parts=params.get("accumulate_steps", 1),
        mixed_precision=_half(params),
        before_slots=params["start"].load if params.get("start") else lambda: None,
    )
    scalars = dict(step.scalars)
    scalars["accuracy"] = tf.math.divide_no_nan(scalars.pop("correct"), scalars.pop("selected"))
    for name, value in scalars.items():
        if name != "loss":  # the Estimator writes that one itself
            tf.summary.scalar(f"train/{name}", value)
    tf.summary.scalar("train/positives", positives / tf.cast(tf.shape(targets.classes)[0], tf.float32))
    hook = TrainingLog(
        {**scalars, "step": step.step, **{name: features[name] for name in FEATURES if name in features}},
        params["log_every_n_steps"],
        config.schedule.max_number_of_steps,
        config.schedule.batch_size,
        params.get("images_per_epoch"),
    )
    loss = scalars["loss"]
    # the Estimator would stop at a NaN before our log can report it, so it is given the largest number instead
    finite_loss = tf.where_v2(tf.is_finite(loss), loss, loss.dtype.max)
    return tf.estimator.EstimatorSpec(
        "train", loss=finite_loss, train_op=step.train_op, training_hooks=[hook], scaffold=_relative_scaffold()
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

"""The layers that backbones and heads are made of, in either data format."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from net.network import kernel_gradient

_MOMENTUM = 0.97  # of batch norm's moving averages: short trainings need them soon
_EPSILON = 1.001e-5  # the least that cuDNN takes, and that of Keras' ResNet50


class Layers:
    """Convolution, batch norm and pooling in one data format, so that a backbone need not know it."""

    def __init__(self, data_format: str, training: bool = False, batch_norm: bool = False, width: float = 1.0):
        """Settle what all layers of a network share.

        Args:
          data_format: "channels_first" (fast on GPUs) or "channels_last" (all that TensorFlow's CPU kernels can).
          training: whether batch norm takes the batch's own statistics, and averages them for later; and whether
            there will be gradients.
          batch_norm: whether `unit` normalizes.
          width: factor of the number of filters that `wide` gives: MobileNet's depth multiplier.
        """
        self.data_format = data_format
        self.channel_axis = 1 if data_format == "channels_first" else -1
        self._training = training
        on_cpu = self.channel_axis == -1 and not tf.config.list_physical_devices("GPU")
        self._gradients = {"Conv2D": kernel_gradient.OPERATION} if training and on_cpu else {}
        self._batch_norm = batch_norm
        self._width = width

    def wide(self, filters: int) -> int:
        """Return a number of filters times the width, at least 8."""
        return max(8, int(filters * self._width)) if self._width != 1.0 else filters

    def unit(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Convolve and apply ReLU, with a bias, or with batch norm where the backbone has it."""
        layer = self.conv_norm if self._batch_norm else self.conv
        return layer(inputs, filters, kernel, name, **options)

    def conv(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Convolve with bias and ReLU, from Glorot's random start; `options` as in tf.layers.conv2d."""
        options = {
            "padding": "same",
            "activation": tf.nn.relu,
            "kernel_initializer": tf.glorot_uniform_initializer(),
        } | options
        with tf.get_default_graph().gradient_override_map(self._gradients):
            return tf.layers.conv2d(inputs, filters, kernel, data_format=self.data_format, name=name, **options)

    def conv_norm(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Convolve without bias, normalize, and activate (ReLU unless `activation` is another, or None)."""
        activation = options.pop("activation", tf.nn.relu)
        tensor = self.conv(inputs, filters, kernel, name, use_bias=False, activation=None, **options)
        return self._normalized(tensor, name, activation)

    def depthwise_norm(
        self, inputs: tf.Tensor, kernel: int, name: str, *, strides: int = 1, activation=tf.nn.relu
    ) -> tf.Tensor:
        """Convolve each channel with a filter of its own, normalize and activate: arXiv 1704.04861, section 3.1."""
        channels = inputs.shape[self.channel_axis]
        with tf.variable_scope(name):
            shape, start = [kernel, kernel, channels, 1], tf.glorot_uniform_initializer()
            weights = tf.get_variable("depthwise_kernel", shape, inputs.dtype, start)
        first = self.channel_axis == 1
        tensor = tf.nn.depthwise_conv2d(
            inputs,
            weights,
            strides=[1, 1, strides, strides] if first else [1, strides, strides, 1],
            padding="SAME",
            data_format="NCHW" if first else "NHWC",
        )
        return self._normalized(tensor, name, activation)

    def _normalized(self, inputs: tf.Tensor, name: str, activation) -> tf.Tensor:
        with tf.variable_scope(name):
            tensor = self._batch_normalize(inputs)
        return tensor if activation is None else activation(tensor)

    def _batch_normalize(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalize each channel over batch and place, arXiv 1502.03167.

        tf.layers' batch norm leaves its updates in a collection, which a train_op must not forget and which a
        loop over parts of a batch cannot reach, and it would average a NaN in. Here the output waits for them.
        """
        channels = [inputs.shape[self.channel_axis]]
        gamma = tf.get_variable("gamma", channels, initializer=tf.ones_initializer())
        beta = tf.get_variable("beta", channels, initializer=tf.zeros_initializer())
        mean = _moving_average("moving_mean", channels, tf.zeros_initializer())
        variance = _moving_average("moving_variance", channels, tf.ones_initializer())
        statistics = {} if self._training else {"mean": mean, "variance": variance}
        tensor, batch_mean, batch_variance = tf.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            **statistics,
            epsilon=_EPSILON,
            data_format="NCHW" if self.channel_axis == 1 else "NHWC",
            is_training=self._training,
        )
        if not self._training:
            return tensor
        finite = tf.reduce_all(tf.is_finite(batch_mean) & tf.is_finite(batch_variance))
        step = tf.where_v2(finite, 1 - _MOMENTUM, 0.0)
        updates = [
            average.assign_sub(tf.math.multiply_no_nan(average.read_value() - value, step))
            for average, value in ((mean, batch_mean), (variance, batch_variance))
        ]
        with tf.control_dependencies(updates):
            return tf.identity(tensor)

    def pool(self, inputs: tf.Tensor, size: int, stride: int, name: str, padding: str = "same") -> tf.Tensor:
        """Take the maximum over size x size windows, padded so that no pixel is lost unless told otherwise."""
        return tf.layers.max_pooling2d(inputs, size, stride, padding=padding, data_format=self.data_format, name=name)

    def pad(self, inputs: tf.Tensor, pixels: int) -> tf.Tensor:
        """Surround maps with zeros."""
        sides = [[0, 0], [pixels, pixels], [pixels, pixels]]
        return tf.pad(inputs, [*sides[:1], [0, 0], *sides[1:]] if self.channel_axis == 1 else [*sides, [0, 0]])

    def l2_normalize(self, inputs: tf.Tensor, scale: float, name: str) -> tf.Tensor:
        """Scale each cell's features to length 1, times a learned factor a channel: ParseNet, section 3.1.

        In float32: the squares of 512 channels add up to more than float16 holds.
        """
        with tf.variable_scope(name):
            channels = inputs.shape[self.channel_axis]
            weights = tf.get_variable("weights", [channels], initializer=tf.constant_initializer(scale))
        shape = [1, channels, 1, 1] if self.channel_axis == 1 else [1, 1, 1, channels]
        normalized = tf.nn.l2_normalize(tf.cast(inputs, tf.float32), axis=self.channel_axis, epsilon=1e-10)
        return tf.cast(normalized * tf.reshape(weights, shape), inputs.dtype)


def float32_storage(getter, name: str, *arguments, dtype: tf.DType, **options) -> tf.Variable | tf.Tensor:
    """Keep the variables of layers that compute in float16 as float32: a `custom_getter` of tf.variable_scope."""
    if dtype != tf.float16:
        return getter(name, *arguments, dtype=dtype, **options)
    return tf.cast(getter(name, *arguments, dtype=tf.float32, **options), dtype)


def _moving_average(name: str, shape: list[int], initializer) -> tf.Variable:
    """Return a variable that is not trained; each replica has its own, and their mean is what is saved."""
    return tf.get_variable(
        name,
        shape,
        initializer=initializer,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MOVING_AVERAGE_VARIABLES],
    )

"""The layers of backbones, extra layers and heads, in either data format."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from net import devices, kernel_gradient

_MOMENTUM = 0.97  # of batch norm's moving averages: low, so that they are usable after a short training
_PIXEL_RANGE = 127.5  # of pixels around their mean; published weights take them divided by it, or nearly so
_EPSILON = 1.001e-5  # that of Keras' ResNet50; cuDNN needs at least 1e-5


class Layers:
    """Convolution, batch norm and pooling with the settings that all layers of a network share."""

    def __init__(
        self,
        data_format: str,
        training: bool = False,
        batch_norm: bool = False,
        depth_multiplier: float = 1.0,
        small_heads: bool = False,
    ):
        """Store the shared settings.

        Args:
          data_format: "channels_first" (faster on GPUs) or "channels_last" (the only one of TensorFlow's CPU kernels).
          training: whether batch norm normalizes by the statistics of the batch and updates its moving averages, and
            whether gradients will be computed.
          batch_norm: whether `extra_conv` has batch norm.
          depth_multiplier: factor of the number of filters in `scaled`; arXiv 1704.04861, section 3.3.
          small_heads: whether `head` starts with small weights.
        """
        self.data_format = data_format
        self.channel_axis = 1 if data_format == "channels_first" else -1
        self._training = training
        on_cpu = self.channel_axis == -1 and not devices.gpus()
        by_matrices = training and on_cpu and not devices.has_avx512()
        self._gradients = {"Conv2D": kernel_gradient.REGISTERED_NAME} if by_matrices else {}
        self._batch_norm, self._small_heads = batch_norm, small_heads
        self._depth_multiplier = depth_multiplier

    def scaled(self, filters: int) -> int:
        """Return a number of filters times the depth multiplier, at least 8."""
        return max(8, int(filters * self._depth_multiplier)) if self._depth_multiplier != 1.0 else filters

    def extra_conv(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Add a convolution of an extra layer: `conv_norm` if the backbone has batch norm, else `conv`."""
        layer = self.conv_norm if self._batch_norm else self.conv
        return layer(inputs, filters, kernel, name, **options)

    def conv(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Add a convolution with bias and ReLU, initialized as by Glorot; `options` are those of tf.layers.conv2d."""
        options = {
            "padding": "same",
            "activation": tf.nn.relu,
            "kernel_initializer": tf.glorot_uniform_initializer(),
        } | options
        with tf.get_default_graph().gradient_override_map(self._gradients):
            return tf.layers.conv2d(inputs, filters, kernel, data_format=self.data_format, name=name, **options)

    def conv_norm(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Add a convolution without bias, batch norm and the option `activation` (ReLU by default; None: identity)."""
        activation = options.pop("activation", tf.nn.relu)
        tensor = self.conv(inputs, filters, kernel, name, use_bias=False, activation=None, **options)
        return self._normalized(tensor, name, activation)

    def pixel_conv_norm(self, images: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Add a `conv_norm` on pixels whose kernel learns as if the pixels were in [-1, 1].

        Pixels in [-127.5, 127.5] need a kernel that is 127.5 times smaller, whose gradient is 127.5 times larger: it is
        nearly the whole norm of all gradients, so that clipping by this norm would slow down all other layers.
        """
        initializer = tf.variance_scaling_initializer(1 / _PIXEL_RANGE**2, "fan_avg", "uniform")  # Glorot's, divided
        if not self._training:
            return self.conv_norm(images, filters, kernel, name, kernel_initializer=initializer, **options)
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=_of_unit_pixels):
            images = images / _PIXEL_RANGE
            return self.conv_norm(images, filters, kernel, name, kernel_initializer=initializer, **options)

    def head(self, inputs: tf.Tensor, filters: int, kernel: int, name: str) -> tf.Tensor:
        """Add a convolution with bias whose output is the network's.

        With `small_heads` its weights start as in arXiv 1708.02002, section 4.1: the gradients of larger ones would
        change what a pretrained backbone knows. A random backbone learns faster with large ones.
        """
        start = {"kernel_initializer": tf.random_normal_initializer(0, 0.01)} if self._small_heads else {}
        return self.conv(inputs, filters, kernel, name, activation=None, **start)

    def depthwise_norm(
        self, inputs: tf.Tensor, kernel: int, name: str, *, strides: int = 1, activation=tf.nn.relu
    ) -> tf.Tensor:
        """Add a depthwise convolution, batch norm and activation: arXiv 1704.04861, section 3.1."""
        channels = inputs.shape[self.channel_axis]
        with tf.variable_scope(name):
            shape, initializer = [kernel, kernel, channels, 1], tf.glorot_uniform_initializer()
            weights = tf.get_variable("depthwise_kernel", shape, inputs.dtype, initializer)
        channels_first = self.channel_axis == 1
        tensor = tf.nn.depthwise_conv2d(
            inputs,
            weights,
            strides=[1, 1, strides, strides] if channels_first else [1, strides, strides, 1],
            padding="SAME",
            data_format="NCHW" if channels_first else "NHWC",
        )
        return self._normalized(tensor, name, activation)

    def _normalized(self, inputs: tf.Tensor, name: str, activation) -> tf.Tensor:
        with tf.variable_scope(name):
            tensor = self._batch_normalize(inputs)
        return tensor if activation is None else activation(tensor)

    def _batch_normalize(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalize each channel over batch, rows and columns, arXiv 1502.03167.

        The output depends on the updates of the moving averages, and these skip statistics that are not finite.
        tf.layers' batch norm adds its updates to a collection instead, which does not work for a batch that is computed
        in a tf.while_loop over its parts, and a NaN would enter its averages.
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
        rate = tf.where_v2(finite, 1 - _MOMENTUM, 0.0)
        updates = [
            average.assign_sub(tf.math.multiply_no_nan(average.read_value() - value, rate))
            for average, value in ((mean, batch_mean), (variance, batch_variance))
        ]
        with tf.control_dependencies(updates):
            return tf.identity(tensor)

    def pool(self, inputs: tf.Tensor, size: int, stride: int, name: str, padding: str = "same") -> tf.Tensor:
        """Add max pooling over windows of size x size cells."""
        return tf.layers.max_pooling2d(inputs, size, stride, padding=padding, data_format=self.data_format, name=name)

    def pad(self, inputs: tf.Tensor, pixels: int) -> tf.Tensor:
        """Pad feature maps with zeros, by the same number of pixels on each side."""
        none, both = [0, 0], [pixels, pixels]
        return tf.pad(inputs, [none, none, both, both] if self.channel_axis == 1 else [none, both, both, none])

    def l2_normalize(self, inputs: tf.Tensor, scale: float, name: str) -> tf.Tensor:
        """Normalize the features of each cell to L2 norm 1, times a learned scale per channel: ParseNet, section 3.1.

        It is computed in float32, because the sum of 512 squares overflows in float16.
        """
        with tf.variable_scope(name):
            channels = inputs.shape[self.channel_axis]
            weights = tf.get_variable("weights", [channels], initializer=tf.constant_initializer(scale))
        shape = [1, channels, 1, 1] if self.channel_axis == 1 else [1, 1, 1, channels]
        normalized = tf.nn.l2_normalize(tf.cast(inputs, tf.float32), axis=self.channel_axis, epsilon=1e-10)
        return tf.cast(normalized * tf.reshape(weights, shape), inputs.dtype)


def float32_storage(getter, name: str, *arguments, dtype: tf.DType, **options) -> tf.Variable | tf.Tensor:
    """Store the variables of float16 layers as float32: a `custom_getter` of tf.variable_scope."""
    if dtype != tf.float16:
        return getter(name, *arguments, dtype=dtype, **options)
    return tf.cast(getter(name, *arguments, dtype=tf.float32, **options), dtype)


def _of_unit_pixels(getter, name: str, *arguments, **options) -> tf.Variable | tf.Tensor:
    """Return a stored kernel times _PIXEL_RANGE, for pixels divided by it: a `custom_getter`.

    The gradient is scaled so that gradient descent moves the returned kernel as if that were the variable.
    """
    variable = getter(name, *arguments, **options)
    if not name.endswith("/kernel"):
        return variable
    constant = tf.stop_gradient(variable)
    return constant * _PIXEL_RANGE + (variable - constant) / _PIXEL_RANGE


def _moving_average(name: str, shape: list[int], initializer) -> tf.Variable:
    """Return a variable that is not trained; each replica updates its own copy, and checkpoints hold their mean."""
    return tf.get_variable(
        name,
        shape,
        initializer=initializer,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MOVING_AVERAGE_VARIABLES],
    )

"""Layers that Keras 2.15 lacks."""

import tensorflow as tf
from tensorflow import keras

_EPSILON = 1e-3


@keras.utils.register_keras_serializable("segmentation")
class Window(keras.layers.Layer):
    """Clips pixels to a window and scales it: `low` to -1, `high` to 1. `low` may be the larger of the two."""

    def __init__(self, low: float, high: float, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, images):
        """Returns float32 of the images' shape, -1 to 1."""
        scaled = (tf.cast(images, tf.float32) - self.low) * (2 / (self.high - self.low)) - 1
        return tf.clip_by_value(scaled, -1.0, 1.0)

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"low": self.low, "high": self.high}


@keras.utils.register_keras_serializable("segmentation")
class StandardizeImage(keras.layers.Layer):
    """Scales every image to mean 0 and deviation 1 over its pixels and channels, whatever its exposure."""

    def call(self, images):
        """Returns float32 [batch, height, width, channels] of the same shape."""
        images = tf.cast(images, tf.float32)
        mean, variance = tf.nn.moments(images, [1, 2, 3], keepdims=True)
        return (images - mean) * tf.math.rsqrt(variance + _EPSILON)


@keras.utils.register_keras_serializable("segmentation")
class Repeat(keras.layers.Layer):
    """Doubles height and width by repeating pixels.

    Keras' UpSampling2D does the same, but XLA of TensorFlow 2.15 cannot compile its gradient.
    """

    def call(self, inputs):
        """Returns [batch, 2 * height, 2 * width, channels]."""
        _, height, width, channels = inputs.shape
        shape = tf.shape(inputs)
        height, width = height or shape[1], width or shape[2]
        tiled = tf.broadcast_to(inputs[:, :, None, :, None, :], [shape[0], height, 2, width, 2, channels])
        return tf.reshape(tiled, [shape[0], 2 * height, 2 * width, channels])


@keras.utils.register_keras_serializable("segmentation")
class Enlarge(keras.layers.Layer):
    """Multiplies height and width by a factor, bilinearly.

    In float32: XLA of TensorFlow 2.15 cannot compile the gradient in 16 bits.
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        """Returns [batch, factor * height, factor * width, channels] of the inputs' dtype."""
        size = self.factor * tf.shape(inputs)[1:3]
        enlarged = tf.cast(tf.image.resize(tf.cast(inputs, tf.float32), size), inputs.dtype)
        _, height, width, channels = inputs.shape
        enlarged.set_shape([None, height and self.factor * height, width and self.factor * width, channels])
        return enlarged

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"factor": self.factor}


@keras.utils.register_keras_serializable("segmentation")
class ChannelScale(keras.layers.Layer):
    """Multiplies every channel by a weight of its own, `initial` at first.

    ConvNeXt's LayerScale does the same, but models with that of Keras 2.15 cannot be loaded.
    """

    def __init__(self, initial: float, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        """Makes the weights."""
        initializer = keras.initializers.Constant(self.initial)
        self.scale = self.add_weight("scale", shape=(input_shape[-1],), initializer=initializer)
        super().build(input_shape)

    def call(self, inputs):
        """Returns the inputs' shape."""
        return inputs * self.scale

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"initial": self.initial}


class _Random(keras.layers.Layer):
    """A layer whose randomness is a function of (seed, training step, replica).

    Keras' own Dropout keeps its state where no checkpoint sees it, so a resumed run would differ from an
    uninterrupted one. Here the step is a weight: checkpoints hold it.
    """

    def __init__(self, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape):
        """Makes the step counter."""
        self.step = self.add_weight(
            "step",
            shape=(),
            dtype=tf.int64,
            initializer="zeros",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(input_shape)

    def next_seed(self) -> tf.Tensor:
        """Returns int64 [2], another one at every call, and counts the call."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.stack([tf.cast(self.seed, tf.int64) * 1024 + tf.cast(replica, tf.int64), self.step.read_value()])
        self.step.assign_add(1)
        return seed

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"seed": self.seed}


@keras.utils.register_keras_serializable("segmentation")
class StatelessDropout(_Random):
    """Sets whole feature maps to 0 with probability `rate` in training and scales the others by 1 / (1 - rate).

    Whole maps (Tompson et al. 2015, arXiv:1411.4280): neighbouring pixels are so alike that dropping single ones
    hides nothing.
    """

    def __init__(self, rate: float, seed: int, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate = rate

    def call(self, inputs, training=None):
        """Returns the inputs' shape."""
        if not training:
            return inputs
        shape = [tf.shape(inputs)[0], 1, 1, inputs.shape[-1]]
        kept = tf.random.stateless_uniform(shape, self.next_seed()) >= self.rate
        return inputs * tf.cast(kept, inputs.dtype) / (1 - self.rate)

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"rate": self.rate}


@keras.utils.register_keras_serializable("segmentation")
class StatelessNoise(_Random):
    """Adds Gaussian noise of the given deviation in training."""

    def __init__(self, deviation: float, seed: int, **kwargs):
        super().__init__(seed, **kwargs)
        self.deviation = deviation

    def call(self, inputs, training=None):
        """Returns the inputs' shape."""
        if not training:
            return inputs
        noise = tf.random.stateless_normal(tf.shape(inputs), self.next_seed(), dtype=tf.float32)
        return inputs + tf.cast(self.deviation * noise, inputs.dtype)

    def get_config(self):
        """Returns what Keras saves."""
        return super().get_config() | {"deviation": self.deviation}

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.layers import Repeat, StandardizeImage, StatelessDropout, StatelessNoise

each_random_layer = pytest.mark.parametrize(
    "make", [lambda seed: StatelessDropout(0.5, seed), lambda seed: StatelessNoise(0.3, seed)]
)


def random_images(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def test_repeat_equals_nearest_upsampling_of_keras():
    images = random_images(2, 3, 5, 4)
    np.testing.assert_array_equal(Repeat()(images), keras.layers.UpSampling2D(interpolation="nearest")(images))


def test_repeat_works_where_height_and_width_are_not_known():
    repeat = tf.function(Repeat().call, input_signature=[tf.TensorSpec([None, None, None, 2])])
    images = random_images(1, 2, 3, 2)
    np.testing.assert_array_equal(repeat(images), np.repeat(np.repeat(images, 2, axis=1), 2, axis=2))


def test_the_gradient_of_repeat_compiles_under_xla():
    # That of UpSampling2D does not, in TensorFlow 2.15.
    weights = random_images(1, 4, 6, 2)

    @tf.function(jit_compile=True)
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(Repeat()(images) * weights)
        return tape.gradient(loss, images)

    # Every input pixel is four output pixels.
    expected = weights.numpy().reshape(1, 2, 2, 3, 2, 2).sum((2, 4))
    np.testing.assert_allclose(gradient(random_images(1, 2, 3, 2)), expected, rtol=1e-5)


def test_standardized_images_have_mean_zero_and_deviation_one():
    generator = np.random.default_rng(1)
    images = np.stack([generator.integers(0, 20, [8, 6, 3]), generator.integers(100, 256, [8, 6, 3])]).astype(np.uint8)
    found = StandardizeImage()(tf.constant(images)).numpy()
    for image, standardized in zip(images.astype(np.float64), found, strict=True):
        expected = (image - image.mean()) / np.sqrt(image.var() + 1e-3)
        np.testing.assert_allclose(standardized, expected, rtol=1e-4, atol=1e-5)


def test_a_blank_image_is_standardized_to_zero():
    np.testing.assert_array_equal(StandardizeImage()(tf.fill([1, 4, 4, 1], 7.0)), np.zeros([1, 4, 4, 1]))


def test_dropout_drops_whole_maps_at_its_rate_and_scales_the_rest():
    layer = StatelessDropout(0.25, seed=1)
    found = layer(tf.ones([40, 3, 2, 100]), training=True).numpy()
    maps = found[:, 0, 0, :]
    np.testing.assert_array_equal(found, np.broadcast_to(maps[:, None, None, :], found.shape))
    np.testing.assert_allclose(np.unique(maps), [0, 1 / 0.75], rtol=1e-6)
    # 4000 maps: three deviations of the share are 0.02.
    assert np.mean(maps == 0) == pytest.approx(0.25, abs=0.021)
    # Neither examples nor maps are dropped together.
    assert len(np.unique(maps, axis=0)) == 40
    assert len(np.unique(maps, axis=1)[0]) > 90


@each_random_layer
def test_every_step_differs_and_the_counter_brings_a_step_back(make):
    layer, images = make(3), random_images(2, 4, 4, 32)
    first, second, third = (layer(images, training=True).numpy() for _ in range(3))
    assert (first != second).any()
    assert (second != third).any()
    assert int(layer.step) == 3
    layer.step.assign(1)
    np.testing.assert_array_equal(layer(images, training=True), second)
    np.testing.assert_array_equal(layer(images, training=True), third)


@each_random_layer
def test_a_checkpoint_brings_the_counter_back_into_another_layer(make, tmp_path):
    layer, images = make(3), random_images(2, 4, 4, 32)
    layer(images, training=True)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    expected = layer(images, training=True)
    other = make(3)
    other(images)  # makes its counter
    tf.train.Checkpoint(layer=other).read(path).assert_consumed()
    np.testing.assert_array_equal(other(images, training=True), expected)


@each_random_layer
def test_the_seed_decides(make):
    images = random_images(2, 4, 4, 32)
    first, same, other = (make(seed)(images, training=True).numpy() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@each_random_layer
def test_inference_changes_and_counts_nothing(make):
    layer, images = make(3), random_images(2, 4, 4, 32)
    np.testing.assert_array_equal(layer(images, training=False), images)
    np.testing.assert_array_equal(layer(images), images)
    assert int(layer.step) == 0


@each_random_layer
def test_eager_equals_a_graph(make):
    eager, graph, images = make(3), make(3), random_images(2, 4, 4, 32)
    graph.build(images.shape)
    compiled = tf.function(lambda x: graph(x, training=True))
    for _ in range(2):
        np.testing.assert_allclose(eager(images, training=True), compiled(images), rtol=1e-6)


@each_random_layer
def test_the_dtype_stays(make):
    images = tf.cast(random_images(1, 2, 2, 8), tf.bfloat16)
    layer = make(3)
    layer = type(layer).from_config(layer.get_config() | {"dtype": "bfloat16"})
    assert layer(images, training=True).dtype == tf.bfloat16


def test_noise_is_gaussian_of_its_deviation():
    noise = StatelessNoise(0.3, seed=2)(tf.zeros([4, 50, 50, 2]), training=True).numpy()
    # 20,000 values: three errors of the mean are 0.0064, of the deviation 0.0045.
    assert noise.mean() == pytest.approx(0, abs=0.0065)
    assert noise.std() == pytest.approx(0.3, abs=0.0046)
    assert np.mean(np.abs(noise) < 0.3) == pytest.approx(0.683, abs=0.01)


def test_a_saved_model_gives_equal_logits(tmp_path):
    inputs = keras.Input([None, None, 3])
    x = StandardizeImage(dtype="float32")(inputs)
    x = StatelessNoise(0.2, seed=5)(x)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = StatelessDropout(0.5, seed=6)(Repeat()(x))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(x))
    images = random_images(2, 4, 6, 3)
    model(images, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(images, training=False), model(images, training=False))
    # The counters are saved too: a training step of both draws the same.
    np.testing.assert_array_equal(loaded(images, training=True), model(images, training=True))
    kinds = {type(layer): layer.get_config() for layer in loaded.layers}
    assert kinds[StatelessNoise]["deviation"] == 0.2
    assert (kinds[StatelessDropout]["rate"], kinds[StatelessDropout]["seed"]) == (0.5, 6)

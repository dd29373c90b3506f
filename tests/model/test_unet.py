import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.labels import Labels
from model.layers import Window
from model.unet import build_unet

SMALL = {"depth": 1, "filters": 2, "dropout": 0.0}


def small_unet(
    channels=3, num_classes=2, mean=None, std=None, seed=0, overlapping=False, stored_window=None, **config
) -> keras.Model:
    labels = Labels(num_classes, overlapping)
    mean, std = mean or [0.0] * channels, std or [1.0] * channels
    return build_unet(ModelConfig(**{**SMALL, **config}), channels, labels, mean, std, seed, stored_window)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers in order, the encoder's among them."""
    encoder = model.get_layer("encoder").layers
    return [inner for layer in model.layers for inner in (encoder if layer.name == "encoder" else [layer])]


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def mixed_bfloat16():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_parameters_of_a_small_network_by_hand():
    # Kernels: height x width x inputs x outputs. Batch normalisation: 4 per filter.
    first = 3 * 3 * 3 * 2 + 8 + 3 * 3 * 2 * 2 + 8
    bottom = 3 * 3 * 2 * 4 + 16 + 3 * 3 * 4 * 4 + 16
    up = 1 * 1 * 4 * 2 + 2
    last = 3 * 3 * (2 + 2) * 2 + 8 + 3 * 3 * 2 * 2 + 8
    logits = 1 * 1 * 2 * 1 + 1
    assert small_unet().count_params() == first + bottom + up + last + logits == 491


def test_parameters_without_normalisation_with_transposed_convolution_and_three_classes_by_hand():
    first = 3 * 3 * 1 * 2 + 2 + 3 * 3 * 2 * 2 + 2
    bottom = 3 * 3 * 2 * 4 + 4 + 3 * 3 * 4 * 4 + 4
    up = 2 * 2 * 4 * 2 + 2
    last = 3 * 3 * (2 + 2) * 2 + 2 + 3 * 3 * 2 * 2 + 2
    logits = 1 * 1 * 2 * 3 + 3
    model = small_unet(channels=1, num_classes=3, norm="none", upsampling="transpose")
    assert model.count_params() == first + bottom + up + last + logits


def test_every_level_doubles_the_filters():
    convolutions = [layer for layer in all_layers(small_unet(depth=3)) if isinstance(layer, keras.layers.Conv2D)]
    filters = [layer.filters for layer in convolutions if layer.kernel_size == (3, 3)]
    assert filters == [2, 2, 4, 4, 8, 8, 16, 16, 8, 8, 4, 4, 2, 2]


@pytest.mark.parametrize("upsampling", ["repeat", "transpose"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("num_classes", "expected"), [(2, 1), (3, 3)])
def test_logits_are_as_large_as_the_image_and_float32(upsampling, norm, num_classes, expected):
    model = small_unet(num_classes=num_classes, depth=2, upsampling=upsampling, norm=norm)
    for height, width in ((16, 16), (8, 20)):
        logits = model(random_pixels(2, height, width, 3))
        assert logits.shape == (2, height, width, expected)
        assert logits.dtype == tf.float32
        assert np.std(logits) > 0


def test_logits_are_float32_and_close_also_in_mixed_precision(mixed_bfloat16):
    images = random_pixels(2, 16, 16, 3)
    mixed = small_unet(mean=[128.0] * 3, std=[70.0] * 3)
    logits = mixed(images)
    assert mixed.get_layer("encoder").get_layer("encoder_0_1_conv").compute_dtype == "bfloat16"
    assert logits.dtype == tf.float32
    keras.mixed_precision.set_global_policy("float32")
    exact = small_unet(mean=[128.0] * 3, std=[70.0] * 3)(images)
    # bfloat16 has 8 bits.
    assert np.max(np.abs(logits - exact)) < 0.05 * np.max(np.abs(exact))
    assert (logits.numpy() != exact.numpy()).any()


def test_16_bit_pixels_are_normalised_before_precision_is_lost(mixed_bfloat16):
    # bfloat16 rounds all of these to 59,904.
    pixels = np.array([59_990, 60_000, 60_010], np.uint16).repeat(12).reshape(1, 6, 6, 1)
    model = small_unet(channels=1, mean=[60_000.0], std=[10.0])
    normalised = keras.Model(model.input, model.get_layer("normalize").output)(pixels)
    np.testing.assert_allclose(np.unique(normalised), [-1, 0, 1], atol=1e-3)


def test_normalisation_by_the_dataset_is_part_of_the_model():
    images, mean, std = random_pixels(2, 8, 8, 3), [100.0, 50.0, 25.0], [60.0, 30.0, 15.0]
    manual = (images.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    expected = small_unet()(manual)
    np.testing.assert_allclose(small_unet(mean=mean, std=std)(images), expected, rtol=1e-4, atol=1e-5)
    as_float = small_unet(mean=mean, std=std)(images.astype(np.float32))
    np.testing.assert_array_equal(small_unet(mean=mean, std=std)(images), as_float)


def test_normalisation_by_the_image_makes_exposure_meaningless():
    images = random_pixels(2, 8, 8, 3) // 4
    model = small_unet(input_norm="image")
    np.testing.assert_allclose(model(images * 2 + 60), model(images), rtol=1e-3, atol=1e-3)
    manual = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(model(images), small_unet()(manual), rtol=1e-3, atol=1e-4)


WINDOW_HU, OFFSET = (-1000.0, 400.0), -32768


def scaled_to_window(stored: np.ndarray) -> np.ndarray:
    """Returns pixels of value stored + OFFSET, clipped to the window and scaled to -1 to 1; NumPy alone."""
    return np.interp(stored.astype(np.float64) + OFFSET, WINDOW_HU, (-1, 1)).astype(np.float32)


def random_scan(*shape: int) -> np.ndarray:
    """Returns stored pixels of -2000 to 1500 HU, and the window's ends."""
    stored = np.random.default_rng(1).integers(-2000, 1500, shape) - OFFSET
    stored[0, 0, :3, 0] = np.array([-1000, 400, -300]) - OFFSET
    return stored.astype(np.uint16)


def test_a_window_is_clipped_and_scaled_by_the_model():
    scan = random_scan(2, 8, 8, 1)
    model = small_unet(channels=1, mean=[3e4], std=[500.0], stored_window=tuple(np.array(WINDOW_HU) - OFFSET))
    windowed = keras.Model(model.input, model.get_layer("window").output)(scan)
    np.testing.assert_allclose(windowed, scaled_to_window(scan), atol=1e-6)
    np.testing.assert_allclose(windowed[0, 0, :3, 0], [-1, 1, 0], atol=1e-6)
    # The window's scaling is all: mean and deviation are not used.
    np.testing.assert_allclose(model(scan), small_unet(channels=1)(scaled_to_window(scan)), rtol=1e-4, atol=1e-5)


def test_normalisation_by_the_image_comes_behind_the_window():
    scan = random_scan(2, 8, 8, 1)
    model = small_unet(channels=1, input_norm="image", stored_window=tuple(np.array(WINDOW_HU) - OFFSET))
    expected = small_unet(channels=1, input_norm="image")(scaled_to_window(scan))
    np.testing.assert_allclose(model(scan), expected, rtol=1e-3, atol=1e-4)


def test_a_window_whose_stored_values_fall_is_scaled_likewise():
    # value = -stored + 1000: the lowest value is the highest pixel.
    stored = np.array([0, 600, 1300, 2000, 3000], np.uint16).reshape(1, 5, 1, 1)
    layer = Window(low=2000.0, high=600.0)
    np.testing.assert_allclose(layer(stored)[0, :, 0, 0], [1, 1, 0, -1, -1], atol=1e-6)


@pytest.mark.parametrize("num_classes", [1, 2, 3])
def test_overlapping_classes_have_a_logit_each(num_classes):
    model = small_unet(num_classes=num_classes, overlapping=True)
    assert model(random_pixels(1, 8, 8, 3)).shape == (1, 8, 8, num_classes)


@pytest.mark.parametrize("upsampling", ["repeat", "transpose"])
def test_the_seed_decides_the_weights(upsampling):
    first, same, other = (small_unet(depth=2, seed=seed, upsampling=upsampling).get_weights() for seed in (4, 4, 5))
    for one, two in zip(first, same, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_no_two_layers_begin_alike():
    model = small_unet(depth=2, filters=4)
    kernels = [layer.kernel.numpy() for layer in all_layers(model) if isinstance(layer, keras.layers.Conv2D)]
    same_shape = [kernel.ravel()[:8] for kernel in kernels if kernel.size >= 8]
    assert len(np.unique(np.stack(same_shape), axis=0)) == len(same_shape)


@pytest.mark.parametrize("upsampling", ["repeat", "transpose"])
def test_a_pixel_sees_its_surroundings_only_whatever_the_images_size(upsampling):
    # Two 3x3 convolutions at each of three places, the middle one at half size: nothing reaches farther than 10 pixels.
    model = small_unet(norm="none", upsampling=upsampling)
    image = random_pixels(1, 48, 64, 3)
    whole, part = model(image), model(image[:, 8:40, 16:48])
    np.testing.assert_allclose(part[:, 10:22, 10:22], whole[:, 18:30, 26:38], rtol=1e-4, atol=1e-4)
    assert not np.allclose(part[:, :2, :2], whole[:, 8:10, 16:18], rtol=1e-4, atol=1e-4)


def test_dropout_and_noise_work_in_training_only():
    images = random_pixels(1, 8, 8, 3)
    model = small_unet(filters=4, dropout=0.5, noise=0.5)
    plain = small_unet(filters=4)
    np.testing.assert_array_equal(model(images, training=False), model(images, training=False))
    assert (model(images, training=True).numpy() != model(images, training=True).numpy()).any()
    names = {type(layer).__name__ for layer in all_layers(plain)}
    assert not names & {"StatelessDropout", "StatelessNoise"}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "settings",
    [{"upsampling": "transpose", "norm": "none"}, {"input_norm": "image"}, {"stored_window": (40.5, 200.0)}],
)
def test_a_saved_network_gives_equal_logits(policy, settings, tmp_path):
    images = random_pixels(2, 8, 8, 3)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = small_unet(mean=[9.0, 8.0, 7.0], std=[4.0, 5.0, 6.0], **{"dropout": 0.3, "noise": 0.1, **settings})
        expected = model(images)
        model.save(tmp_path / "model.keras")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(images), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "model.depth: expected at least 1, found 0"),
        ({"filters": 0}, "model.filters: expected at least 1, found 0"),
        ({"dropout": 1.0}, "model.dropout: expected a share from 0 to below 1, found 1.0"),
        ({"noise": -1.0}, "model.noise: expected a deviation of at least 0, found -1.0"),
        (
            {"window": (400.0, -1000.0)},
            r"model.window: expected the lowest value before the highest, found \[400.0, -1",
        ),
        ({"filters": (2, 4)}, r"model.filters: expected one number, or 5 \(depth 4, encoder plain\), found \[2, 4\]"),
        ({"filters": (2, 4, 0, 4, 2)}, "model.filters: expected at least 1, found 0"),
        ({"input_scaling": 0}, "model.input_scaling: expected at least 1, found 0"),
        ({"encoder": "resnet34"}, "model.depth: expected 5, as encoder resnet34 .*found 4; set --model.depth 5"),
        ({"encoder": "plain", "weights": "imagenet"}, "model.weights: expected none or a path, .*found imagenet"),
        ({"deep_supervision": True, "depth": 1}, "model.deep_supervision: expected a depth of at least 2, found 1"),
        (
            {"norm_momentum": 0.9, "norm": "group"},
            "model.norm_momentum: found 0.9, which only batch",
        ),
        ({"noise": math.nan}, "model.noise: expected a deviation of at least 0, found nan"),
        ({"norm_momentum": math.nan}, "model.norm_momentum: expected a share between 0 and 1, found nan"),
        ({"window": (-math.inf, 400.0)}, "model.window: expected the lowest value before the highest"),
        ({"window": (math.nan, 400.0)}, "model.window: expected the lowest value before the highest"),
        ({"window": (5.0, 5.0)}, "model.window: expected the lowest value before the highest"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)


def test_running_averages_follow_training_as_fast_as_the_momentum_says():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    for momentum in (0.9, 0.99):
        config = ModelConfig(depth=1, filters=2, dropout=0, norm_momentum=momentum)
        unet = build_unet(config, 1, Labels(2), [0.0], [1.0], seed=0)
        encoder = unet.get_layer("encoder")
        layer = encoder.get_layer("encoder_0_1_norm")
        convolved = keras.Model(encoder.input, layer.input)(images.astype(np.float32))
        unet(images, training=True)
        expected = (1 - momentum) * np.mean(convolved, (0, 1, 2))  # the average begins at 0
        np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-4)

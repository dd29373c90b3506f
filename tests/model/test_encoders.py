import itertools
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.config import Encoder, ModelConfig
from model.encoders import encode, keras_application, set_encoder_trainable
from model.labels import Labels
from model.unet import build_unet
from model.weights import load_weights

APPLICATIONS = [name for name in get_args(Encoder) if name not in ("plain", "residual", "resnet34")]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ["resnet34", *APPLICATIONS]]  # seconds to build
SLOW_BUT_ONE = [name for name in SLOW if name.values[0] != "mobilenetv3small"]
each_encoder = pytest.mark.parametrize("encoder", ["residual", *SLOW])


@pytest.fixture(autouse=True)
def forget_models():
    """Keras keeps every graph made; of all encoders together they would fill 10 GiB."""
    yield
    keras.backend.clear_session()


def config_of(encoder: str, **settings) -> ModelConfig:
    return ModelConfig(
        **{"encoder": encoder, "depth": 2 if encoder in ("plain", "residual") else 5, "filters": 2} | settings
    )


def unet_of(config: ModelConfig, channels=3, num_classes=2, seed=0, stored_window=None) -> keras.Model:
    return build_unet(config, channels, Labels(num_classes), [128.0] * channels, [70.0] * channels, seed, stored_window)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives all weights other values, of all layers, also where they begin at 0 or 1; returns the model."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.01, 0.2, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("encoder", ["residual", "mobilenetv3small", *SLOW_BUT_ONE])
def test_features_halve_logits_are_float32_and_gradients_reach_all(encoder):
    config = config_of(encoder, dropout=0.0)
    model, images = unet_of(config), random_pixels(2, 64, 96, 3)
    sizes = [feature.shape[1:3] for feature in model.get_layer("encoder")(tf.zeros([1, 64, 96, 3]))]
    halves = [(64 >> level, 96 >> level) for level in range(config.depth + 1)]
    assert sizes == halves[-len(sizes) :]
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(logits**2)
    assert logits.shape == (2, 64, 96, 1)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name


@each_encoder
def test_seeds_decide_the_weights_and_names_do_not_change(encoder):
    first, same, other = (unet_of(config_of(encoder), seed=seed) for seed in (4, 4, 5))
    for one, two in zip(first.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert sum((one != two).any() for one, two in zip(first.get_weights(), other.get_weights(), strict=True)) > 5
    names = [[layer.name for layer in [*m.layers, *m.get_layer("encoder").layers]] for m in (first, same)]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])


@each_encoder
def test_training_is_a_function_of_the_seed(encoder):
    images = random_pixels(1, 64, 64, 3)
    config = config_of(encoder, norm="none")
    once, again = (unet_of(config)(images, training=True) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    kinds = {type(layer).__name__ for layer in unet_of(config).get_layer("encoder").layers}
    assert not kinds & {"Dropout", "SpatialDropout2D", "StochasticDepth"}


@pytest.mark.parametrize(
    ("encoder", "parameters"),
    [
        # Of keras.applications without their heads; ResNet-34 as counted by hand from its blocks.
        ("resnet34", 21_284_672),
        ("mobilenetv3small", 927_008),
        pytest.param("convnexttiny", 27_820_128, marks=pytest.mark.slow),
        pytest.param("mobilenetv3large", 2_971_952, marks=pytest.mark.slow),
        pytest.param("resnet50v2", 23_519_360, marks=pytest.mark.slow),
        pytest.param("efficientnetv2b0", 5_858_704, marks=pytest.mark.slow),
        pytest.param("efficientnetv2s", 20_177_488, marks=pytest.mark.slow),
    ],
)
def test_encoders_have_as_many_parameters_as_the_networks_they_are_named_after(encoder, parameters):
    variables = unet_of(config_of(encoder)).get_layer("encoder").trainable_variables
    assert sum(variable.shape.num_elements() for variable in variables) == parameters


@each_encoder
def test_a_saved_model_gives_equal_logits_in_another_process(encoder, tmp_path):
    model, images = unet_of(config_of(encoder)), random_pixels(1, 64, 64, 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy, model.layers; from tensorflow import keras; folder = sys.argv[1];"
        "loaded = keras.models.load_model(folder + '/model.keras', compile=False);"
        "numpy.save(folder + '/logits.npy', loaded(numpy.load(folder + '/images.npy')))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ["mobilenetv3small", *SLOW_BUT_ONE[1:]])
def test_a_published_file_fills_the_encoder_layer_by_layer(encoder, tmp_path):
    path = str(tmp_path / "notop.h5")
    config = config_of(encoder, weights=path)
    source = randomize(keras_application(config, None))
    source.save_weights(path)
    model = unet_of(config)
    assert load_weights(model, config) == f"encoder {encoder} begins with the weights of {path}"
    images = tf.random.stateless_uniform([1, 64, 64, 3], [1, 2])
    for found, expected in zip(model.get_layer("encoder")(images), source(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_a_file_of_our_own_encoder_fills_it(suffix, tmp_path):
    path = str(tmp_path / f"encoder{suffix}")
    config = config_of("residual", weights=path)
    source = randomize(unet_of(config, seed=1)).get_layer("encoder")
    source.save_weights(path)
    model = unet_of(config)
    load_weights(model, config)
    for found, expected in zip(model.get_layer("encoder").get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_runs_model_fills_all_layers_that_agree(tmp_path):
    path = str(tmp_path / "model.keras")
    other = randomize(unet_of(config_of("plain"), num_classes=3))
    other.save(path)
    config = config_of("plain", weights=path)
    model = unet_of(config, num_classes=2)
    before = model.get_layer("logits").get_weights()
    # 5 levels of 2 convolutions and 2 normalisations, 2 upsamplings, and the head, which has other classes.
    assert load_weights(model, config) == f"22 of 23 layers begin with the weights of {path}"
    for name in ("decoder_0_up_conv", "decoder_1_2_norm"):
        for found, expected in zip(
            model.get_layer(name).get_weights(), other.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], before[0])


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    wide = str(tmp_path / "wide.keras")
    unet_of(config_of("plain", filters=4, norm="none"), channels=1).save(wide)
    wrong = str(tmp_path / "wrong.h5")
    unet_of(config_of("plain", filters=4)).get_layer("encoder").save_weights(wrong)
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "text.txt").write_text("no model")
    for path, message in [
        (wide, "expected layers of this network's names and shapes, found none"),
        (wrong, "expected weights of encoder plain"),
        (str(tmp_path / "text.keras"), "expected a Keras model"),
        (str(tmp_path / "text.txt"), r"ends in .h5 or .keras, found .*text.txt"),
        ("nowhere.h5", "expected none, imagenet or the path of a file, found nowhere.h5"),
    ]:
        config = config_of("plain", weights=path)
        with pytest.raises(ValueError, match=message):
            load_weights(unet_of(config), config)


def test_imagenets_weights_without_a_network_are_one_clear_error(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.data_utils.urlretrieve", offline)
    config = config_of("mobilenetv3small", weights="imagenet")
    with pytest.raises(
        ValueError, match=r"ImageNet weights of mobilenetv3small, .* download them where there is a net"
    ):
        load_weights(unet_of(config), config)


def test_without_weights_nothing_is_loaded():
    model = unet_of(config_of("plain"))
    before = model.get_weights()
    assert load_weights(model, config_of("plain")) is None
    assert all((one == two).all() for one, two in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("encoder", "windowed", "expected"),
    [
        # Pixels of the window's ends and middle, as 8-bit 0, 127.5 and 255 in what each encoder was trained on.
        ("mobilenetv3small", True, lambda z: z),
        ("convnexttiny", True, lambda z: ((z + 1) / 2 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        pytest.param("convnexttiny", False, lambda z: z, marks=pytest.mark.slow),
        # Mean 0 becomes ImageNet's mean, deviation 1 its deviation.
        ("mobilenetv3small", False, lambda z: 2 * (z * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]) - 1),
    ],
)
def test_pixels_come_in_the_scale_of_the_published_weights(encoder, windowed, expected):
    images = keras.Input([32, 32, 1])
    features = encode(images, config_of(encoder), itertools.count(), windowed)
    model = keras.Model(images, features[-1])
    layer = model.get_layer("imagenet_scale" if windowed == (encoder == "convnexttiny") else "rgb")
    pixels = np.linspace(-1, 1, 1024, dtype=np.float32).reshape(1, 32, 32, 1)
    found = keras.Model(images, layer.output)(pixels)
    np.testing.assert_allclose(found, expected(pixels.repeat(3, -1)), rtol=1e-4, atol=1e-5)


def test_a_frozen_encoder_keeps_its_weights_and_averages():
    model = unet_of(config_of("residual", dropout=0.0))
    images, number = random_pixels(2, 16, 16, 3), len(model.trainable_variables)
    set_encoder_trainable(model, False)
    encoder = model.get_layer("encoder")
    before = encoder.get_weights()
    frozen = encoder(images / np.float32(255), training=True)
    np.testing.assert_array_equal(frozen[-1], encoder(images / np.float32(255), training=False)[-1])
    model(images, training=True)
    assert all((one == two).all() for one, two in zip(before, encoder.get_weights(), strict=True))
    assert 0 < len(model.trainable_variables) < number
    set_encoder_trainable(model, True)
    assert len(model.trainable_variables) == number
    model(images, training=True)
    assert any((one != two).any() for one, two in zip(before, encoder.get_weights(), strict=True))


def test_images_of_two_channels_are_refused_by_encoders_of_three():
    with pytest.raises(ValueError, match="expected images of 1 or 3 channels for mobilenetv3small, found 2"):
        unet_of(config_of("mobilenetv3small"), channels=2)


def xla_gradients(encoder):
    """Returns (a function of images that XLA compiles: the gradients of a U-Net with this encoder; images)."""
    model, images = unet_of(config_of(encoder)), tf.constant(random_pixels(2, 64, 64, 3))

    @tf.function(jit_compile=True)
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(images, training=True) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return gradients, images


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [name for name in get_args(Encoder) if name not in ("plain", "residual")])
def test_xla_knows_all_operations_of_an_encoder_and_its_gradients(encoder):
    gradients, images = xla_gradients(encoder)
    # As far as XLA's own language: the compiler behind it takes half an hour and 10 GB for an EfficientNetV2 on a CPU.
    assert gradients.experimental_get_compiler_ir(images)(stage="hlo").startswith("HloModule")


@pytest.mark.slow
def test_an_encoder_compiles_under_xla():
    gradients, images = xla_gradients("resnet34")
    assert all(np.isfinite(gradient).all() for gradient in gradients(images))

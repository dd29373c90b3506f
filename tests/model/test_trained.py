"""A model that was trained in 16 bits, where there are none."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model import trained
from model.config import ModelConfig
from model.labels import Labels
from model.trained import load_trained, trained_policy
from model.unet import build_unet

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
# Layers of several kinds, some of them in an encoder that is a model of its own.
CONFIG = ModelConfig(depth=1, filters=4, attention=True, norm="group", noise=0.1, encoder="residual")


def built(policy: str) -> keras.Model:
    keras.mixed_precision.set_global_policy(policy)
    try:
        return build_unet(CONFIG, 3, Labels(3), [100.0] * 3, [50.0] * 3, seed=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def logits(model: keras.Model) -> np.ndarray:
    return model(IMAGES).numpy()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_on_a_cpu_a_model_of_16_bits_is_the_same_model_in_float32(tmp_path, policy):
    model, plain = built(policy), built("float32")
    plain.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = load_trained(tmp_path / "model.keras")
    assert loaded[1:] == ("float32", f"trained in {policy}; no GPU")
    assert {layer.compute_dtype for layer in loaded.model.submodules if isinstance(layer, keras.layers.Layer)} <= {
        "float32",
        "uint8",
    }
    assert [layer.name for layer in loaded.model.layers] == [layer.name for layer in model.layers]
    for found, wanted in zip(loaded.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(logits(loaded.model), logits(plain))
    rounded = logits(model)
    assert not np.array_equal(logits(loaded.model), rounded)
    np.testing.assert_allclose(logits(loaded.model), rounded, rtol=0, atol=0.1 * np.abs(rounded).max())


def dense(policy: str) -> keras.Model:
    keras.mixed_precision.set_global_policy(policy)
    try:
        return keras.Sequential([keras.Input([2]), keras.layers.Dense(1), keras.layers.Dense(1, dtype="float32")])
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    ("policy", "here", "expected"),
    [
        ("mixed_float16", "mixed_float16", "mixed_float16"),
        ("mixed_float16", "mixed_bfloat16", "mixed_float16"),
        ("mixed_bfloat16", "mixed_bfloat16", "mixed_bfloat16"),
        ("mixed_bfloat16", "mixed_float16", "float32"),
        ("mixed_bfloat16", "float32", "float32"),
        ("float32", "mixed_bfloat16", "float32"),
    ],
)
def test_16_bits_stay_where_the_gpu_has_them(tmp_path, monkeypatch, policy, here, expected):
    monkeypatch.setattr(trained, "choose_precision", lambda _: (here, "a GPU"))
    dense(policy).save(tmp_path / "model.keras")
    loaded = load_trained(tmp_path / "model.keras")
    reason = "as it was trained" if policy == expected else f"trained in {policy}; a GPU"
    assert (loaded.policy, loaded.reason, trained_policy(loaded.model)) == (expected, reason, expected)


def test_loading_does_not_warn_of_a_precision_that_is_not_used(tmp_path, caplog, monkeypatch):
    dense("mixed_float16").save(tmp_path / "model.keras")
    logger = tf.get_logger()
    caplog.set_level("WARNING", logger=logger.name)  # commands that other tests ran in this process may have set it
    level, load = logger.level, keras.models.load_model

    def warn(*args, **how):
        logger.warning("slow")  # as Keras does, but once in a process
        return load(*args, **how)

    monkeypatch.setattr(keras.models, "load_model", warn)
    monkeypatch.setattr(logger, "propagate", True)
    load_trained(tmp_path / "model.keras")
    assert "slow" not in caplog.text
    assert logger.level == level
    logger.warning("seen")
    assert "seen" in caplog.text

"""A trained model from its file, in a precision that this machine's devices have."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

# Imported so that Keras can load models that hold these layers.
import model.layers  # noqa: F401
from model.precision import choose_precision


class Loaded(NamedTuple):
    """A model, the name of the Keras precision policy in which it computes, and why."""

    model: keras.Model
    policy: str
    reason: str


def load_trained(path: Path) -> Loaded:
    """Returns the model of a Keras file. To be called within a strategy's scope, if there is one.

    It computes in the 16-bit floats that it was trained in where the GPUs have them in hardware, else in float32, which
    holds all their values. Its weights are float32 in either case.

    Raises:
      OSError, ValueError, zipfile.BadZipFile: the file is damaged.
    """
    with _quiet():
        stored = keras.models.load_model(path, compile=False)
    policy, reason = _choose_policy(trained_policy(stored))
    return Loaded(with_policy(stored, policy), policy, reason)


def trained_policy(model: keras.Model) -> str:
    """Returns the policy of the layers that compute in 16 bits; float32 if none does."""
    policies = {layer.dtype_policy.name for layer in model.submodules if isinstance(layer, keras.layers.Layer)}
    return next((policy for policy in sorted(policies) if policy.startswith("mixed_")), "float32")


def with_policy(model: keras.Model, policy: str) -> keras.Model:
    """Returns the model with this policy for all layers that compute in 16 bits, and the same weights.

    Layers that are float32 under every policy, as that of the logits is, stay so.
    """
    if policy == trained_policy(model):
        return model
    converted = model.from_config(_replace_policies(model.get_config(), policy))
    converted.set_weights(model.get_weights())
    return converted


def _choose_policy(trained: str) -> tuple[str, str]:
    here, reason = choose_precision("auto")
    # GPUs with bfloat16 have float16 too.
    if trained in ("float32", here) or (trained, here) == ("mixed_float16", "mixed_bfloat16"):
        return trained, "as it was trained"
    return "float32", f"trained in {trained}; {reason}"


def _replace_policies(config: Any, policy: str) -> Any:
    """Returns a Keras configuration in which every mixed policy is this one."""
    if isinstance(config, dict):
        if config.get("class_name") == "Policy" and config["config"]["name"].startswith("mixed_"):
            return policy
        return {name: _replace_policies(value, policy) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replace_policies(value, policy) for value in config)
    return config


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Keras from warning that float16 is slow on this machine, where it will not be used."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(before)

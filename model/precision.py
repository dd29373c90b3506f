"""Precision: one decision, with its reason."""

import tensorflow as tf

from model.config import Precision


def choose_precision(wanted: Precision) -> tuple[str, str]:
    """Returns (name of a Keras precision policy, why).

    "auto": on GPUs, the 16-bit floats that the weakest of them has in hardware; on CPUs float32. Logits, losses and
    metrics are float32 always.
    """
    if wanted != "auto":
        return wanted, "asked for"
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return "float32", "no GPU"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
    return policy_for(capability), f"compute capability {capability[0]}.{capability[1]}"


def policy_for(capability: tuple[int, int]) -> str:
    """Returns the policy for a GPU of this CUDA compute capability."""
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"

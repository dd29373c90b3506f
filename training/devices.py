"""Devices: one decision, with its reason."""

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow import keras

from training.cluster import cluster_size


def choose_strategy(
    virtual_replicas: int | None = None, several_machines: bool = False
) -> tuple[tf.distribute.Strategy, str]:
    """Returns (distribution strategy, why): of all machines that TF_CONFIG names, all GPUs, or the one device.

    Before the first operation of TensorFlow in the process: several machines cannot be joined later.

    Args:
      virtual_replicas: split the CPU into so many logical devices and mirror over them; GPUs are out of sight then.
      several_machines: whether the caller can work on several.

    Raises:
      ValueError: TF_CONFIG names several machines that cannot be used, or cannot be understood.
    """
    machines = cluster_size()
    if machines > 1 and (virtual_replicas or not several_machines):
        other = "virtual_replicas, which divide one machine" if virtual_replicas else "a command that works on one"
        raise ValueError(f"TF_CONFIG: expected one machine for {other}, found {machines}; unset TF_CONFIG")
    if virtual_replicas:
        tf.config.set_visible_devices([], "GPU")  # else precision and input would be made for them
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration() for _ in range(virtual_replicas)]
        tf.config.set_logical_device_configuration(cpu, logical)
        devices = [f"/cpu:{index}" for index in range(virtual_replicas)]
        return tf.distribute.MirroredStrategy(devices), f"{virtual_replicas} logical devices on the CPU"
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if machines > 1:
        try:
            with _interruptible():
                strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"TF_CONFIG: the {machines} machines could not be joined ({reason})") from error
        _check_equal_gpus(machines)
        return strategy, f"{machines} machines with {len(gpus) or 'no'} GPUs each"
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy(), f"{len(gpus)} GPUs"
    return tf.distribute.get_strategy(), "1 GPU" if gpus else "no GPU, so the CPU"


def _check_equal_gpus(machines: int) -> None:
    """Raises ValueError unless all machines, now that they are joined, have as many GPUs as this one.

    TensorFlow takes that for granted, and waits for devices that are not there.
    """
    places = [tf.DeviceSpec.from_string(gpu.name) for gpu in tf.config.list_logical_devices("GPU")]
    counts = Counter((place.job, place.task) for place in places)
    found = sorted([0] * (machines - len(counts)) + [*counts.values()])
    if found[0] != found[-1]:
        raise ValueError(
            f"TF_CONFIG: expected equally many GPUs on all {machines} machines, found {', '.join(map(str, found))}; "
            "choose some with CUDA_VISIBLE_DEVICES"
        )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets the system end the process at Ctrl-C: TensorFlow waits for the other machines without a look at Python.

    SIGTERM it takes for itself meanwhile.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def describe_devices(strategy: tf.distribute.Strategy, machines: int) -> dict[str, Any]:
    """Returns what config.json keeps of the devices that a run began on."""
    policy = keras.mixed_precision.global_policy().name
    return {"precision": policy, "replicas": strategy.num_replicas_in_sync, "machines": machines}


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises ValueError unless every replica gets the same number of examples."""
    if batch_size % replicas:
        raise ValueError(f"global_batch_size: expected a multiple of the {replicas} devices, found {batch_size}")

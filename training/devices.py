"""Devices: one decision, with its reason."""

import tensorflow as tf


def choose_strategy(virtual_replicas: int | None = None) -> tuple[tf.distribute.Strategy, str]:
    """Returns (distribution strategy, why): all GPUs of the machine, mirrored, or its one device.

    Args:
      virtual_replicas: split the CPU into so many logical devices and mirror over them.

    Raises:
      ValueError: TF_CONFIG names several machines.
    """
    if virtual_replicas:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration() for _ in range(virtual_replicas)]
        tf.config.set_logical_device_configuration(cpu, logical)
        devices = [f"/cpu:{index}" for index in range(virtual_replicas)]
        return tf.distribute.MirroredStrategy(devices), f"{virtual_replicas} logical devices on the CPU"
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    machines = sum(cluster.num_tasks(job) for job in cluster.jobs)
    if machines > 1:
        raise ValueError(f"TF_CONFIG: expected one machine, found {machines}; unset it to use this machine's devices")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy(), f"{len(gpus)} GPUs"
    return tf.distribute.get_strategy(), "1 GPU" if gpus else "no GPU, so the CPU"


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises ValueError unless every replica gets the same number of examples."""
    if batch_size % replicas:
        raise ValueError(f"global_batch_size: expected a multiple of the {replicas} devices, found {batch_size}")

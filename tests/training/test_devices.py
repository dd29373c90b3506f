import json
from types import SimpleNamespace

import pytest
import tensorflow as tf

from model.precision import choose_precision
from training.config import TrainConfig
from training.devices import check_batch_size, choose_strategy


@pytest.mark.parametrize(("batch_size", "replicas"), [(1, 1), (16, 1), (16, 4), (6, 3)])
def test_a_batch_that_divides_evenly_is_fine(batch_size, replicas):
    check_batch_size(batch_size, replicas)


@pytest.mark.parametrize(("batch_size", "replicas"), [(16, 3), (1, 2)])
def test_a_batch_that_does_not_divide_is_refused(batch_size, replicas):
    message = f"global_batch_size: expected a multiple of the {replicas} devices, found {batch_size}"
    with pytest.raises(ValueError, match=message):
        check_batch_size(batch_size, replicas)


def test_a_machine_without_gpu_computes_on_its_cpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    strategy, reason = choose_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert (strategy.num_replicas_in_sync, reason) == (1, "no GPU, so the CPU")


def test_a_cluster_of_one_machine_is_no_cluster(monkeypatch):
    cluster = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert choose_strategy()[0] is tf.distribute.get_strategy()


def test_several_machines_are_refused_where_one_works(monkeypatch):
    cluster = {"cluster": {"worker": ["one:1", "two:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ValueError, match="TF_CONFIG: expected one machine for a command that works on one, found 2"):
        choose_strategy()
    with pytest.raises(ValueError, match="TF_CONFIG: expected one machine for virtual_replicas, .* found 2"):
        choose_strategy(2, several_machines=True)


@pytest.mark.parametrize(("gpus", "expected"), [(1, (None, "1 GPU")), (4, ("mirrored", "4 GPUs"))])
def test_all_gpus_are_used(monkeypatch, gpus, expected):
    grown = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(gpus)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    strategy, reason = choose_strategy()
    assert (strategy if gpus > 1 else None, reason) == expected
    assert grown == [(gpu, True) for gpu in range(gpus)]


def test_virtual_replicas_hide_the_gpus_from_all_that_asks_for_them(monkeypatch):
    visible = {"GPU": ["a GPU"]}
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: visible.update({kind: devices}))
    monkeypatch.setattr(tf.config, "get_visible_devices", visible.get)
    monkeypatch.setattr(tf.config, "set_logical_device_configuration", lambda cpu, devices: None)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: devices)
    assert choose_strategy(1) == (["/cpu:0"], "1 logical devices on the CPU")
    assert choose_precision("auto") == ("float32", "no GPU")


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_virtual_replica_is_refused(count):
    with pytest.raises(ValueError, match=f"virtual_replicas: expected at least 1, or null, found {count}"):
        TrainConfig(virtual_replicas=count)


@pytest.mark.parametrize(
    ("chief", "worker", "found"), [(2, 2, None), (0, 0, None), (2, 1, "1, 2"), (0, 1, "0, 1"), (2, 0, "0, 2")]
)
def test_machines_with_different_numbers_of_gpus_are_refused(monkeypatch, chief, worker, found):
    cluster = {"cluster": {"chief": ["one:1"], "worker": ["two:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    gpus = [
        f"/job:{job}/replica:0/task:0" for job, count in (("chief", chief), ("worker", worker)) for _ in range(count)
    ]
    devices = [SimpleNamespace(name=f"{place}/device:GPU:{index}") for index, place in enumerate(gpus)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "joined")
    if found is None:
        assert choose_strategy(several_machines=True)[0] == "joined"
    else:
        with pytest.raises(
            ValueError, match=f"TF_CONFIG: expected equally many GPUs on all 2 machines, found {found};"
        ):
            choose_strategy(several_machines=True)

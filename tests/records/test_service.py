"""A dispatcher and two workers as processes of their own, started by the documented commands, on this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imaging.codec import decode_image, decode_mask
from records.config import InputConfig
from records.input_pipeline import eval_batches
from records.schema import parse
from records.service import (
    NOT_PROMISED,
    check_dispatcher,
    distribute_parts,
    run_dispatcher,
    service_batches,
    tell_of_silence,
)

ROOT = Path(__file__).parents[2]
BATCH = 4


def start(folder, *arguments):
    # From another folder: relative paths of the training machine mean nothing to a worker.
    return subprocess.Popen(
        [sys.executable, "-m", "records", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def seeded_program():
    """The program has a seed of its own, the one that TensorFlow treats differently."""
    tf.random.set_seed(0)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """(HOST:PORT of the dispatcher, the processes: dispatcher, worker, worker, their first lines)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    processes = [start(folder, "dispatcher", "--port", "0")]
    try:
        lines = [processes[0].stdout.readline()]
        address = "127.0.0.1:" + re.search(r":(\d+);", lines[0])[1]
        processes += [start(folder, "worker", address) for _ in range(2)]
        lines += [process.stdout.readline() for process in processes[1:]]
        yield address, processes, lines
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def files(tmp_path, make_record, write_records):
    """(ShardFiles of 48 examples in 6 shards of several lengths, the records by key)."""
    shards = [[make_record(f"{shard}-{number}") for number in range(3 + 2 * shard)] for shard in range(6)]
    info = write_records(tmp_path / "records", {"train": shards})
    records = {record.source_id: record for shard in shards for record in shard}
    return info.shard_files(str(tmp_path / "records"), ["train"]), records


def decode_example(draw, serialized):
    return parse(serialized, channels=3, dtype="uint8", labeled=True) | {"draw": draw}


def keys(batch):
    return [key.decode() for key in batch["source_id"].numpy()]


def read_epochs(address, files, first, count, seed=7):
    """Returns (keys, batches) of these epochs, which the service reads as a dataset that ends."""
    config = InputConfig(data_service=address)
    parts = tf.data.Dataset.range(first * 4, (first + count) * 4)  # of 6 shards, 4 parts an epoch
    batches = list(distribute_parts(parts, files, 1, seed, config, decode_example))
    return [key for batch in batches for key in keys(batch)], batches


def test_the_commands_print_where_they_listen_and_whom_to_trust(service):
    address, _, lines = service
    port = address.rpartition(":")[2]
    assert re.fullmatch(rf"dispatcher listens at \S+:{port}; no authentication: .*trusted network.*\n", lines[0])
    for line in lines[1:]:
        # The address that the dispatcher's side sees, not the "localhost" that TensorFlow would tell every client.
        assert re.fullmatch(rf"worker of {address} listens at 127\.0\.0\.1:\d+; no authentication: .*\n", line)


def test_every_example_comes_exactly_once_an_epoch(service, files):
    shards, records = files
    seen, _ = read_epochs(service[0], shards, first=5, count=3)
    assert Counter(seen) == dict.fromkeys(records, 3)


def test_workers_decode_what_the_records_hold(service, files):
    shards, records = files
    _, batches = read_epochs(service[0], shards, first=0, count=1)
    for batch in batches:
        (key,) = keys(batch)
        np.testing.assert_array_equal(batch["image"][0], decode_image(records[key].image))
        np.testing.assert_array_equal(batch["mask"][0], decode_mask(records[key].mask))


def test_draws_differ_between_examples_and_epochs_and_not_between_workers(service, files):
    def draws(epoch):
        _, batches = read_epochs(service[0], files[0], epoch, 1)
        return {keys(batch)[0]: int(batch["draw"][0]) for batch in batches}

    first, again, second = draws(0), draws(0), draws(1)
    assert first == again
    assert len({*first.values(), *second.values()}) == 2 * len(first)


def test_training_batches_are_full_and_endless_and_use_every_example_alike(service, files):
    shards, records = files
    config = InputConfig(data_service=service[0])
    batches = service_batches(shards, BATCH, 7, config, decode_example)
    assert batches.element_spec["image"].shape[0] == BATCH
    epochs = 40
    seen = Counter()
    for batch in batches.take(epochs * len(records) // BATCH):
        seen.update(keys(batch))
    assert seen.total() == epochs * len(records)
    assert set(seen) == set(records)
    # What a slow worker holds back is bounded by its buffers. Draws at random would differ by 20 and more.
    assert max(seen.values()) - min(seen.values()) <= 8


def test_a_relative_folder_is_found_by_workers_that_run_elsewhere(service, files, monkeypatch, tmp_path):
    shards, records = files
    monkeypatch.chdir(tmp_path)
    relative = [type(file)(file.shard, f"records/{file.shard.name}", file.length, file.num_bytes) for file in shards]
    seen, _ = read_epochs(service[0], relative, first=0, count=1)
    assert sorted(seen) == sorted(records)


def test_without_a_dispatcher_there_is_one_line_within_seconds(files):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start_time = time.monotonic()
    with pytest.raises(ValueError, match=rf"dispatcher .* at 127\.0\.0\.1:{port} .*python -m records dispatcher"):
        service_batches(files[0], BATCH, 0, InputConfig(data_service=f"127.0.0.1:{port}"), decode_example)
    assert time.monotonic() - start_time < 3


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="HOST:PORT"):
        check_dispatcher(address)


def test_evaluation_refuses_the_service(files, tmp_path, write_records, make_record):
    info = write_records(tmp_path / "val", {"val": [[make_record("v0")]]})
    config = InputConfig(data_service="127.0.0.1:5050")
    with pytest.raises(ValueError, match="data_service"):
        eval_batches(info.shard_files(str(tmp_path / "val"), ["val"]), info, 1, config)


def test_what_is_not_promised_is_one_line():
    assert "\n" not in NOT_PROMISED
    assert "order" in NOT_PROMISED
    assert "resume" in NOT_PROMISED


def test_a_second_dispatcher_on_the_same_port_is_refused(service):
    # TensorFlow itself starts it, and some workers go to the one, some to the other.
    port = int(service[0].rpartition(":")[2])
    with pytest.raises(ValueError, match=f"expected a free port, found {port}"):
        run_dispatcher(port, print)


def test_training_goes_on_when_a_worker_dies_and_the_servers_end_cleanly(service, files):
    # The last test: the dispatcher never forgets a worker, so a dataset that ends would wait for the dead one.
    address, processes, _ = service
    shards, records = files
    batches = iter(service_batches(shards, BATCH, 7, InputConfig(data_service=address), decode_example))
    for _ in range(30):
        next(batches)
    processes[1].kill()
    processes[1].wait()
    seen = Counter()
    for _ in range(40 * len(records) // BATCH):
        seen.update(keys(next(batches)))
    assert set(seen) == set(records)
    # The survivor has whole epochs alone; only what the dead one held when it died is missing.
    assert max(seen.values()) - min(seen.values()) <= 8
    del batches
    # A worker that asks for its next part of a dispatcher that is gone must end all the same.
    processes[0].send_signal(signal.SIGTERM)
    assert processes[0].wait(timeout=30) == 0
    processes[2].send_signal(signal.SIGINT)
    assert processes[2].wait(timeout=30) == 0


# --- silence


def test_silence_is_told_and_batches_come_all_the_same():
    gate, told = threading.Event(), []

    def batches():
        yield 1
        gate.wait(20)
        yield 2

    def tell(line):
        told.append(line)
        gate.set()

    waiting = tell_of_silence(batches(), tell, seconds=0.1)
    assert [next(waiting), next(waiting)] == [1, 2]
    assert "no batch of the data service for 0.1 s" in told[0]


def test_an_error_of_the_service_reaches_who_trains():
    def batches():
        yield 1
        raise tf.errors.UnavailableError(None, None, "gone")

    waiting = tell_of_silence(batches(), str)
    assert next(waiting) == 1
    with pytest.raises(tf.errors.UnavailableError, match="gone"):
        next(waiting)

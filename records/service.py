"""Decoding on other machines: the tf.data service.

A dispatcher hands out parts of every epoch to workers, which read the shards, decode them and send batches. Workers may
come and go. What stands here follows from what the service does in TensorFlow 2.15:

- It can divide only the source of a pipeline among workers (ShardingPolicy.DYNAMIC). A shuffle of file names behind the
  source would draw all of them into the first worker that asks, so the source is a plain count, and each number stands
  for some shards of an epoch's permutation.
- A finite dataset never ends once a worker that held a part of it has died. So there is one endless dataset, not one
  an epoch: the others go on, and what the dead worker held is missing from that epoch.
- It has no authentication, and listens on all of a machine's addresses.
"""

import contextlib
import dataclasses
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from records.config import InputConfig
from records.order import buffer_sizes, serialized_records
from records.shards import ShardFile

NOT_PROMISED = (
    "the tf.data service decodes: neither the order of examples nor an exact resume is promised; "
    "every example comes once an epoch, but those that a worker held when it died"
)
"""What a user is told once, at the start of training."""

_TRUST_NOTE = "no authentication: for a trusted network only"

_PART_SHARDS = 16  # at most
_EPOCH_PARTS = 4  # at least, where there are as many shards: workers share an epoch, and a dead one loses little

DecodeFn = Callable[[tf.Tensor, tf.Tensor], Any]


def service_batches(
    files: Sequence[ShardFile],
    batch_size: int,
    seed: int,
    config: InputConfig,
    decode_fn: DecodeFn,
    start_epoch: int = 0,
) -> tf.data.Dataset:
    """Returns endless training batches that the workers of `config.data_service` read and decode.

    Every example comes exactly once an epoch. Workers do not begin an epoch together: batches of neighbouring epochs
    may alternate, and one batch may hold both. What a worker held when it died is missing.

    Args:
      files: to read; every worker must find them under the same paths.
      batch_size: examples a batch.
      seed: of the order of shards and of shuffling.
      config: `shuffle_mib`, `autotune_mib` and `threads` hold for each worker, `prefetch` for this machine.
      decode_fn: (draw int64 [], serialized string []) -> example, any nest of tensors. The draw is a function of the
        epoch and the record, the same on every worker. Workers run the function: it must be of TensorFlow's own ops.
      start_epoch: number of the first epoch; a resumed run gets other permutations than it has seen.

    Raises:
      ValueError: nothing listens at `config.data_service`.
    """
    check_dispatcher(config.data_service)
    parts = tf.data.Dataset.range(start_epoch * _num_parts(len(files)), tf.int64.max)
    return distribute_parts(parts, files, batch_size, seed, config, decode_fn)


def distribute_parts(
    parts: tf.data.Dataset,
    files: Sequence[ShardFile],
    batch_size: int,
    seed: int,
    config: InputConfig,
    decode_fn: DecodeFn,
) -> tf.data.Dataset:
    """Returns the batches of these parts of epochs, decoded by the workers.

    Args:
      parts: int64 numbers; of n parts an epoch, number i is part i % n of epoch i // n. Where they end, each worker
        drops what does not fill a batch.
      files, batch_size, seed, config, decode_fn: as for `service_batches`.
    """
    # Workers run in other folders.
    files = [dataclasses.replace(file, path=_absolute(file.path)) for file in files]
    read = serialized_records(files)
    num_parts = _num_parts(len(files))
    borders = tf.constant([len(files) * part // num_parts for part in range(num_parts + 1)])
    shuffled, ahead = buffer_sizes(files, config.shuffle_mib)
    threads = tf.data.AUTOTUNE if config.threads is None else config.threads

    def part_records(number):
        # Of the graph that a dataset makes of this function: the program's own seed neither counts nor changes.
        tf.random.set_seed(1)
        epoch, part = number // num_parts, number % num_parts
        shards = tf.random.experimental.stateless_shuffle(tf.range(len(files)), seed=[seed, epoch], alg="philox")
        shards = tf.data.Dataset.from_tensor_slices(shards[borders[part] : borders[part + 1]])
        records = shards.interleave(read, _PART_SHARDS, block_length=1, num_parallel_calls=tf.data.AUTOTUNE)
        # Emptied at the end of every part: a buffer over the endless stream would keep some examples for epochs.
        records = records.shuffle(shuffled, seed=tf.cast(seed, tf.int64) * 1_000_003 + number)
        return records.map(lambda serialized: (epoch, serialized))

    def decode(epoch, serialized):
        # Of the record's own bytes: a count would begin anew on every worker.
        return decode_fn(tf.strings.to_hash_bucket_fast(serialized, 2**62) + epoch, serialized)

    records = parts.flat_map(part_records).prefetch(ahead)
    # Whole batches travel, because every call costs. The service compresses them with Snappy, which takes time of both
    # sides and shrinks photographs by little, but masks by much.
    batches = records.map(decode, threads).batch(batch_size, drop_remainder=True).with_options(_options(config))
    service = tf.data.experimental.service
    received = batches.apply(service.distribute(service.ShardingPolicy.DYNAMIC, f"grpc://{config.data_service}"))
    options = tf.data.Options()
    # Every training machine reads a stream of its own; dividing that again would throw most of it away.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return received.prefetch(config.prefetch).with_options(options)


def tell_of_silence(batches: Iterator, tell: Callable[[str], None], seconds: float = 60.0) -> Iterator:
    """Yields the batches, and says each time that none has come for so long.

    TensorFlow waits for a worker without a word and without end, and does not hear SIGINT meanwhile. So a thread does
    the waiting.
    """
    ready: queue.Queue = queue.Queue(1)

    def fetch():
        try:
            for batch in batches:
                ready.put((batch, None))
        except Exception as error:  # whatever it is, the thread that trains raises it
            ready.put((None, error))

    threading.Thread(target=fetch, name="data service", daemon=True).start()
    while True:
        try:
            batch, error = ready.get(timeout=seconds)
        except queue.Empty:
            tell(f"no batch of the data service for {seconds:g} s; does a worker run (`python -m records worker`)?")
            continue
        if error is not None:
            raise error
        yield batch


def check_dispatcher(address: str, timeout_s: float = 5.0) -> str:
    """Returns this machine's own address, as seen on the way to the dispatcher.

    TensorFlow would go on trying for ever, without a word.

    Args:
      address: HOST:PORT.
      timeout_s: how long to wait for an answer.

    Raises:
      ValueError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"expected the address of a dispatcher as HOST:PORT, found {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection:
            return connection.getsockname()[0]
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"expected a dispatcher of the tf.data service at {address} (HOST:PORT), found none ({error}); "
            "start one there with `python -m records dispatcher`"
        ) from error


def run_dispatcher(port: int, tell: Callable[[str], None]) -> None:
    """Runs a dispatcher until SIGINT or SIGTERM.

    Args:
      port: to listen at; 0 for any that is free.
      tell: gets one line that says where it listens.
    """
    port = _free_port(port)
    service = tf.data.experimental.service
    with _until_stopped(service.DispatchServer(service.DispatcherConfig(port=port))):
        tell(f"dispatcher listens at {socket.gethostname()}:{port}; {_TRUST_NOTE}")


def run_worker(dispatcher: str, port: int, host: str | None, tell: Callable[[str], None]) -> None:
    """Runs a worker until SIGINT or SIGTERM.

    Args:
      dispatcher: HOST:PORT.
      port: to listen at; 0 for any that is free.
      host: name of this machine for others; None for the address that it has on the way to the dispatcher.
      tell: gets one line that says where it listens.

    Raises:
      ValueError: nothing listens at `dispatcher`, or the port is taken.
    """
    seen_as = check_dispatcher(dispatcher)
    port = _free_port(port)
    # TensorFlow's own default tells the clients, wherever they are, to look for the worker on localhost.
    address = f"{host or seen_as}:{port}"
    service = tf.data.experimental.service
    settings = service.WorkerConfig(dispatcher, worker_address=address, port=port, data_transfer_address=address)
    with _until_stopped(service.WorkerServer(settings)):
        tell(f"worker of {dispatcher} listens at {address}; {_TRUST_NOTE}")


def _num_parts(num_shards: int) -> int:
    """Returns into how many parts an epoch is cut; a part is what a worker gets at once."""
    return max(min(num_shards, _EPOCH_PARTS), -(-num_shards // _PART_SHARDS))


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())


def _options(config: InputConfig) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = False
    options.autotune.ram_budget = config.autotune_mib * 2**20
    return options


def _free_port(port: int) -> int:
    """Returns the port, or a free one for 0. Two servers of TensorFlow share a port without a word."""
    try:
        with socket.create_server(("", port)) as server:
            return server.getsockname()[1]
    except (OSError, OverflowError) as error:
        raise ValueError(f"expected a free port, found {port} ({error}); choose another --port") from error


@contextlib.contextmanager
def _until_stopped(server) -> Iterator[None]:
    """Holds the server, behind the body, until SIGINT or SIGTERM; then ends the process."""
    try:
        # The server's own join() cannot be interrupted.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield
        signal.pause()
    except KeyboardInterrupt:
        # The server's own stop() waits for its open calls, one of which may ask for an hour for a dispatcher that is
        # gone. Nothing is to be saved, and who reads from it takes it for one of the machines that may go.
        sys.stdout.flush()
        os._exit(0)

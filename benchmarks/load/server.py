"""The server in a process of its own, where the bare model can be timed between the requests."""

import asyncio
import contextlib
import dataclasses
import multiprocessing
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from model.config import ModelConfig
from serving.config import ServeConfig


class Model(NamedTuple):
    """What is served.

    Attributes:
      run: a RUN folder; None: the network, untrained, for colour images of `size` pixels a side.
      network: where there is no RUN.
      size: of its images.
    """

    run: str | None
    network: ModelConfig
    size: int


class Served:
    """A running server.

    Attributes:
      address: "http://...".
      pid: of its process.
      devices: in words.
      batch_size: the most images at once.
    """

    def __init__(self, connection: Connection, pid: int):
        """Takes the connection to the process of `_serve`, and its number."""
        self._connection, self.pid = connection, pid
        self.address, self.devices, self.batch_size = self._receive()

    def time_model(self, seconds: float) -> float:
        """Returns the images/s of the bare model, on one constant batch that lies on the device already."""
        self._connection.send(seconds)
        return self._receive()

    def _receive(self):
        try:
            answer = self._connection.recv()
        except EOFError:
            raise ValueError("the server's process has ended") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.contextmanager
def serve_model(model: Model, config: ServeConfig) -> Iterator[Served]:
    """Yields a server that is warm, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, model, config), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Served(ours, process.pid)
        ours.send(None)
        process.join()
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection, model: Model, config: ServeConfig) -> None:
    import uvicorn

    from serving.app import make_app
    from serving.server import open_socket
    from serving.service import Service

    try:
        predictor, devices = _open(model, config)
        service = Service(predictor, config)
        app = make_app(service, Path(model.run or "untrained"), None)
        opened = open_socket("127.0.0.1", 0)
    except (ValueError, OSError) as error:
        connection.send(error)
        return
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])), daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        service.batcher.ready.result()
        connection.send((f"http://127.0.0.1:{opened.getsockname()[1]}", devices, service.model.sizes[-1]))
        while (seconds := connection.recv()) is not None:
            connection.send(_time_model(service, seconds))
    except Exception as error:  # TensorFlow's own cannot be sent
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
    server.should_exit = True
    thread.join()


def _open(model: Model, config: ServeConfig):
    """Returns (predictor, devices in words)."""
    from benchmarks.rates import untrained
    from inference.predictor import Predictor
    from inference.segmenter import load_segmenter
    from training.devices import choose_strategy
    from training.run_folder import RunFolder

    strategy, devices = choose_strategy(config.virtual_replicas)
    if model.run is not None:
        return load_segmenter(RunFolder(Path(model.run)), config), devices
    known = SimpleNamespace(channels=3, dtype="uint8", classes=["background", "cell"], fingerprint="made up")
    with strategy.scope():
        trained = untrained(model.network, known)
    trained = dataclasses.replace(trained, size=(model.size, model.size), stretched=True)
    return Predictor(trained, strategy), devices


def _time_model(service, seconds: float) -> float:
    import tensorflow as tf

    strategy, trained = service.predictor.strategy, service.predictor.trained
    batch_size = service.model.sizes[-1]
    share = batch_size // strategy.num_replicas_in_sync
    batch = strategy.experimental_distribute_values_from_function(
        lambda _: tf.zeros([share, *service.model.shape], trained.dtype)
    )
    predict = tf.function(lambda images: strategy.run(trained.probabilities, (images,)))

    def step() -> None:
        for part in strategy.experimental_local_results(predict(batch)):
            part.numpy()  # accelerators compute in the background

    step()
    start, count = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds or count < 3:
        step()
        count += 1
    return count * batch_size / took

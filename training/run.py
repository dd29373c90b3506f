"""A run: takes its folder, builds what is trained, opens its records, trains; goes on where an earlier one stopped."""

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import tensorflow as tf

from records.cache import drop_cache
from records.info import RecordsInfo
from training.compatibility import check_fits
from training.config import TrainConfig
from training.devices import describe_devices
from training.loop import Epochs
from training.preemption import Preemption
from training.run_folder import RunFolder, hold, read_config
from training.run_input import Progress, open_input
from training.state import TrainState
from training.trainer import build_trainer
from training.workers import Workers, peers_present


def train(
    records: str,
    info: RecordsInfo,
    run: RunFolder,
    config: TrainConfig,
    strategy: tf.distribute.Strategy,
    progress: Progress,
    tell: Callable[[str], None],
) -> TrainState:
    """Trains a model into a RUN folder; returns the final state.

    Args:
      records: folder of the records.
      info: of the records.
      run: where everything goes.
      config: settings.
      strategy: devices.
      progress: shows how far an epoch is.
      tell: shows a line to the user.

    Raises:
      ValueError: records, settings and RUN folder do not fit together.
      FloatingPointError: the loss is no longer finite.
      Preempted: the process was asked to stop; the same call goes on.
    """
    workers = Workers.of(strategy)
    check_fits(records, info, config, workers)
    devices = describe_devices(strategy, workers.count)
    with (
        Preemption(signal.SIGTERM, signal.SIGINT) as preemption,
        peers_present(workers),
        contextlib.ExitStack() as stack,
    ):
        with workers.ready_together():
            own = stack.enter_context(_take(run, config, info, devices, workers))
        workers.check_same(
            records=info.fingerprint,
            RUN=run.config.is_file(),
            **{setting.name: getattr(config, setting.name) for setting in fields(config)}
            | {"precision": devices["precision"]},  # "auto" is another one on other GPUs
        )
        trainer = build_trainer(run, config, info, strategy, tell, own)
        if restored := trainer.checkpoints.restore(tell):
            tell(f"going on from epoch {trainer.state.epoch + 1}, step {trainer.state.step} ({restored})")
            _tell_other_devices(read_config(run).get("devices", {}), devices, tell)
        workers.check_same(checkpoint=(trainer.state.epoch, trainer.state.step), weights=trainer.digest())
        if trainer.state.finished:
            drop_cache(own.cache)  # left if it was killed at its very end
            tell("this run has finished; a longer one needs another RUN folder")
            return trainer.state
        with workers.ready_together():
            data = stack.enter_context(open_input(records, info, own, config, workers, progress, tell))
        workers.check_same(damaged_records=data.num_lost)
        Epochs(trainer, data, own, config, workers, preemption, progress, tell).train()
        return trainer.state


@contextlib.contextmanager
def _take(
    run: RunFolder, config: TrainConfig, info: RecordsInfo, devices: dict[str, Any], workers: Workers
) -> Iterator[RunFolder]:
    """Takes the RUN folder for the chief, and yields where this worker writes.

    All workers must save whenever one does, since some variables are then averaged over all of them. What the others
    save goes with them.
    """
    if workers.is_chief:
        with hold(run, config, info, devices):
            yield run
    else:
        with tempfile.TemporaryDirectory(prefix="worker-") as folder:
            yield RunFolder(Path(folder))


def _tell_other_devices(begun: dict[str, Any], devices: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Tells what is not as in an uninterrupted run if a run goes on on other devices than it began on.

    Args:
      begun: of the run, see `describe_devices`; empty where it is not known.
      devices: here.
      tell: shows a line to the user.
    """
    others = [name for name in ("replicas", "machines") if begun.get(name, devices[name]) != devices[name]]
    if others:
        changes = ", ".join(f"{name}: {begun[name]} there, {devices[name]} here" for name in others)
        drawn = "dropout, noise and the order of examples" if "machines" in others else "dropout and noise"
        tell(f"the run was begun on other devices ({changes}); it goes on with other random numbers of {drawn}")

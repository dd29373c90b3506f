"""The RUN folder: what a training run leaves, and where."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.info import RecordsInfo
from training.config import MAY_CHANGE, TrainConfig


@dataclass(frozen=True)
class RunFolder:
    """Paths in a RUN folder."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved settings and what the model needs to know of its records."""
        return self.path / "config.json"

    @property
    def model(self) -> Path:
        """The best model, by validation Dice or F1: a Keras file."""
        return self.path / "model.keras"

    @property
    def checkpoints(self) -> Path:
        """TensorFlow checkpoints of the whole training state."""
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / "history.csv"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def plots(self) -> Path:
        """Learning curves."""
        return self.path / "plots"

    @property
    def mended(self) -> Path:
        """Shards without their damaged records, with --input.skip_damaged."""
        return self.path / "mended"

    @property
    def cache(self) -> Path:
        """Decoded training examples while the run goes on, with --input.cache_file_mib."""
        return self.path / "cache"

    @property
    def gate(self) -> Path:
        """From which probability on a gate lets images pass, with test.py --gate."""
        return self.path / "gate.json"

    @property
    def postprocess(self) -> Path:
        """Thresholds and steps that make masks, by `python -m evaluation.tune`."""
        return self.path / "postprocess.json"

    def evaluation(self, split: str) -> Path:
        """Where test.py writes its judgement."""
        return self.path / "eval" / split


def describe_records(info: RecordsInfo) -> dict[str, Any]:
    """Returns what a model depends on of the records it was trained on."""
    names = ("name", "classes", "overlapping", "channels", "dtype", "height", "width", "stretched", "intensity")
    return {name: getattr(info, name) for name in (*names, "mean", "std", "fingerprint")}


def write_config(run: RunFolder, config: Any, info: RecordsInfo, devices: dict[str, Any] | None = None) -> None:
    """Writes config.json: {"train": settings, "records": see `describe_records`, "devices": where they are known}."""
    content = {"train": dataclasses.asdict(config), "records": describe_records(info)}
    if devices is not None:
        content["devices"] = devices
    write_text(run.config, json.dumps(content, indent=2) + "\n")


def read_config(run: RunFolder) -> dict[str, Any]:
    """Returns the content of config.json.

    Raises:
      ValueError: the folder is no RUN folder.
    """
    if not run.config.is_file():
        found = f"no {run.config.name} there"
        if (run.path / "info.json").is_file():
            found = "records: RUN comes first"
        elif run.path.is_file():
            found = "a file"
        elif not run.path.exists():
            found = "no such folder"
        raise ValueError(f"{run.path}: expected a RUN folder made by train.py, found {found}")
    try:
        content = json.loads(run.config.read_text())
    except ValueError as error:
        raise ValueError(f"{run.config}: damaged ({error}); train into another RUN folder") from error
    if not isinstance(content, dict) or not {"train", "records"} <= content.keys():
        raise ValueError(f"{run.path}: expected a RUN folder made by train.py, found another {run.config.name}")
    return content


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is whole or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # on a full disk half a file is what keeps it full


@contextlib.contextmanager
def hold(run: RunFolder, config: TrainConfig, info: RecordsInfo, devices: dict[str, Any]) -> Iterator[None]:
    """Takes a RUN folder that is new, or holds this very run, for this process alone.

    Args:
      run: the folder.
      config: settings.
      info: of the records.
      devices: "precision", the policy that was chosen; what else is to be known of them when the run goes on.

    Raises:
      ValueError: the folder holds something else, or another process has taken it.
    """
    _check(run, config, info, devices["precision"])
    run.path.mkdir(parents=True, exist_ok=True)
    with lock(run.path, "is training into this RUN folder"):
        _check(run, config, info, devices["precision"])  # what another process has done in the meantime
        new = not run.config.is_file()
        if new:
            write_config(run, config, info, devices)
        try:
            yield
        except ValueError:
            if new and [*run.path.iterdir()] == [run.config]:
                run.config.unlink()  # nothing was begun: other settings may be tried in the same folder
            raise


@contextlib.contextmanager
def lock(folder: Path, doing: str) -> Iterator[None]:
    """Takes a folder for this process alone; the system frees it when the process ends, however it does.

    Args:
      folder: that exists.
      doing: what a process that has it does, in words.

    Raises:
      ValueError: another process has it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: another process {doing}; wait for its end, or choose another") from error
        yield
    finally:
        os.close(handle)


def _check(run: RunFolder, config: TrainConfig, info: RecordsInfo, precision: str) -> None:
    """Raises ValueError unless the folder is new, or holds this very run."""
    if run.config.is_file():
        found = read_config(run)
        wanted = {"train": json.loads(json.dumps(dataclasses.asdict(config))), "records": describe_records(info)}
        if found["records"]["fingerprint"] != info.fingerprint:
            raise ValueError(
                f"{run.path}: holds a run on other records ({found['records']['name']}); choose another RUN folder"
            )
        if changes := _differences(found["train"], wanted["train"]):
            raise ValueError(
                f"{run.path}: holds a run with other settings ({', '.join(changes)}); choose another RUN folder, "
                "or repeat its settings to go on with it"
            )
        begun = found.get("devices", {}).get("precision", found["train"].get("precision"))
        if begun not in (None, "auto", precision):
            raise ValueError(
                f"{run.path}: expected the precision of the run that it holds, {begun}, found {precision}; "
                f"go on with --precision {begun}, or choose another RUN folder"
            )
    elif run.path.exists() and any(path.suffix != ".tmp" for path in run.path.iterdir()):  # killed at its very start
        raise ValueError(f"{run.path}: expected a new or empty folder, or one of train.py; it holds other files")


def _differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    changes = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        there, here = found.get(name), wanted.get(name)
        if isinstance(here, dict):
            changes += _differences(there or {}, here, f"{prefix}{name}.")
        elif there != here and f"{prefix}{name}" not in MAY_CHANGE:
            changes.append(f"{prefix}{name}: {there} there, {here} here")
    return changes

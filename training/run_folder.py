"""The RUN folder: what a training run leaves, and where."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.info import RecordsInfo


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
        """The best model, by validation Dice: a Keras file."""
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

    def evaluation(self, split: str) -> Path:
        """Where test.py writes its judgement."""
        return self.path / "eval" / split


def describe_records(info: RecordsInfo) -> dict[str, Any]:
    """Returns what a model depends on of the records it was trained on."""
    names = ("name", "classes", "overlapping", "channels", "dtype", "height", "width", "intensity", "mean", "std")
    return {name: getattr(info, name) for name in (*names, "fingerprint")}


def write_config(run: RunFolder, config: Any, info: RecordsInfo) -> None:
    """Writes config.json: {"train": settings, "records": see `describe_records`}."""
    content = {"train": dataclasses.asdict(config), "records": describe_records(info)}
    write_text(run.config, json.dumps(content, indent=2) + "\n")


def read_config(run: RunFolder) -> dict[str, Any]:
    """Returns the content of config.json.

    Raises:
      ValueError: the folder is no RUN folder.
    """
    if not run.config.is_file():
        raise ValueError(f"{run.path}: expected a RUN folder made by train.py, found no {run.config.name}")
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
    temporary.write_text(text)
    temporary.replace(path)

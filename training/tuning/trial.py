"""A trial: what it tries, and what came of it. One small file each, which is all that a search knows."""

import csv
import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from training.config import TrainConfig
from training.run_folder import RunFolder, write_text


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes:
      number: from 0.
      settings: values of the searched settings, by name.
      state: running until it has ended; pruned: given up early.
      scores: of its epochs, as far as they were judged.
      seconds: that it has taken.
      reason: why it failed.
      notes: what Optuna's pruner wants to know of it later.
    """

    number: int
    settings: dict[str, Any]
    state: Literal["running", "finished", "pruned", "failed"] = "running"
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> tuple[float, int] | None:
        """(score, epoch from 1) of its best epoch; None where none was scored."""
        finite = [(score, -epoch) for epoch, score in enumerate(self.scores, 1) if math.isfinite(score)]
        return (max(finite)[0], -max(finite)[1]) if finite else None


def best_trial(trials: list[Trial]) -> Trial | None:
    """Returns the finished trial with the highest score, the first of equals; None where none has finished."""
    finished = [trial for trial in trials if trial.state == "finished"]
    return max(finished, key=lambda trial: trial.best[0], default=None)


@dataclass(frozen=True)
class SearchFolder:
    """Paths in a SEARCH folder."""

    path: Path

    @property
    def settings(self) -> Path:
        """What is searched, and how: what a resumed search must repeat."""
        return self.path / "search.json"

    @property
    def table(self) -> Path:
        """A row per trial."""
        return self.path / "trials.csv"

    @property
    def plot(self) -> Path:
        """Parallel coordinates."""
        return self.path / "parallel_coordinates.png"

    @property
    def best(self) -> Path:
        """The best trial's settings, a recipe."""
        return self.path / "best.yaml"

    @property
    def trials(self) -> Path:
        """Files of the trials."""
        return self.path / "trials"

    def run(self, number: int) -> RunFolder:
        """A trial's RUN folder."""
        return RunFolder(self.trials / f"{number:04}")

    def recipe(self, number: int) -> Path:
        """A trial's settings for train.py."""
        return self.trials / f"{number:04}.yaml"

    def log(self, number: int) -> Path:
        """What train.py printed in a trial."""
        return self.trials / f"{number:04}.log"

    def trial(self, number: int) -> Path:
        """A `Trial`."""
        return self.trials / f"{number:04}.json"


def write_trial(folder: SearchFolder, trial: Trial) -> None:
    """Writes a trial's file."""
    write_text(folder.trial(trial.number), json.dumps(dataclasses.asdict(trial), indent=2) + "\n")


def read_trials(folder: SearchFolder) -> list[Trial]:
    """Returns all trials, in order; the last may be running.

    Raises:
      ValueError: a file is damaged, or missing.
    """
    trials = []
    for _ in folder.trials.glob("*.json"):
        path = folder.trial(len(trials))
        try:
            trials.append(Trial(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: damaged ({error}); search anew in another SEARCH folder") from error
    return trials


def dump_recipe(config: TrainConfig) -> str:
    """Returns settings as `train.py --print_config` shows them."""
    return yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False)


def read_scores(run: RunFolder, column: str) -> list[float]:
    """Returns the score in this column of the history of each epoch that a run has ended.

    Raises:
      ValueError: its history has no such column.
    """
    if not run.history.is_file():
        return []
    with run.history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and column not in rows[0]:
        raise ValueError(f"{run.history}: expected a column {column}, found {', '.join(rows[0])}")
    return [float(row[column]) for row in rows]

"""Searches whose trials are `fake_train.py`."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from records.info import RecordsInfo, read_info
from tests.training.tuning.fake_train import score
from training.config import TrainConfig
from training.tuning import process, results
from training.tuning.config import TuneConfig
from training.tuning.search import search
from training.tuning.space import read_space
from training.tuning.study import Proposal
from training.tuning.trial import SearchFolder, Trial

FAKE = Path(__file__).with_name("fake_train.py")
ROOT = Path(__file__).parents[3]

INFO = RecordsInfo(
    name="made-up",
    classes=["background", "object"],
    overlapping=False,
    labeled=True,
    instances=False,
    height=8,
    width=8,
    channels=1,
    dtype="uint8",
    coding="image",
    intensity={},
    mean=[0.0],
    std=[1.0],
    splits={},
    rejected=0,
    warnings={},
    config={},
    fingerprint="0123456789abcdef",
    versions={},
)

SPACE = (
    "learning_rate: {low: 1e-5, high: 1e-1, log: true}\nmodel.filters: [4, 8, 16]\nmodel.dropout: {low: 0, high: 0.5}\n"
)

BASE = TrainConfig(epochs=4, global_batch_size=8, checkpoint_minutes=0)
CONFIG = TuneConfig(space="", trials=5, min_epochs=1, train=BASE)


def run_search(
    folder: Path, space: str = SPACE, config: TuneConfig = CONFIG, info: RecordsInfo = INFO
) -> tuple[list[Trial], list[str]]:
    """Searches in this process; returns the trials and what was told."""
    told = []
    path = folder.parent / "space.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(space)
    checked = read_space(path, config.train)
    trials = search("records", info, SearchFolder(folder), config, checked, told.append, lambda words: None)
    return trials, told


def imagined_trials(space: Path, config: TuneConfig) -> list[Trial]:
    """Returns the trials of a search that gives up nothing, made without processes and files."""
    checked, trials = read_space(space, config.train), []
    for number in range(config.trials):
        proposal = Proposal(config, checked, trials)
        settings = proposal.settings()
        scores = [score(settings, epoch) for epoch in range(1, config.train.epochs + 1)]
        for each in scores:
            assert not proposal.gives_up(each)
        trials.append(Trial(number, settings, "finished", scores, notes=proposal.notes))
    return trials


def without_times(trials: list[Trial]) -> list[Trial]:
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


def start_command(folder: Path, *flags: str, space: str = SPACE, pace: float = 0.0) -> subprocess.Popen:
    """Starts the command, in a process group of its own, on made-up records beside the folder.

    Args:
      folder: of the search.
      flags: of the command.
      space: what is searched.
      pace: seconds that an epoch of a trial takes.
    """
    records = folder.parent / "records"
    records.mkdir(parents=True, exist_ok=True)
    (records / "info.json").write_text(INFO.to_json())
    assert read_info(str(records)) == INFO
    (folder.parent / "space.yaml").write_text(space)
    code = f"""
import pathlib, cli
from training.tuning import process, results
process.TRAIN = pathlib.Path({str(FAKE)!r})
from training.tune import main
cli.run(main)
"""
    arguments = [str(records), str(folder), "--space", str(folder.parent / "space.yaml"), *flags]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        env=os.environ | {"COLUMNS": "200", "FAKE_PACE": str(pace)},
    )


def wait_for(condition, seconds: float = 30.0) -> None:
    """Waits until something is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def use_fake(monkeypatch) -> None:
    """Lets trials of this process be fake ones, and saves the time of pictures."""
    monkeypatch.setattr(process, "TRAIN", FAKE)
    monkeypatch.setattr(results, "plot_trials", lambda *_: None)

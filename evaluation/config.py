"""Settings of an evaluation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from inference.config import PredictConfig

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""From a label and a total to a context that yields a function to be told how much is done."""


@dataclass(frozen=True)
class ScoreConfig:
    """How predictions are scored."""

    pictures: int = 4
    """Pictures each of the best, the median and the worst; of a classifier: of false alarms and misses."""
    objects: bool = True
    """Judge objects: precision, recall, F1, F2 and mean average precision."""
    distances: bool = True
    """Measure distances between boundaries."""
    workers: int | None = None
    """Processes that judge objects and boundaries beside the model. Null: one less than there are CPUs, at most 8, and
    none for few images; 0: none, the model waits."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self):
        if self.pictures < 0:
            raise ValueError(f"pictures: expected at least 0, found {self.pictures}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers: expected at least 0, or null, found {self.workers}")


@dataclass(frozen=True)
class EvalConfig(ScoreConfig, PredictConfig):
    """How a trained run is judged."""

    split: str = "test"
    """Which split of the records."""
    original: str | None = None
    """Records of the same raw data with masks at its own size (`python -m preprocess` with --size null): what is
    predicted is stretched, put together and scored there."""
    submission: Literal["airbus", "nuclei", "clouds"] | None = None
    """Write submission.csv too, in the form of this competition, at the raw images' size (clouds: 350x525)."""
    sample: str | None = None
    """CSV file, a sample submission: the rows of submission.csv are its rows, in its order. Null: all images of the
    split, in the records' order."""

    @property
    def name(self) -> str:
        """Of the evaluation's folder: the split, and what is not as plainly predicted, to be compared with that."""
        gate, original = "gate" if self.gate else "", "original" if self.original else ""
        return "-".join(part for part in (self.split, gate, self.way, original) if part)

    def __post_init__(self):
        PredictConfig.__post_init__(self)
        ScoreConfig.__post_init__(self)
        if self.sample is not None and self.submission is None:
            raise ValueError("sample: expected --submission with it: it orders the rows of that file")

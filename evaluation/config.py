"""Settings of an evaluation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""From a label and a total to a context that yields a function to be told how much is done."""


@dataclass(frozen=True)
class EvalConfig:
    """How a trained run is judged."""

    split: str = "test"
    """Which split of the records."""
    batch_size: int = 16
    """Images at once; scores do not depend on it."""
    threshold: float = 0.5
    """Probability from which a pixel belongs to a class, without effect with more than two exclusive classes; of a
    classifier: from which there is an object."""
    gate: str | None = None
    """A run of --task classify: images (of models for crops: tiles) that it clears are not segmented, and empty. From
    which probability on is chosen on validation."""
    tta: bool = False
    """Average the probabilities of an image's 8 symmetries, which takes 8 times as long."""
    ensemble: tuple[str, ...] = ()
    """Further runs, whose probabilities are averaged with those of RUN, e.g. '[runs/second, runs/third]'."""
    pictures: int = 4
    """Pictures each of the best, the median and the worst; of a classifier: of false alarms and misses."""
    seed: int = 0
    """Of the bootstrap."""
    virtual_replicas: int | None = None
    """Split the CPU into so many logical devices, to try out several replicas without GPUs."""

    @property
    def name(self) -> str:
        """Of the evaluation's folder: the split, and what is not as plainly predicted, to be compared with that."""
        ways = {"gate": self.gate is not None, "ensemble": bool(self.ensemble), "tta": self.tta}
        return "-".join([self.split, *(way for way, used in ways.items() if used)])

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, found {self.batch_size}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a probability between 0 and 1, found {self.threshold}")
        if self.pictures < 0:
            raise ValueError(f"pictures: expected at least 0, found {self.pictures}")
        if self.virtual_replicas is not None and self.virtual_replicas < 1:
            raise ValueError(f"virtual_replicas: expected at least 1, or null, found {self.virtual_replicas}")

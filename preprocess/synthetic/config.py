"""Settings of the made-up datasets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SyntheticConfig:
    """How much is made."""

    images: int = 96
    """Number of images; of CT volumes an eighth, but at least 3."""
    seed: int = 0
    """The same seed gives the same files."""

    def __post_init__(self):
        if self.images < 1:
            raise ValueError(f"images: expected at least 1, found {self.images}")

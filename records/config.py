"""Settings of reading records. Imports no TensorFlow, so that --help is quick."""

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"[^\s:/]+:(\d{1,5})")

_MIB = 2**30
"""A pebibyte: more is a slip."""

_LIMITS = {
    "shuffle_mib": (1, _MIB),
    "cache_mib": (0, _MIB),
    "cache_file_mib": (0, _MIB),
    "autotune_mib": (1, _MIB),
    "prefetch": (0, 10_000),
    "threads": (1, 10_000),
    "fold": (0, 10_000),
    "crop": (1, 2**15),
}
"""(lowest, highest) value of each whole number."""


@dataclass(frozen=True)
class InputConfig:
    """How records are read."""

    shuffle_mib: int = 256
    """Memory for shuffling, in MiB of serialized (compressed) records of average size."""
    cache_mib: int = 1024
    """Memory for decoded training examples, in MiB: where all of them fit, each is decoded once. 0: none."""
    cache_file_mib: int = 0
    """The same on the disk, in RUN, where they do not fit in memory; for records that are slow to read or decode."""
    autotune_mib: int = 1024
    """Most memory, in MiB, that tf.data may fill with buffers of its own choice."""
    threads: int | None = None
    """Parallel decoders; null lets tf.data tune it."""
    prefetch: int = 2
    """Batches prepared ahead."""
    fold: int | None = None
    """With records made with folds: validate on this fold, train on the others."""
    crop: int | None = None
    """Side in pixels of the squares that are cut out of images at random; needed for records of native sizes."""
    foreground_crops: float = 0.0
    """Probability that a crop is centred on a pixel of a class present, chosen at random, rather than anywhere."""
    foreground_share: float | None = None
    """Share of the examples of an epoch that hold any foreground; null: as many as there are."""
    class_balance: float | None = None
    """How much more often rare classes are seen, from 0 (as often as they are there) to 1 (all equally often, as far
    as possible); 0.5 is usual; null: no balancing."""
    skip_damaged: bool = False
    """Go on without damaged records instead of stopping."""
    data_service: str | None = None
    """HOST:PORT of a tf.data service's dispatcher: other machines decode; order and exact resume are not promised."""

    def __post_init__(self):
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"input.{name}: expected {low} to {high}, found {value}")
        for name in ("foreground_crops", "foreground_share", "class_balance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"input.{name}: expected a number from 0 to 1, found {value}")
        if self.foreground_crops and self.crop is None:
            raise ValueError("input.foreground_crops: expected input.crop with it; say how large the crops are")
        if self.foreground_share is not None and self.class_balance is not None:
            raise ValueError("input.foreground_share, input.class_balance: expected one of them, found both")
        if self.data_service is not None and (self.foreground_share is not None or self.class_balance is not None):
            raise ValueError(
                "input.data_service: expected neither input.foreground_share nor input.class_balance with it, which "
                "need an exact order; leave one of them out"
            )
        port = _ADDRESS.fullmatch(self.data_service or "")
        if self.data_service is not None and not (port and 0 < int(port[1]) < 2**16):
            raise ValueError(f"input.data_service: expected HOST:PORT, found {self.data_service!r}")

"""Settings of reading records. Imports no TensorFlow, so that --help is quick."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InputConfig:
    """How records are read."""

    shuffle_mib: int = 256
    """Memory for shuffling, in MiB of serialized (compressed) records."""
    threads: int | None = None
    """Parallel decoders; null lets tf.data tune it."""
    prefetch: int = 2
    """Batches prepared ahead."""
    fold: int | None = None
    """With records made with folds: validate on this fold, train on the others."""

    def __post_init__(self):
        if self.shuffle_mib < 1:
            raise ValueError(f"input.shuffle_mib: expected at least 1, found {self.shuffle_mib}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"input.threads: expected at least 1, or null, found {self.threads}")
        if self.prefetch < 0:
            raise ValueError(f"input.prefetch: expected at least 0, found {self.prefetch}")
        if self.fold is not None and self.fold < 0:
            raise ValueError(f"input.fold: expected at least 0, or null, found {self.fold}")

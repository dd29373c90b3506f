"""Settings of predictions: the same wherever a trained run is used."""

from dataclasses import dataclass
from typing import Literal

OutputKind = Literal["mask", "overlay", "probability", "array", "instances", "contours", "coco", "rle"]
"""What is written of what was found, see `inference.outputs`."""


@dataclass(frozen=True)
class PredictConfig:
    """How a trained run predicts."""

    batch_size: int = 16
    """Images at once; what is predicted does not depend on it."""
    threshold: float | None = None
    """Probability from which a pixel belongs to a class (of more than two exclusive classes: share of its own and the
    most probable other class's); of a classifier: from which there is an object. Null: what `python -m evaluation.tune`
    chose, with its steps behind, or 0.5 and nothing else where it did not run."""
    gate: str | None = None
    """A run of --task classify: images (of models for crops: tiles) that it clears are not segmented, and empty. From
    which probability on is chosen on validation."""
    tta: bool = False
    """Average the probabilities of an image's 8 symmetries, which takes 8 times as long."""
    ensemble: tuple[str, ...] = ()
    """Further runs, whose probabilities are averaged with those of RUN, e.g. '[runs/second, runs/third]'."""
    overlap: float = 0.5
    """Of models for crops: share of a tile that its neighbour sees as well; where tiles share pixels, their mean
    counts. 0 takes a quarter of the time."""
    virtual_replicas: int | None = None
    """Split the CPU into so many logical devices, to try out several replicas without GPUs."""

    @property
    def way(self) -> str:
        """How it is predicted, where that is not plainly: "ensemble", "tta", "ensemble-tta"."""
        return "-".join(name for name, used in (("ensemble", bool(self.ensemble)), ("tta", self.tta)) if used)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, found {self.batch_size}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a probability between 0 and 1, or null, found {self.threshold}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap: expected a share from 0 to below 1, found {self.overlap}")
        if self.virtual_replicas is not None and self.virtual_replicas < 1:
            raise ValueError(f"virtual_replicas: expected at least 1, or null, found {self.virtual_replicas}")


@dataclass(frozen=True)
class FilesConfig(PredictConfig):
    """How files are predicted, and what is written of them."""

    out: str = "predictions"
    """Folder for what is found."""
    save: tuple[OutputKind, ...] = ("mask", "overlay")
    """What is written beside predictions.csv: mask, overlay, probability (16-bit PNG, of scans NIfTI), array (NumPy),
    instances, contours (GeoJSON), coco, rle."""
    large_mpx: float = 64
    """Million pixels from which a TIFF is read and predicted in parts, so that memory does not grow with its height; of
    models that know the raw images' own pixels (crops, or records of --tile or --size null)."""
    to: Literal["submission"] | None = None
    """Write submission.csv too, in the form of the competition whose --sample is given (Airbus ships, nuclei, clouds).
    Only the images of the sample are predicted."""
    sample: str | None = None
    """CSV file, a sample submission: the rows of submission.csv are its rows, in its order."""

    def __post_init__(self):
        super().__post_init__()
        if not self.out:
            raise ValueError("out: expected a folder, found an empty name")
        if self.to is not None and self.sample is None:
            raise ValueError(f"to: expected --sample with --to {self.to}: it says which form and which rows")
        if self.sample is not None and self.to is None:
            raise ValueError("sample: expected --to submission with it: it orders the rows of that file")

"""A trained model, and what it was trained on."""

import hashlib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow import keras

from inference.averaging import mean_probabilities
from model.config import ModelConfig
from model.labels import Labels
from model.trained import load_trained
from records.info import RecordsInfo, scored_classes, training_splits
from training.run_folder import RunFolder, read_config


@dataclass(frozen=True)
class TrainedModel:
    """A run's best model and what it was trained on.

    Attributes:
      model: from images [batch, height, width, channels] of stored pixel values to logits.
      classes: class names by mask value, or by bit.
      channels, dtype: of the images.
      fingerprint: of the records.
      multiple: what height and width of images must be multiples of.
      overlapping: whether masks are bit fields, see `RecordsInfo`.
      intensity: what stored pixel values mean, see `RecordsInfo`; None: not known.
      window: (lowest, highest) value that the model tells apart, or None.
      crop: side in pixels of the squares it was trained on; None: whole images.
      size: (height, width) of the records' images; None: several.
      stretched: whether the raw images were stretched to that size; else the model knows their own pixels.
      fold: that validated it; None: the validation split.
      task: "segment", or "classify": whether there is any object, see `model.classifier`.
      digest: SHA-256 of the model's file; of several, of theirs.
      others: runs whose probabilities are averaged with those of this one, see `combine`.
      tta: whether probabilities are averaged over the symmetries of an image, see `inference.averaging`.
      precision: in which it computes, and why.
    """

    model: keras.Model
    classes: list[str]
    channels: int
    dtype: str
    fingerprint: str
    multiple: int = 1
    overlapping: bool = False
    intensity: dict[str, Any] | None = None
    window: tuple[float, float] | None = None
    crop: int | None = None
    size: tuple[int, int] | None = None
    stretched: bool = False
    fold: int | None = None
    task: str = "segment"
    digest: str = ""
    precision: str = ""
    others: tuple["TrainedModel", ...] = ()
    tta: bool = False

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 [batch, height, width, outputs] of images [batch, height, width, channels]."""

        def predictor(run):
            return lambda images: self.labels.probabilities(run.model(images, training=False))

        return mean_probabilities([predictor(run) for run in (self, *self.others)], images, self.tta)

    @property
    def stored_window(self) -> tuple[float, float] | None:
        """The window as values of stored pixels."""
        if self.window is None:
            return None
        low, high = ((value - self.intensity["offset"]) / self.intensity["slope"] for value in self.window)
        return low, high

    @property
    def tile(self) -> int | None:
        """Side in pixels of the squares in which an image is predicted; None: whole, at the records' size."""
        if self.crop is not None or self.size is None or self.stretched:
            return self.crop
        return -(-max(self.size) // self.multiple) * self.multiple

    @property
    def labels(self) -> Labels:
        """What the model's outputs mean."""
        return Labels(len(self.classes), self.overlapping)

    @property
    def scored_classes(self) -> dict[int, str]:
        """Names of the classes that scores and pictures are about, by mask value or bit."""
        return {number: self.classes[number] for number in scored_classes(self.classes, self.overlapping)}


def load_run(run: RunFolder) -> TrainedModel:
    """Returns the best model of a RUN folder. To be called within a strategy's scope, if there is one.

    Raises:
      ValueError: the folder is no RUN folder, or has no model yet.
    """
    config = read_config(run)
    if not run.model.is_file():
        raise ValueError(f"{run.path}: expected {run.model.name}, found none; train for at least one epoch")
    try:
        loaded = load_trained(run.model)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{run.model}: the model cannot be loaded, the file is damaged: {error}") from error
    settings, records = config["train"], config["records"]
    known = ("classes", "overlapping", "channels", "dtype", "intensity", "fingerprint")
    try:
        network = ModelConfig(**settings["model"])
        return TrainedModel(
            model=loaded.model,
            multiple=network.multiple,
            window=network.window and tuple(network.window),
            crop=settings["input"]["crop"],
            size=(records["height"], records["width"]) if records["height"] else None,
            # Runs that do not say it were stretched, if their images have one size.
            stretched=records.get("stretched", records["height"] is not None),
            fold=settings["input"]["fold"],
            task=settings.get("task", "segment"),
            digest=hashlib.sha256(run.model.read_bytes()).hexdigest(),
            precision=f"{loaded.policy}: {loaded.reason}",
            **{name: records[name] for name in known},
        )
    except KeyError as error:
        raise ValueError(
            f"{run.config}: expected the key {error}, found none; train into another RUN folder"
        ) from error
    except TypeError as error:
        raise ValueError(
            f"{run.config}: expected the settings that this version knows, found others ({error}); "
            "train into another RUN folder"
        ) from error


def check_fits(trained: TrainedModel, info: RecordsInfo, run: str, records: str) -> None:
    """Raises ValueError unless the records look like those the model was trained on."""
    names = ["channels", "dtype"]
    if info.labeled:
        names += ["classes", "overlapping"]
    if trained.intensity is not None:
        names.append("intensity")
    for name in names:
        expected, found = getattr(trained, name), getattr(info, name)
        if expected != found:
            raise ValueError(
                f"{run} was trained on records with {name} {expected}, but {records} has {found}; "
                "choose records that were made alike"
            )
    if trained.crop is not None:
        return
    if info.height is None:
        raise ValueError(
            f"{run} was trained on whole images, but {records} has images of several sizes; "
            "train with --input.crop 256, or choose records that were preprocessed with --size"
        )
    if info.height % trained.multiple or info.width % trained.multiple:
        raise ValueError(
            f"{run} needs images whose height and width are multiples of {trained.multiple}, but {records} has "
            f"{info.height}x{info.width}; preprocess with another --size"
        )


def has_trained_on(trained: TrainedModel, info: RecordsInfo, split: str) -> bool:
    """Returns whether a model was trained on a split of these records, so that scores there are not of new images."""
    return info.fingerprint == trained.fingerprint and split in training_splits(info, trained.fold)[0]


def combine(runs: Sequence[TrainedModel], names: Sequence[str], tta: bool) -> TrainedModel:
    """Returns the first run with the others beside it, so that its probabilities are the means of all.

    Args:
      runs: one or more, that segment.
      names: of their RUN folders, for errors.
      tta: test-time augmentation.

    Raises:
      ValueError: they do not segment, or not the same classes of the same kind of images; or one is there twice.
    """
    first = runs[0]
    for index, run in enumerate(runs):
        if run.digest in [other.digest for other in runs[:index]]:
            raise ValueError(f"ensemble: expected different models, found that of {names[index]} twice; leave it out")
    for run, name in zip(runs, names, strict=True):
        if run.task != "segment" and (tta or len(runs) > 1):
            raise ValueError(f"ensemble, tta: expected runs that segment, found {name} of --task {run.task}")
        for what in ("channels", "dtype", "intensity", "classes", "overlapping", "crop", "window", "tile"):
            if (wanted := getattr(first, what)) != (found := getattr(run, what)):
                raise ValueError(
                    f"ensemble: expected runs on images and classes of one kind, found {names[0]} with {what} {wanted} "
                    f"and {name} with {found}"
                )
    if len(runs) == 1 and not tta:
        return first
    digest = hashlib.sha256(" ".join([*sorted(run.digest for run in runs), "tta" * tta]).encode()).hexdigest()
    multiple = math.lcm(*(run.multiple for run in runs))
    return replace(first, others=tuple(runs[1:]), multiple=multiple, digest=digest, tta=tta)

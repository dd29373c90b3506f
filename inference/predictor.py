"""A trained model, and what it predicts for batches of records."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

# Imported so that Keras can load models that hold these layers.
import model.layers  # noqa: F401
from model.labels import Labels
from records.info import RecordsInfo, scored_classes
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
        loaded = keras.models.load_model(run.model, compile=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{run.model}: the model cannot be loaded, the file is damaged: {error}") from error
    settings, records = config["train"]["model"], config["records"]
    known = ("classes", "overlapping", "channels", "dtype", "intensity", "fingerprint")
    try:
        return TrainedModel(
            model=loaded,
            multiple=2 ** settings["depth"],
            window=settings["window"] and tuple(settings["window"]),
            **{name: records[name] for name in known},
        )
    except KeyError as error:
        raise ValueError(
            f"{run.config}: expected the key {error}, found none; train into another RUN folder"
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
    if info.height is not None and (info.height % trained.multiple or info.width % trained.multiple):
        raise ValueError(
            f"{run} needs images whose height and width are multiples of {trained.multiple}, but {records} has "
            f"{info.height}x{info.width}; preprocess with another --size"
        )


def predict_batches(
    trained: TrainedModel, batches: tf.data.Dataset, strategy: tf.distribute.Strategy, threshold: float
) -> Iterator[dict[str, np.ndarray]]:
    """Yields every batch as NumPy arrays, without its images and its padding.

    Args:
      trained: made within the strategy's scope.
      batches: as `eval_batches` returns them.
      strategy: devices.
      threshold: probability from which a pixel belongs to a class, see `Labels.classify`.

    Yields:
      "prediction" [batch, height, width], uint8 class indices or, where classes overlap, uint16 bit fields;
      "source_id" and "group" bytes [batch]; "mask" as the prediction where the records are labelled.
    """

    @tf.function
    def predict(batch):
        def predict_replica(batch):
            logits = trained.model(batch["image"], training=False)
            return {"prediction": trained.labels.classify(trained.labels.probabilities(logits), threshold)} | {
                name: value for name, value in batch.items() if name != "image"
            }

        return strategy.run(predict_replica, (batch,))

    for batch in strategy.experimental_distribute_dataset(batches):
        results = {
            name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
            for name, value in predict(batch).items()
        }
        real = results.pop("weight") > 0
        yield {name: value[real] for name, value in results.items()}


def predict_image(trained: TrainedModel, image: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the predicted mask of one image, [height, width]: uint8 class indices or uint16 bit fields.

    Args:
      trained: the model.
      image: stored pixel values [height, width, channels].
      threshold: as in `predict_batches`.
    """
    logits = trained.model(image[np.newaxis], training=False)
    return trained.labels.classify(trained.labels.probabilities(logits), threshold)[0].numpy()

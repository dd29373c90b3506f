"""A trained model, and what it predicts for batches of records."""

import hashlib
import itertools
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from imaging.tiling import cut, tile_windows
from inference.averaging import mean_probabilities
from inference.gate import Gate, object_probabilities
from model.config import ModelConfig
from model.labels import Labels
from model.trained import load_trained
from records.info import RecordsInfo, scored_classes
from training.run_folder import RunFolder, read_config

_TILES_AT_ONCE = 16


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


def combine(runs: Sequence[TrainedModel], names: Sequence[str], tta: bool) -> TrainedModel:
    """Returns the first run with the others beside it, so that its probabilities are the means of all.

    Args:
      runs: one or more, that segment.
      names: of their RUN folders, for errors.
      tta: test-time augmentation.

    Raises:
      ValueError: they do not segment, or not the same classes of the same kind of images.
    """
    first = runs[0]
    for run, name in zip(runs, names, strict=True):
        if run.task != "segment" and (tta or len(runs) > 1):
            raise ValueError(f"ensemble, tta: expected runs that segment, found {name} of --task {run.task}")
        for what in ("channels", "dtype", "intensity", "classes", "overlapping", "crop", "window"):
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


def check_gate(gate: TrainedModel, trained: TrainedModel, gate_run: str, run: str) -> None:
    """Raises ValueError unless the gate is a classifier for the images, or the tiles, that the other one segments.

    What validated one must not have trained the other: its threshold is found there.
    """
    if gate.task != "classify":
        raise ValueError(f"gate: expected a run of --task classify, found {gate_run} of --task {gate.task}")
    for member in (trained, *trained.others):
        for name in ("channels", "dtype", "intensity", "classes", "overlapping", "fingerprint", "fold"):
            wanted, found = getattr(member, name), getattr(gate, name)
            if wanted != found:
                raise ValueError(
                    f"gate: {run} was trained on records with {name} {wanted}, but {gate_run} on some with {found}; "
                    "train both on the same records and fold"
                )
    if gate.crop != trained.crop:
        sizes = [f"crops of {crop}" if crop else "whole images" for crop in (trained.crop, gate.crop)]
        raise ValueError(
            f"gate: {run} was trained on {sizes[0]}, but {gate_run} on {sizes[1]}; "
            "train both with the same --input.crop"
        )


def predict_batches(
    trained: TrainedModel,
    batches: tf.data.Dataset,
    strategy: tf.distribute.Strategy,
    threshold: float,
    gate: Gate | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields every batch as NumPy arrays, without its images and its padding.

    Args:
      trained: made within the strategy's scope.
      batches: as `eval_batches` returns them.
      strategy: devices.
      threshold: probability from which a pixel belongs to a class, see `Labels.classify`.
      gate: made within the strategy's scope; what it clears is not segmented. None: all is segmented.

    Yields:
      "prediction" [batch, height, width], uint8 class indices or, where classes overlap, uint16 bit fields;
      "source_id" and "group" bytes [batch]; "mask" as the prediction where the records are labelled; "tile" int32
      [batch, 4] where the batches are of tiles; with a gate also its "probability" and "cleared" [batch].
    """
    predict_masks = _mask_predictor(trained, threshold, gate)
    return _predict(batches, strategy, lambda batch: predict_masks(batch["image"], batch["weight"] > 0))


def classify_batches(
    trained: TrainedModel, batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> Iterator[dict[str, np.ndarray]]:
    """Yields what `predict_batches` does, but of a classifier: "probability" float32 [batch] of an object."""
    model = trained.model
    return _predict(batches, strategy, lambda batch: {"probability": object_probabilities(model, batch["image"])})


def _predict(
    batches: tf.data.Dataset,
    strategy: tf.distribute.Strategy,
    function: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields what the function makes of each batch, with the batch but for its images, and without padding."""

    @tf.function
    def predict(batch):
        def predict_replica(batch):
            return function(batch) | {name: value for name, value in batch.items() if name != "image"}

        return strategy.run(predict_replica, (batch,))

    for batch in strategy.experimental_distribute_dataset(batches):
        results = {
            name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
            for name, value in predict(batch).items()
        }
        real = results.pop("weight") > 0
        yield {name: value[real] for name, value in results.items()}


def _mask_predictor(trained: TrainedModel, threshold: float, gate: Gate | None) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns a function (images, which of them are no padding; None: all) -> "prediction", and what the gate adds."""
    labels = trained.labels

    def segment(images):
        return labels.classify(trained.probabilities(images), threshold)

    def predict(images, real=None):
        return {"prediction": segment(images)} if gate is None else gate.apply(images, segment, labels.mask_dtype, real)

    return predict


def join_tiles(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, list]]:
    """Yields images one by one, put together from their tiles.

    Args:
      batches: as `predict_batches` yields them, of `records.crop.tiles`, those of an image in a row.

    Yields:
      what `predict_batches` does for a batch of one image, in lists, of the image's own size and without "tile".
    """
    tiles = (
        {name: values[index] for name, values in batch.items()}
        for batch in batches
        for index in range(len(batch["tile"]))
    )
    for _, group in itertools.groupby(tiles, key=lambda tile: tile["source_id"]):
        parts = list(group)
        image = {name: [parts[0][name]] for name in ("source_id", "group")}
        for name in {"prediction", "mask"} & parts[0].keys():
            image[name] = [_put_together([part["tile"] for part in parts], [part[name] for part in parts])]
        yield image


def predict_image(trained: TrainedModel, image: np.ndarray, threshold: float, gate: Gate | None = None) -> np.ndarray:
    """Returns the predicted mask of one image, [height, width]: uint8 class indices or uint16 bit fields.

    A model trained on crops predicts the tiles that `records.crop.tiles` cuts.

    Args:
      trained: the model.
      image: stored pixel values [height, width, channels].
      threshold, gate: as in `predict_batches`.
    """
    predict_masks = _mask_predictor(trained, threshold, gate)

    def predict(images: np.ndarray) -> np.ndarray:
        return predict_masks(tf.constant(images))["prediction"].numpy()

    if trained.crop is None:
        return predict(image[np.newaxis])[0]
    size = trained.crop
    height, width, _ = image.shape
    windows = tile_windows(height, width, size, 0)
    inside = [(y, x, min(size, height - y), min(size, width - x)) for y, x, _, _ in windows]
    tiles = [cut(image, window, 0) for window in windows]
    batches = [tiles[start : start + _TILES_AT_ONCE] for start in range(0, len(tiles), _TILES_AT_ONCE)]
    return _put_together(inside, np.concatenate([predict(np.stack(batch)) for batch in batches]))


def _put_together(windows: Sequence[Sequence[int]], tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mask [height, width] of tiles and their windows, (y, x, height, width) inside the image."""
    height, width = (max(window[axis] + window[axis + 2] for window in windows) for axis in (0, 1))
    whole = np.empty((height, width), tiles[0].dtype)
    # Backwards: of tiles that overlap the first counts, as in their masks.
    for (y, x, rows, columns), tile in reversed(list(zip(windows, tiles, strict=True))):
        whole[y : y + rows, x : x + columns] = tile[:rows, :columns]
    return whole

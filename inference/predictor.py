"""What a trained run predicts: batches of records, or an image, → probabilities → masks."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from imaging.restore import Restored, restore_mask
from imaging.tiling import Window, cut, tile_windows
from inference.config import PredictConfig
from inference.gate import Gate, object_probabilities
from inference.postprocess import Postprocess, Steps, clean_mask, read_postprocess
from inference.run import TrainedModel, combine, load_run
from training.run_folder import RunFolder

_TILES_AT_ONCE = 16

Batch = dict[str, np.ndarray | list]
"""Of images: by name an array or, where images have several sizes, a list, with an entry for each image."""

Measure = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
"""From probabilities [batch, height, width, outputs] and masks [batch, height, width] to tensors [batch, ...]."""


@dataclass(frozen=True)
class Predictor:
    """A trained run, and all that its predictions depend on.

    Attributes:
      trained: made within the strategy's scope.
      strategy: devices.
      postprocess: thresholds and steps of the classes; those that lack have the plain ones.
      gate: made within the strategy's scope; what it clears is not segmented. None: all is segmented.
      overlap: of the tiles of models for crops, share of their side.
    """

    trained: TrainedModel
    strategy: tf.distribute.Strategy
    postprocess: Postprocess = field(default_factory=dict)
    gate: Gate | None = None
    overlap: float = 0.5

    @property
    def thresholds(self) -> list[float]:
        """Of the model's outputs."""
        labels = self.trained.labels
        numbers = range(labels.outputs) if labels.softmax else self.trained.scored_classes
        return [self.postprocess.get(number, Steps()).threshold for number in numbers]

    def describe(self) -> dict[str, dict]:
        """Returns the steps of every scored class by its name, as JSON has them."""
        classes = self.trained.scored_classes.items()
        return {name: dataclasses.asdict(self.postprocess.get(number, Steps())) for number, name in classes}

    def gate_identity(self, classifier: TrainedModel) -> dict[str, Any]:
        """Returns what a gate's threshold holds for: both models, and how masks are made."""
        identity = {"gate_sha256": classifier.digest, "model_sha256": self.trained.digest}
        return identity | {"postprocess": self.describe(), "fingerprint": self.trained.fingerprint}

    @property
    def tile_overlap(self) -> int:
        """Pixels that neighbouring tiles share; 0 for models of whole images."""
        return int(self.overlap * (self.trained.tile or 0))

    def masks(self, batches: tf.data.Dataset, measure: Measure | None = None) -> Iterator[Batch]:
        """Yields the predicted masks of batches, without their images and padding.

        Args:
          batches: as `eval_batches` returns them; for models of crops in tiles, those of an image in a row.
          measure: what else is to be known of every image, where the records are labelled and there is no gate.

        Yields:
          "prediction" [batch, height, width], uint8 class indices or, where classes overlap, uint16 bit fields;
          "source_id" and "group" bytes [batch]; "mask" as the prediction where the records are labelled; the details
          that the batches have; what is measured; with a gate "probability" and "cleared" [batch], of tiles lists of
          those of an image. Images of models for crops come one by one.
        """
        if "tile" in batches.element_spec:
            for image in self.probabilities(batches):
                yield self.decide(image, measure)
            return
        for batch in _run(batches, self.strategy, lambda batch: self._segment(batch, self._classify, measure)):
            masks = [clean_mask(mask, self.postprocess, self.trained.overlapping) for mask in batch["prediction"]]
            yield batch | {"prediction": np.stack(masks)}

    def probabilities(self, batches: tf.data.Dataset) -> Iterator[Batch]:
        """Yields what `masks` does, but "probabilities", float32 [height, width, outputs] each, for "prediction"."""
        segmented = self.tile_probabilities(batches)
        return self._join_tiles(segmented) if "tile" in batches.element_spec else segmented

    def tile_probabilities(self, batches: tf.data.Dataset) -> Iterator[Batch]:
        """Yields what `probabilities` does, but of each image or tile by itself."""
        return _run(batches, self.strategy, lambda batch: self._segment(batch, None, None))

    def tile_masks(self, batches: tf.data.Dataset) -> Iterator[Batch]:
        """Yields what `masks` does, but of each image or tile by itself, and before it is cleaned."""
        return _run(batches, self.strategy, lambda batch: self._segment(batch, self._classify, None))

    def decide(self, batch: Batch, measure: Measure | None = None, postprocess: Postprocess | None = None) -> Batch:
        """Returns a batch of `probabilities` as one of `masks`.

        Args:
          batch: of images of any size.
          measure: as for `masks`.
          postprocess: in place of the predictor's.
        """
        batch = dict(batch)
        postprocess = self.postprocess if postprocess is None else postprocess
        decided = Predictor(self.trained, self.strategy, postprocess)
        probabilities = batch.pop("probabilities")
        batch["prediction"] = [
            clean_mask(decided._classify(tf.constant(one)).numpy(), postprocess, self.trained.overlapping)
            for one in probabilities
        ]
        if measure and self.gate is None and "mask" in batch:
            measured = [
                measure(tf.constant(one)[tf.newaxis], tf.constant(mask)[tf.newaxis])
                for one, mask in zip(probabilities, batch["mask"], strict=True)
            ]
            batch |= {name: np.concatenate([one[name].numpy() for one in measured]) for name in measured[0]}
        return batch

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Returns the mask of an image [height, width, channels] of stored pixel values, as `masks` yields it."""
        return self.decide({"probabilities": [self.image_probabilities(image)]})["prediction"][0]

    def image_probabilities(self, image: np.ndarray) -> np.ndarray:
        """Returns float32 [height, width, outputs] of an image [height, width, channels] of stored pixel values."""
        size = self.trained.tile
        if size is None:
            return self._segment({"image": tf.constant(image[np.newaxis])}, None, None)["probabilities"][0].numpy()
        height, width, _ = image.shape
        windows = tile_windows(height, width, size, self.tile_overlap)
        parts = []
        for start in range(0, len(windows), _TILES_AT_ONCE):
            some = windows[start : start + _TILES_AT_ONCE]
            tiles = tf.constant(np.stack([cut(image, window, 0) for window in some]))
            found = {name: value.numpy() for name, value in self._segment({"image": tiles}, None, None).items()}
            cleared = found.get("cleared", np.zeros(len(some), bool))
            inside = [Window(y, x, min(size, height - y), min(size, width - x)) for y, x, _, _ in some]
            parts += zip(found["probabilities"], inside, cleared, strict=True)
        return self.restore(parts, height, width)

    def segment(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns "probabilities" of a batch's "image", and what a gate adds; of "weight" 0 is padding."""
        return self._segment(batch, None, None)

    def _classify(self, probabilities: tf.Tensor) -> tf.Tensor:
        return self.trained.labels.classify(probabilities, self.thresholds)

    def _segment(
        self, batch: dict[str, tf.Tensor], classify: Callable[[tf.Tensor], tf.Tensor] | None, measure: Measure | None
    ) -> dict[str, tf.Tensor]:
        """Returns "probabilities" or, of what classifies them, "prediction", what is measured and what a gate adds."""
        images = batch["image"]
        name = "prediction" if classify else "probabilities"
        if self.gate is None:
            probabilities = self.trained.probabilities(images)
            measured = measure(probabilities, batch["mask"]) if measure and "mask" in batch else {}
            return {name: classify(probabilities) if classify else probabilities} | measured

        def segment(images):
            probabilities = self.trained.probabilities(images)
            return classify(probabilities) if classify else probabilities

        real = batch["weight"] > 0 if "weight" in batch else None
        nothing = tf.ones([*images.shape[1:3], 1]) * self.nothing
        segmented, judged = self.gate.apply(images, segment, classify(nothing) if classify else nothing, real)
        return {name: segmented, **judged}

    @property
    def nothing(self) -> np.ndarray:
        """Probabilities float32 [outputs] of a pixel in which there is nothing."""
        labels = self.trained.labels
        nothing = np.zeros(labels.outputs, np.float32)
        nothing[0] = labels.softmax
        return nothing

    def _join_tiles(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields images one by one, put together from their tiles."""
        tiles = (
            {name: values[index] for name, values in batch.items()}
            for batch in batches
            for index in range(len(batch["tile"]))
        )
        for _, group in itertools.groupby(tiles, key=lambda tile: tile["source_id"]):
            parts = list(group)
            windows = [Window(*map(int, part["tile"])) for part in parts]
            height, width = (max(window[axis] + window[axis + 2] for window in windows) for axis in (0, 1))
            of_tiles = {"tile", "probabilities", "mask", "probability", "cleared"}
            image: Batch = {name: [value] for name, value in parts[0].items() if name not in of_tiles}
            cleared = [part.get("cleared", False) for part in parts]
            probabilities = [part["probabilities"] for part in parts]
            image["probabilities"] = [self.restore(zip(probabilities, windows, cleared, strict=True), height, width)]
            if "mask" in parts[0]:
                masks = [part["mask"] for part in parts]
                image["mask"] = [restore_mask(zip(masks, windows, strict=True), height, width)]
            image |= {name: [[part[name] for part in parts]] for name in {"probability", "cleared"} & parts[0].keys()}
            yield image

    def restore(self, parts, height: int, width: int) -> np.ndarray:
        """Returns the probabilities of an image, from those of its tiles, their windows, and which a gate has cleared.

        A tile that was cleared says nothing where others saw more.
        """
        restored = Restored(height, width, self.trained.labels.outputs)
        for probabilities, window, cleared in parts:
            if not cleared:
                restored.add(probabilities[: window.height, : window.width], window)
        return restored.finish(self.nothing)


def load_predictor(run: str, config: PredictConfig, strategy: tf.distribute.Strategy) -> Predictor:
    """Returns the predictor of a RUN folder, without a gate.

    Raises:
      ValueError: RUN, or a run of the ensemble, has no model, or they do not go together; its postprocess.json is
        damaged.
    """
    members = [run, *config.ensemble]
    with strategy.scope():
        trained = combine([load_run(RunFolder(Path(member))) for member in members], members, config.tta)
    classes = trained.scored_classes
    if config.threshold is not None:
        postprocess = dict.fromkeys(classes, Steps(config.threshold))
    else:
        path = RunFolder(Path(run)).postprocess
        postprocess = read_postprocess(path, config.way, trained.digest, classes) or {}
    return Predictor(trained, strategy, postprocess, overlap=config.overlap)


def classify_batches(
    trained: TrainedModel, batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> Iterator[Batch]:
    """Yields what `Predictor.masks` does, but of a classifier: "probability" float32 [batch] of an object."""
    model = trained.model
    return _run(batches, strategy, lambda batch: {"probability": object_probabilities(model, batch["image"])})


def _run(
    batches: tf.data.Dataset,
    strategy: tf.distribute.Strategy,
    function: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
) -> Iterator[Batch]:
    """Yields what the function makes of each batch, with the batch but for its images, and without padding."""

    @tf.function
    def predict(batch):
        def predict_replica(batch):
            return function(batch) | {name: value for name, value in batch.items() if name != "image"}

        return strategy.run(predict_replica, (batch,))

    def collect(found) -> Batch:
        results = {
            name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
            for name, value in found.items()
        }
        real = results.pop("weight") > 0
        return {name: value[real] for name, value in results.items()}

    # One batch ahead: accelerators compute in the background, so they have work while the last batch is judged.
    ahead = None
    for batch in strategy.experimental_distribute_dataset(batches):
        found, ahead = ahead, predict(batch)
        if found is not None:
            yield collect(found)
    if ahead is not None:
        yield collect(ahead)

"""Batches that are put together by hand → probabilities: for servers, whose images come when they come."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imaging.tiling import MOST_TILES, Window, count_tiles
from inference.images import cut_parts
from inference.predictor import Predictor


class Part(NamedTuple):
    """What was predicted for an image, or for a tile of it.

    Attributes:
      probabilities: float32 [height, width, outputs].
      window: the tile in its image; None: it is the whole image.
      cleared: whether a gate found nothing.
    """

    probabilities: np.ndarray
    window: Window | None
    cleared: bool


class DirectModel:
    """A predictor whose batches have a few fixed sizes, so that TensorFlow makes a graph for each of them once.

    Attributes:
      shape: (height, width, channels) of what is predicted at once.
      sizes: images at once, ascending: the devices times powers of two; batches are padded to the next of them.
    """

    def __init__(self, predictor: Predictor, batch_size: int):
        """Takes a predictor and the most images at once.

        Raises:
          ValueError: the model takes images of any size as a whole, so that they do not fit into batches.
        """
        side = predictor.trained.tile
        shape = (side, side) if side else predictor.trained.size
        if shape is None:
            raise ValueError("expected a model of crops, or of whole images of one size, found one of any size")
        self._predictor = predictor
        self.shape = (*shape, predictor.trained.channels)
        devices = predictor.strategy.num_replicas_in_sync
        most = max(batch_size // devices, 1)
        powers = [2**power for power in range(most.bit_length())]
        self.sizes = [devices * size for size in sorted({*powers, most})]
        self._run = tf.function(lambda batch: predictor.strategy.run(predictor.segment, (batch,)))
        self._graphs: dict[int, Callable] = {}

    def cut(self, image: np.ndarray) -> tuple[Iterator[dict[str, Any]], int]:
        """Returns (parts to be predicted of an image as `prepare` returns it, made when they are asked for, how many).

        Raises:
          ValueError: the image needs too many tiles, or is no image for the model.
        """
        side, (height, width, _) = self._predictor.trained.tile, image.shape
        if side is None and image.shape != self.shape:
            raise ValueError(f"expected an image of the shape {list(self.shape)}, found {list(image.shape)}")
        count = count_tiles(height, width, side, self._predictor.tile_overlap) if side else 1
        if count > MOST_TILES:
            raise ValueError(f"expected at most {MOST_TILES} tiles of an image, found {count}")
        return cut_parts(b"", image, self._predictor), count

    def predict(self, parts: Sequence[dict[str, Any]]) -> list[Part]:
        """Returns what is predicted for parts of whatever images, at most as many as the largest size."""
        strategy, count = self._predictor.strategy, len(parts)
        size = next(size for size in self.sizes if size >= count)
        images = np.zeros((size, *self.shape), self._predictor.trained.dtype)
        for index, part in enumerate(parts):
            images[index] = part["image"]
        weights = np.arange(size) < count
        share = size // strategy.num_replicas_in_sync

        def of_device(context) -> dict[str, tf.Tensor]:
            mine = slice(context.replica_id_in_sync_group * share, (context.replica_id_in_sync_group + 1) * share)
            return {"image": tf.constant(images[mine]), "weight": tf.constant(weights[mine].astype(np.float32))}

        batch = strategy.experimental_distribute_values_from_function(of_device)
        if size not in self._graphs:
            # By hand: called with one size after the other, a tf.function warns of what is wanted here.
            self._graphs[size] = self._run.get_concrete_function(batch)
        found = self._graphs[size](batch)
        values = {
            name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
            for name, value in found.items()
        }
        cleared = values.get("cleared", np.zeros(size, bool))
        windows = [Window(*part["tile"]) if "tile" in part else None for part in parts]
        return [
            Part(*one) for one in zip(values["probabilities"][:count], windows, cleared[:count].tolist(), strict=True)
        ]

    def join(self, parts: Sequence[Part], height: int, width: int) -> tuple[np.ndarray, bool]:
        """Returns what `predict_images` yields of an image: (probabilities, whether a gate cleared all of it).

        Args:
          parts: all of the image.
          height: of the image as `prepare` returned it.
          width: of it.
        """
        cleared = all(part.cleared for part in parts)
        if parts[0].window is None:
            return parts[0].probabilities, cleared
        tiles = ((part.probabilities, part.window, part.cleared) for part in parts)
        return self._predictor.restore(tiles, height, width), cleared

    def warm_up(self) -> None:
        """Makes the graphs of all sizes."""
        blank = {"image": np.zeros(self.shape, self._predictor.trained.dtype)}
        for size in self.sizes:
            self.predict([blank] * size)

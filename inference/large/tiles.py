"""A TIFF larger than memory → the tiles that a model sees of it, row by row."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from imaging.intensity import CountedIntensity
from imaging.pixels import match_pixels
from imaging.raster import Raster
from imaging.tiling import Window, cut, tile_windows
from inference.large.rows import STRIP_ROWS
from inference.run import TrainedModel


def check_large(trained: TrainedModel, dtype: str) -> None:
    """Raises ValueError unless a model can predict an image of this dtype in parts."""
    if trained.tile is None:
        raise ValueError(
            "expected an image that fits into memory: the model knows whole images stretched to one size, and takes no "
            "parts; raise --large_mpx where memory suffices, or train on crops of records of the images' own size"
        )
    if trained.intensity is not None and trained.intensity["unit"] == "HU":
        raise ValueError("expected a CT scan (.nii, .nii.gz): the model knows Hounsfield units, found a TIFF")
    CountedIntensity(_transform(trained), dtype)


def _transform(trained: TrainedModel) -> str:
    return trained.intensity["transform"] if trained.intensity else "none"


def read_tiles(path: Path, trained: TrainedModel, overlap: int) -> Iterator[tuple[np.ndarray, Window]]:
    """Yields what the model sees of an image, in the order of `tile_windows`: (pixels, their window within the image).

    Pixels are those of `prepare`, [tile, tile, channels]; beyond the image they are filled as `predict_images` does it.
    Rows of a tile's height are held.

    Args:
      path: of the TIFF.
      trained: the model, see `check_large`.
      overlap: pixels that neighbouring tiles share.
    """
    side = trained.tile
    with Raster(path) as raster:
        intensity = CountedIntensity(_transform(trained), raster.dtype)
        if intensity.counts:
            for strip in raster.strips(STRIP_ROWS):
                intensity.count(strip)

        def prepared(rows: np.ndarray) -> np.ndarray:
            return match_pixels(intensity.transform(rows), trained.channels, trained.dtype)

        fill = 0
        if trained.crop is None and side > min(raster.height, raster.width):
            fill = min(int(prepared(strip).min()) for strip in raster.strips(STRIP_ROWS))
        held, top = np.zeros((0, raster.width, trained.channels), trained.dtype), 0
        windows = tile_windows(raster.height, raster.width, side, overlap)
        for y, of_row in itertools.groupby(windows, key=lambda window: window.y):
            known, bottom = top + len(held), min(y + side, raster.height)
            held, top = np.concatenate([held[y - top :], prepared(raster.read(known, bottom - known))]), y
            for window in of_row:
                inside = Window(y, window.x, bottom - y, min(side, raster.width - window.x))
                yield cut(held, window._replace(y=0), fill), inside


class TileBatches:
    """Batches of an image's tiles, read ahead in another thread.

    Attributes:
      dataset: "image" [batch, tile, tile, channels], "tile" int32 [batch, 4] the windows, "weight" 0 for padding. Ends
        early where the file is damaged.
      error: why it has ended early; None: it has not.
    """

    def __init__(self, path: Path, trained: TrainedModel, overlap: int, batch_size: int):
        """Takes what `read_tiles` does, and how many tiles are predicted at once."""
        self.error: Exception | None = None

        def elements() -> Iterator[dict]:
            try:
                for pixels, window in read_tiles(path, trained, overlap):
                    yield {"image": pixels, "tile": window, "weight": 1.0}
            except (ValueError, OSError) as error:  # TensorFlow would make another of it
                self.error = error

        signature = {
            "image": tf.TensorSpec([trained.tile, trained.tile, trained.channels], trained.dtype),
            "tile": tf.TensorSpec([4], tf.int32),
            "weight": tf.TensorSpec([], tf.float32),
        }
        padding = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in signature.items()}
        tiles = tf.data.Dataset.from_generator(elements, output_signature=signature)
        padded = tiles.concatenate(tf.data.Dataset.from_tensors(padding).repeat(batch_size - 1))
        self.dataset = padded.batch(batch_size, drop_remainder=True).prefetch(2)

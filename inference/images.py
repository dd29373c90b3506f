"""Images of any size and kind → what a model was trained on → probabilities and masks of their own size."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from imaging.intensity import transform_intensity
from imaging.pixels import match_pixels
from imaging.resize import resize_image
from imaging.tiling import Window, cut, tile_windows
from inference.postprocess import Postprocess, stretch
from inference.predictor import Predictor
from inference.run import TrainedModel

T = TypeVar("T")


class Prediction(NamedTuple):
    """What was found in an image, at its own size.

    Attributes:
      probabilities: float32 [height, width, outputs].
      mask: [height, width], uint8 class indices or, where classes overlap, uint16 bit fields.
      postprocess: the steps that made it, in pixels of this image.
      cleared: whether a gate found nothing in any part of it.
    """

    probabilities: np.ndarray
    mask: np.ndarray
    postprocess: Postprocess
    cleared: bool


def prepare(image: np.ndarray, trained: TrainedModel) -> np.ndarray:
    """Returns an image as `preprocess` would have made a record of it, but for tiles: [height, width, channels].

    Args:
      image: as it is stored: uint8 or uint16 [height, width, 1 or 3]; of a scan's slice HU + 32768.
      trained: the model.
    """
    transform = trained.intensity["transform"] if trained.intensity else "none"
    image = transform_intensity(image, transform)
    if trained.stretched:
        image = resize_image(image, *trained.size)
    return match_pixels(image, trained.channels, trained.dtype)


def predict_images(
    predictor: Predictor, images: Iterable[tuple[T, np.ndarray]], batch_size: int
) -> Iterator[tuple[T, np.ndarray, bool]]:
    """Yields (what came with it, probabilities float32 [height, width, outputs], whether a gate cleared it) of images.

    In their order. Batches hold images, or tiles of them, of whatever files; the next are read while one is predicted.

    Args:
      predictor: the trained run.
      images: (whatever shall come back with it, image as `prepare` returns it); models of whole images need them all
        of one size.
      batch_size: images or tiles at once; of several devices at least.

    Raises:
      what taking the next of the images raises, behind those before it.
    """
    known: dict[bytes, tuple[T, int, int]] = {}
    broken: list[BaseException] = []

    def numbered():
        try:
            for number, (companion, image) in enumerate(images):
                known[b"%d" % number] = (companion, *image.shape[:2])
                yield from cut_parts(b"%d" % number, image, predictor)
        except Exception as error:
            broken.append(error)  # through TensorFlow it would come as another

    shape = [None, None, predictor.trained.channels]
    if size := predictor.trained.tile or predictor.trained.size:
        shape[:2] = (size, size) if isinstance(size, int) else size
    signature = {
        "image": tf.TensorSpec(shape, predictor.trained.dtype),
        "source_id": tf.TensorSpec([], tf.string),
        "weight": tf.TensorSpec([], tf.float32),
    }
    if predictor.trained.tile is not None:
        signature["tile"] = tf.TensorSpec([4], tf.int32)
    parts = tf.data.Dataset.from_generator(numbered, output_signature=signature)
    replicas = predictor.strategy.num_replicas_in_sync
    batch_size = -(-batch_size // replicas) * replicas
    padding = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in signature.items()}
    padded = parts.concatenate(tf.data.Dataset.from_tensors(padding).repeat(batch_size - 1))
    for batch in predictor.probabilities(padded.batch(batch_size, drop_remainder=True).prefetch(2)):
        cleared = batch.get("cleared", [False] * len(batch["source_id"]))
        for number, probabilities, of_parts in zip(batch["source_id"], batch["probabilities"], cleared, strict=True):
            companion, height, width = known.pop(number)
            yield companion, probabilities[:height, :width], bool(np.all(of_parts))
    if broken:
        raise broken[0]


def cut_parts(key: bytes, image: np.ndarray, predictor: Predictor) -> Iterator[dict]:
    """Yields an image, or the tiles that cover it, as elements of a batch."""
    side = predictor.trained.tile
    if side is None:
        yield {"image": image, "source_id": key, "weight": 1.0}
        return
    height, width, _ = image.shape
    # As evaluation has it. Crops: what lies beyond the image is 0, and left out. Tiles of `preprocess`: it is the
    # darkest value, and the tile weighs as a whole one.
    crops = predictor.trained.crop is not None
    fill = 0 if crops else int(image.min())
    for window in tile_windows(height, width, side, predictor.tile_overlap):
        inside = Window(window.y, window.x, min(side, height - window.y), min(side, width - window.x))
        pixels = cut(image, window, fill)
        yield {"image": pixels, "source_id": key, "weight": 1.0, "tile": inside if crops else window}


def decide(predictor: Predictor, probabilities: np.ndarray, height: int, width: int, cleared: bool) -> Prediction:
    """Returns what was found in an image of height x width pixels, from what `predict_images` yields of it.

    Probabilities, not masks, are stretched to that size.
    """
    rows, columns, _ = probabilities.shape
    probabilities = resize_image(probabilities, height, width)
    postprocess = stretch(predictor.postprocess, height * width / (rows * columns))
    mask = predictor.decide({"probabilities": [probabilities]}, postprocess=postprocess)["prediction"][0]
    return Prediction(probabilities, mask, postprocess, cleared)

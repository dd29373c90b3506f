"""Predictions at the raw images' own size, beside the truth of that size."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from evaluation.examples import read_places
from evaluation.judging import Shown
from evaluation.raw_images import Place, RawImages, RawJoiner
from evaluation.tally import batch_of_one
from imaging.codec import decode_mask
from inference.postprocess import Postprocess, object_splits
from inference.predictor import Batch, Predictor
from records.info import RecordsInfo
from records.schema import Record, decode, decode_pixels
from records.shards import read_record


class OriginalRecords:
    """Records that hold raw images whole, at their own size, by their keys."""

    def __init__(self, records: str, info: RecordsInfo, predictor: Predictor):
        """Takes their folder and description, and what predicts.

        Raises:
          ValueError: they are unlabelled, were resized or cut, or have other classes.
        """
        if not info.labeled:
            raise ValueError(f"original: expected records with masks, found {records} without")
        if info.config["size"] is not None:
            raise ValueError(
                f"original: expected records of the raw images' own size, found {records} of size "
                f"{info.config['size']}; preprocess with --size null"
            )
        for name in ("classes", "overlapping", "channels", "dtype", "intensity"):
            wanted, found = getattr(predictor.trained, name), getattr(info, name)
            if wanted != found:
                raise ValueError(
                    f"original: expected records with {name} {wanted} as the model's, found {records} with {found}; "
                    "choose those of the same raw data"
                )
        self._path, self._info, self._predictor = records, info, predictor
        self._places: pd.DataFrame = read_places(records)

    def read(self, place: Place) -> Record:
        """Returns the record of a raw image.

        Raises:
          ValueError: there is none, or it has another size.
        """
        if place.source not in self._places.index:
            raise ValueError(
                f"original: expected {place.source} in {self._path}, found no such record; preprocess the same raw "
                "data with --size null"
            )
        shard, offset = self._places.loc[place.source]
        record = decode(read_record(shard, int(offset)))
        if (record.height, record.width) != (place.height, place.width):
            raise ValueError(
                f"original: expected {place.source} of {place.height}x{place.width} in {self._path}, found "
                f"{record.height}x{record.width}; preprocess the same raw data with --size null"
            )
        return record

    def batches(self, predicted: Iterable[Batch], images: RawImages) -> Iterator[Batch]:
        """Yields raw images one by one, as `Predictor.masks` yields batches, with truth and details of these records.

        Args:
          predicted: as `Predictor.probabilities` yields it, of other records of the same raw images.
          images: where these lie.
        """
        whole: list[tuple[Place, np.ndarray, Postprocess]] = []

        def take(*image) -> None:
            whole.append(image)

        joiner = RawJoiner(self._predictor, images, take)
        for batch in predicted:
            joiner.add(batch)
            while whole:
                yield self._batch(*whole.pop(0))
        joiner.finish()
        while whole:
            yield self._batch(*whole.pop(0))

    def _batch(self, place: Place, prediction: np.ndarray, postprocess: Postprocess) -> Batch:
        record = self.read(place)
        splits = object_splits(postprocess, self._predictor.trained.scored_classes)
        return {**batch_of_one(record, prediction), "splits": [splits]}

    def show(self, place: Place, prediction: np.ndarray) -> Shown:
        """Returns a raw image with its masks."""
        record = self.read(place)
        return Shown(decode_pixels(record, self._info.dtype), decode_mask(record.mask), prediction)

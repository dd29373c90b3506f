"""What is known of the images of an evaluation: counted batch by batch, put together at the end."""

from typing import NamedTuple

import numpy as np

from evaluation.boundary import Distances
from evaluation.config import ScoreConfig
from evaluation.objects import ObjectCounts
from evaluation.shapes import ImageMasks, Shapes, ShapeTask, judge_images, judge_volume
from evaluation.statistics import Counts, pair_classes, pixel_tables, table_counts
from evaluation.volumes import VolumeCollector, VolumeKey, align_distances, sum_counts
from evaluation.workers import Calls, Pool
from imaging.codec import decode_mask
from records.info import scored_classes
from records.schema import Record

_CALLS_PER_WORKER = 3


class Volumes(NamedTuple):
    """Volumes put together from slices.

    Attributes:
      keys: of each.
      counts: of their pixels.
      distances: in them; None: not judged.
    """

    keys: list[VolumeKey]
    counts: Counts
    distances: Distances | None


class Judged(NamedTuple):
    """All that scores are made of.

    Attributes:
      keys, groups: of the images, in their order.
      counts: of their pixels.
      objects, distances: of their shapes; None: not judged.
      distance_unit: "px" or "mm".
      volumes: None where the images are no slices, or no volume has several of them.
      confusion: int64, all images' pixels by (true class, predicted class): [classes, classes]; where classes overlap
        see `pair_classes`.
      calibration: float64 [classes, bins, 3], see `evaluation.calibration`; None: probabilities are not known.
      cleared: whether a gate has cleared an image; None: there was none, or it judged tiles.
    """

    keys: list[str]
    groups: list[str]
    counts: Counts
    objects: ObjectCounts | None
    distances: Distances | None
    distance_unit: str
    volumes: Volumes | None
    confusion: np.ndarray | None
    calibration: np.ndarray | None = None
    cleared: list[bool] | None = None


def batch_of_one(record: Record, prediction: np.ndarray) -> dict:
    """Returns a labelled record and its predicted mask [height, width] as a batch that `Tally.add` takes."""
    return {
        "source_id": [record.source_id.encode()],
        "group": [record.group.encode()],
        "filename": [record.filename.encode()],
        "slice_index": [-1 if record.slice_index is None else record.slice_index],
        "spacing_mm": [(0.0, 0.0, 0.0) if record.spacing_mm is None else record.spacing_mm],
        "instances": [record.instances or b""],
        "mask": [decode_mask(record.mask)],
        "prediction": [prediction],
    }


class Tally:
    """Counts and shapes of the images seen so far.

    Of an image that was seen only numbers are kept; of a volume its slices until all were seen.
    """

    def __init__(self, classes: list[str], overlapping: bool, config: ScoreConfig, pool: Pool):
        """Takes the classes that masks hold, whether they are bit fields, settings, and what judges shapes."""
        self._classes, self._overlapping = classes, overlapping
        scored = scored_classes(classes, overlapping)
        self._task = ShapeTask(scored, overlapping, config.objects, config.distances)
        self._keys: list[str] = []
        self._slices: list[tuple[VolumeKey, int]] = []
        self._counts: list[Counts] = []
        self._confusion: np.ndarray | int = 0
        self._calibration: np.ndarray | None = None
        self._cleared: list[bool] = []
        self._units: set[str] = set()
        self._shapes = Calls(pool, max(1, _CALLS_PER_WORKER * pool.workers))
        # One at a time, because a volume is large: while it is judged the slices of the next are collected.
        self._volumes = Calls(pool, 1)
        self._measured: list[VolumeKey] = []
        self._collector = VolumeCollector(self._judge_volume)

    def add(self, batch: dict) -> None:
        """Takes a batch as `Predictor.masks` yields it, with the details of `records.schema.parse_details`.

        With "splits" and "found_instances", what `ImageMasks` has of each image, too.

        Raises:
          ValueError: the spacing of some images is known, that of others is not; or slices of a volume come apart.
        """
        # A batch at a time, because confusion matrices of all images would fill the memory.
        tables = pixel_tables(batch["mask"], batch["prediction"], len(self._classes), self._overlapping)
        self._counts.append(table_counts(tables, self._classes, self._overlapping))
        if self._overlapping:
            pairs = zip(batch["mask"], batch["prediction"], strict=True)
            self._confusion += sum(pair_classes(truth, found, len(self._classes)) for truth, found in pairs)
        else:
            self._confusion += tables.sum(0)
        if "calibration" in batch:
            bins = batch["calibration"].sum(0)
            self._calibration = bins if self._calibration is None else self._calibration + bins
        if np.ndim(batch.get("cleared", 0)) == 1:  # of tiles there is a list for each image
            self._cleared += map(bool, batch["cleared"])
        self._keys += [key.decode() for key in batch["source_id"]]
        places = [
            (VolumeKey(group.decode(), filename.decode()), int(index))
            for group, filename, index in zip(batch["group"], batch["filename"], batch["slice_index"], strict=True)
        ]
        self._slices += places
        if not (self._task.objects or self._task.distances):
            return
        columns = [batch[name] for name in ("mask", "prediction", "instances")]
        spacings = [tuple(map(float, spacing)) if all(spacing) else None for spacing in batch["spacing_mm"]]
        known = [batch.get(name, [None] * len(places)) for name in ("splits", "found_instances")]
        images = [ImageMasks(*image) for image in zip(*columns, spacings, *known, strict=True)]
        self._shapes.call(judge_images, self._task, images)
        if self._task.distances:
            self._check_units(images)
            for (key, index), image in zip(places, images, strict=True):
                if index >= 0:
                    self._collector.add(key, index, image)

    def _check_units(self, images: list[ImageMasks]) -> None:
        self._units |= {"px" if image.spacing_mm is None else "mm" for image in images}
        if len(self._units) > 1:
            raise ValueError(
                "image/spacing_mm: expected it in all records or in none, found some with and some without, near "
                f"{self._keys[-1]!r}; leave out distances with --distances false"
            )

    def _judge_volume(self, key: VolumeKey, slices: dict[int, ImageMasks]) -> None:
        self._measured.append(key)
        self._volumes.call(judge_volume, self._task, slices)

    def finish(self) -> Judged:
        """Returns what all batches together hold; waits for the shapes that are still judged."""
        self._collector.finish()
        counts = Counts(*map(np.concatenate, zip(*self._counts, strict=True)))
        shapes = [shape for result in self._shapes.results() for shape in result]
        return Judged(
            keys=self._keys,
            groups=[key.group for key, _ in self._slices],
            counts=counts,
            objects=_stack(ObjectCounts, shapes, "objects") if self._task.objects else None,
            distances=_stack(Distances, shapes, "distances") if self._task.distances else None,
            distance_unit=next(iter(self._units), "px"),
            volumes=self._finish_volumes(counts),
            confusion=self._confusion,
            calibration=self._calibration,
            cleared=self._cleared or None,
        )

    def _finish_volumes(self, counts: Counts) -> Volumes | None:
        keys = [key for key, _ in self._slices]
        is_volume = all(index >= 0 for _, index in self._slices) and len(set(self._slices)) > len(set(keys))
        if not is_volume:
            return None
        names, summed = sum_counts(counts, keys)
        distances = None
        if self._task.distances:
            measured = dict(zip(self._measured, self._volumes.results(), strict=True))
            distances = align_distances(names, measured, summed.tp.shape[1])
        return Volumes(names, summed, distances)


def _stack(kind: type, shapes: list[Shapes], name: str):
    """Returns all images' counts or distances as one, with an axis of images."""
    return kind(*(np.stack(column) for column in zip(*(getattr(shape, name) for shape in shapes), strict=True)))

"""A TIFF larger than memory → what was found in it, in files. Memory holds some strips, and grows with the width only.

Tiles are read ahead, predicted in full batches, and joined row by row as `imaging.restore.Restored` joins them. Masks
lie on the disk while they are cleaned.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from imaging.georeference import Georeference
from imaging.painting import colour
from imaging.parts import find_parts
from imaging.raster import Raster, bounded_cache
from imaging.restore import restore_rows
from imaging.tiling import Window, count_tiles
from inference.config import OutputKind
from inference.large.cleaning import clean_rows
from inference.large.files import PREVIEW_SIDE, Preview, TiffRows, unfinished, write_contours
from inference.large.rows import RowFile, even_strips
from inference.large.tiles import TileBatches, check_large
from inference.outputs.found import place
from inference.postprocess import Steps, class_area
from inference.predictor import Predictor
from records.schema import class_areas


def predict_large(
    source_path: str | Path,
    name: str,
    predictor: Predictor,
    folder: Path,
    kinds: Sequence[OutputKind],
    batch_size: int,
    report: Callable[[int, int], None],
) -> dict:
    """Predicts a TIFF of any size and writes what was found; files are complete, or not there at all.

    masks/<name>.tif, uint8 class numbers, of overlapping classes <name>.<class>.tif of 0 and 1;
    probabilities/<name>.<class>.tif, uint16, 65535 for certain; contours/<name>.geojson, see `write_contours`;
    overlays/<name>.png of at most 2048 pixels a side. TIFFs lie where the image lies on the earth.

    Args:
      source_path: the TIFF.
      name: of what is written.
      predictor: of a model that knows the raw images' own pixels.
      folder: where.
      kinds: what.
      batch_size: tiles at once.
      report: gets how many tiles are done, and of how many.

    Returns:
      The image's row of predictions.csv, as `inference.outputs.table.Summary` has them; area_m2 where it is known.

    Raises:
      ValueError: the file is damaged, or of a kind that is not read; the model takes no parts of images.
      OSError: the disk is full, or the like.
    """
    path, folder = Path(source_path), Path(folder)
    with bounded_cache(), Raster(path) as raster:
        check_large(predictor.trained, raster.dtype)
        image = raster.preview(PREVIEW_SIDE) if "overlay" in kinds else None
        height, width, georeference = raster.height, raster.width, raster.georeference
    folder.mkdir(parents=True, exist_ok=True)
    dtype = predictor.trained.labels.mask_dtype.as_numpy_dtype
    large = _Large(predictor, name, folder, kinds, height, width, georeference)
    with bounded_cache(), RowFile(folder, height, width, dtype) as mask:
        tiles = _Tiles(TileBatches(path, predictor.trained, predictor.tile_overlap, batch_size), large, report)
        with large.probability_files() as files:
            strips = restore_rows(tiles.parts(), height, width, predictor.trained.labels.outputs, predictor.nothing)
            for y, strip in even_strips(strips):
                mask.write(y, large.decide(strip))
                for file, output in files:
                    file.write(y, np.rint(strip[..., output] * 65535).astype(np.uint16))
        clean_rows(mask, predictor.postprocess, predictor.trained.overlapping)
        pixels, preview = large.write_masks(mask)
        objects = large.count_objects(mask)
    if image is not None:
        with unfinished(place(folder / "overlays", name, ".png")) as (part,):
            part.write_bytes(preview.overlay(image, predictor.trained.stored_window))
    row = {"name": name, "file": str(path), "height": height, "width": width, "cleared": tiles.cleared}
    return row | large.numbers(pixels, objects)


class _Tiles:
    """Predicted tiles.

    Attributes:
      cleared: whether a gate has found nothing in any.
    """

    def __init__(self, batches: TileBatches, large: "_Large", report: Callable[[int, int], None]):
        self._batches, self._large, self._report = batches, large, report
        self.cleared = large.predictor.gate is not None

    def parts(self) -> Iterator[tuple[np.ndarray | None, Window]]:
        """Yields what `restore_rows` takes; tiles that a gate has cleared say nothing where others saw more.

        Raises:
          ValueError, OSError: the file cannot be read to its end.
        """
        predictor, done = self._large.predictor, 0
        for batch in predictor.tile_probabilities(self._batches.dataset):
            cleared = batch.get("cleared", np.zeros(len(batch["tile"]), bool))
            self.cleared &= bool(cleared.all())
            for probabilities, tile, nothing in zip(batch["probabilities"], batch["tile"], cleared, strict=True):
                window = Window(*map(int, tile))
                yield None if nothing else probabilities[: window.height, : window.width], window
            done += len(cleared)
            self._report(done, self._large.num_tiles)
        if self._batches.error:
            raise self._batches.error


@dataclasses.dataclass(frozen=True)
class _Large:
    """A large image, and what is written of it."""

    predictor: Predictor
    name: str
    folder: Path
    kinds: Sequence[OutputKind]
    height: int
    width: int
    georeference: Georeference | None

    @property
    def num_tiles(self) -> int:
        return count_tiles(self.height, self.width, self.predictor.trained.tile, self.predictor.tile_overlap)

    @property
    def _classes(self) -> dict[int, str]:
        return self.predictor.trained.scored_classes

    @property
    def _overlapping(self) -> bool:
        return self.predictor.trained.overlapping

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the mask of rows, before it is cleaned."""
        plain = {number: Steps(steps.threshold) for number, steps in self.predictor.postprocess.items()}
        return self.predictor.decide({"probabilities": [probabilities]}, postprocess=plain)["prediction"][0]

    @contextlib.contextmanager
    def probability_files(self) -> Iterator[list[tuple[TiffRows, int]]]:
        """Yields for each class that is asked for (its file, the output with its probability)."""
        classes = self._classes if "probability" in self.kinds else {}
        several = self.predictor.trained.labels.outputs > 1
        paths = [place(self.folder / "probabilities", self.name, f".{known}.tif") for known in classes.values()]
        with unfinished(*paths) as parts, contextlib.ExitStack() as stack:
            files = [stack.enter_context(self._tiff(part, "uint16")) for part in parts]
            yield list(zip(files, [number if several else 0 for number in classes], strict=True))

    def _tiff(self, path: Path, dtype: str, palette: list[tuple[int, int, int]] | None = None) -> TiffRows:
        return TiffRows(path, self.height, self.width, dtype, self.georeference, palette)

    def write_masks(self, mask: RowFile) -> tuple[np.ndarray, Preview]:
        """Writes masks and contours; returns (pixels of each class in each row, int64 [classes, height], preview)."""
        preview = Preview(self.height, self.width, len(self._classes))
        pixels = np.zeros((len(self._classes), self.height), np.int64)
        masks = self._mask_files()
        with unfinished(*(path for path, _, _ in masks)) as parts:
            with contextlib.ExitStack() as stack:
                files = [
                    stack.enter_context(self._tiff(part, "uint8", palette))
                    for part, (_, _, palette) in zip(parts, masks, strict=True)
                ]
                for y, rows in mask.strips():
                    areas = class_areas(rows, list(self._classes), self._overlapping)
                    pixels[:, y : y + len(rows)] = np.count_nonzero(areas, axis=2)
                    preview.add(y, areas)
                    for index, file in enumerate(files):
                        file.write(y, areas[index].astype(np.uint8) if self._overlapping else rows)
            if "contours" in self.kinds:
                self._write_contours([(part, names) for part, (_, names, _) in zip(parts, masks, strict=True)])
            if "mask" not in self.kinds:
                for part in parts:
                    part.unlink()
        return pixels, preview

    def _write_contours(self, masks: list[tuple[Path, dict[int, str]]]) -> None:
        with unfinished(place(self.folder / "contours", self.name, ".geojson")) as (part,):
            write_contours(part, masks, self.georeference, background=self._overlapping or 0 not in self._classes)

    def _mask_files(self) -> list[tuple[Path, dict[int, str], list[tuple[int, int, int]]]]:
        """Returns (path, names of its values, their colours) of each file that is needed."""
        if not {"mask", "contours"} & set(self.kinds):
            return []
        folder, black = self.folder / ("masks" if "mask" in self.kinds else "contours"), [(0, 0, 0)]
        if self._overlapping:
            names = list(self._classes.values())
            return [
                (place(folder, self.name, f".{known}.tif"), {1: known}, [*black, colour(index)])
                for index, known in enumerate(names)
            ]
        colours = [colour(index) for index in range(len(self.predictor.trained.classes))]
        palette = colours if 0 in self._classes else black + colours
        return [(place(folder, self.name, ".tif"), self._classes, palette)]

    def count_objects(self, mask: RowFile) -> list[int]:
        """Returns how many connected parts each class has (8 neighbours)."""
        counts = []
        for number in self._classes:
            areas = (class_area(rows, number, self._overlapping) for _, rows in mask.strips())
            counts.append(len(find_parts(areas, 8).sizes))
        return counts

    def numbers(self, pixels: np.ndarray, objects: list[int]) -> dict:
        """Returns the columns of the classes."""
        areas = self.georeference.row_areas_m2(self.height, self.width) if self.georeference else None
        row = {}
        for name, of_rows, count in zip(self._classes.values(), pixels, objects, strict=True):
            behind = f"/{name}" if len(self._classes) > 1 else ""
            row |= {f"objects{behind}": count, f"pixels{behind}": int(of_rows.sum())}
            if areas is not None:
                row[f"area_m2{behind}"] = float(of_rows @ areas)
        return row

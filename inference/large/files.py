"""What is written of a large image: masks and probabilities as GeoTIFF, outlines, a small overlay, a row of numbers."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.features import shapes
from rasterio.windows import Window as RasterWindow

from imaging.codec import encode_png
from imaging.georeference import Georeference, ring_area
from imaging.painting import display_image, paint_classes
from imaging.raster import preview_size
from inference.large.rows import STRIP_ROWS

PREVIEW_SIDE = 2048
"""Longest side of an overlay in pixels."""

_FEATURES_AT_ONCE = 1000


@contextlib.contextmanager
def unfinished(*paths: Path) -> Iterator[list[Path]]:
    """Yields paths to write to; what is there in the end gets its own name or, where an error ended it, goes."""
    parts = [path.with_name(path.name + ".part") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            if part.exists():
                part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


class TiffRows:
    """A GeoTIFF of one band that is written strip by strip, in tiles, compressed. A context."""

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        dtype: str,
        georeference: Georeference | None,
        palette: Sequence[tuple[int, int, int]] | None = None,
    ):
        """Takes where, what, and the colours (RGB) in which uint8 values are shown; None: grey."""
        place = {"crs": georeference.crs, "transform": georeference.transform} if georeference else {}
        layout = {"tiled": True, "blockxsize": STRIP_ROWS, "blockysize": STRIP_ROWS, "bigtiff": "if_safer"}
        shape = {"height": height, "width": width, "count": 1, "dtype": dtype}
        self._file = rasterio.open(path, "w", driver="GTiff", compress="deflate", **layout, **shape, **place)
        if palette:
            self._file.colorinterp = [ColorInterp.palette]
            self._file.write_colormap(1, {value: (*rgb, 255) for value, rgb in enumerate(palette)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, y: int, rows: np.ndarray) -> None:
        """Writes rows [rows, width], as `even_strips` gives them."""
        self._file.write(rows, 1, window=RasterWindow(0, y, self._file.width, len(rows)))


class Preview:
    """Areas of classes made so small that people can look at them: a pixel is in where any of its pixels is."""

    def __init__(self, height: int, width: int, num_classes: int):
        """Takes the image's size."""
        self.height, self.width = preview_size(height, width, PREVIEW_SIDE)
        self.areas = np.zeros((num_classes, self.height, self.width), bool)
        self._rows = np.arange(height) * self.height // height
        self._columns = -(-np.arange(self.width) * width // self.width)  # the first of each

    def add(self, y: int, areas: Sequence[np.ndarray]) -> None:
        """Takes the areas of the classes in a strip, bool [rows, width] each."""
        for whole, area in zip(self.areas, areas, strict=True):
            narrow = np.logical_or.reduceat(area, self._columns, axis=1)
            np.logical_or.at(whole, self._rows[y : y + len(area)], narrow)

    def overlay(self, image: np.ndarray, window: tuple[float, float] | None) -> bytes:
        """Returns the PNG of the image, of the preview's size, with the classes painted over it."""
        return encode_png(paint_classes(display_image(image, window), self.areas))


def write_contours(
    path: Path, masks: Iterable[tuple[Path, dict[int, str]]], georeference: Georeference | None, background: bool
) -> None:
    """Writes the outlines of classes as GeoJSON: a feature for each connected part.

    Parts that touch at a corner alone are features of their own. Coordinates are longitude and latitude or, without
    degrees, pixels: (0, 0) the upper left corner of the image, x to the right and y down.

    Args:
      path: where.
      masks: TIFFs as `TiffRows` writes them, and the names of their values.
      georeference: of the image.
      background: whether 0 is no class.
    """
    count = 0
    with path.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for mask, names in masks:
            # Without its georeference, in which the outlines would come: their pixels are counted.
            with rasterio.open(mask, driver="GTiff", GEOREF_SOURCES="NONE") as tiff:
                band = rasterio.band(tiff, 1)
                found = shapes(band, mask=band if background else None, connectivity=4)
                named = ((polygon, names[int(value)]) for polygon, value in found if int(value) in names)
                while some := list(itertools.islice(named, _FEATURES_AT_ONCE)):
                    for feature in _features(some, georeference):
                        file.write("\n," if count else "\n")
                        file.write(json.dumps(feature))
                        count += 1
        file.write("\n]}\n")


def _features(named: list[tuple[dict, str]], georeference: Georeference | None) -> Iterator[dict]:
    polygons = [polygon for polygon, _ in named]
    geometries = georeference.geometries(polygons) if georeference and georeference.has_degrees else polygons
    for (polygon, name), geometry in zip(named, geometries, strict=True):
        outer, *holes = (abs(ring_area(ring)) for ring in polygon["coordinates"])
        properties = {"class": name, "pixels": round(outer - sum(holes))}
        yield {"type": "Feature", "properties": properties, "geometry": geometry}

"""TIFFs by GDAL: what their headers say, all of their pixels or, where they are larger than memory, windows of them.

Of what GDAL reads as other pixels than people see (palettes, 0 for white, CMYK, turned rows) nothing is read here;
OpenCV reads some of it (`imaging.codec`). GDAL decodes whole blocks and keeps the last, so what is read from top to
bottom is decoded once.
"""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, TiffImagePlugin
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterWindow

from imaging.codec import MAX_PIXELS, TIFF_SIGNATURES
from imaging.georeference import Georeference

MOST_BLOCK_BYTES = 2**28
"""Of what a file stores as one piece, which is decoded at once."""

_CACHE_BYTES = 2**28

_ORIENTATION = 274  # TIFF 6.0's tag

# Most pictures lie nowhere on the earth.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


class OtherKindError(ValueError):
    """The TIFF may be sound, but its pixels are of a kind that is not read here."""


class Raster:
    """An open TIFF. A context, and of one thread.

    Attributes:
      height, width: pixels.
      channels: 1 or 3.
      dtype: "uint8" or "uint16".
    """

    def __init__(self, file: Path | bytes):
        """Opens a file, or the bytes of one.

        Raises:
          ValueError: it is damaged, or has several pages.
          OtherKindError: see there.
        """
        orientation = _orientation(file)
        self._opened = _opened(file)
        try:
            self._file = self._opened.__enter__()
        except CRSError as error:
            raise OtherKindError(f"expected coordinates that are known, found others: {error}") from error
        except RasterioIOError as error:
            raise ValueError(f"the TIFF is damaged: {error}") from error
        try:
            _check(self._file, orientation)
        except ValueError:
            self._opened.__exit__(None, None, None)
            raise
        self.height, self.width, self.dtype = self._file.height, self._file.width, self._file.dtypes[0]
        self.channels = 3 if self._file.count >= 3 else 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.__exit__(None, None, None)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where it lies on the earth; None: it does not say."""
        return Georeference.of(self._file)

    def read(self, y: int, rows: int) -> np.ndarray:
        """Returns whole rows, [rows, width, channels].

        Raises:
          ValueError: the file is damaged there.
        """
        return self._read(window=RasterWindow(0, y, self.width, rows))

    def strips(self, rows: int) -> Iterator[np.ndarray]:
        """Yields all rows from the top, so many at once."""
        for y in range(0, self.height, rows):
            yield self.read(y, min(rows, self.height - y))

    def preview(self, most: int) -> np.ndarray:
        """Returns the whole image with at most so many pixels a side, [height, width, channels], from averages."""
        height, width = preview_size(self.height, self.width, most)
        return self._read(out_shape=(self.channels, height, width), resampling=Resampling.average)

    def bands(self) -> np.ndarray:
        """Returns the whole image with its alpha, if it has one: [height, width, 1 to 4].

        Raises:
          ValueError: the file is damaged.
        """
        return self._read(indexes=list(range(1, self._file.count + 1)))

    def _read(self, **what) -> np.ndarray:
        try:
            planes = self._file.read(**({"indexes": list(range(1, self.channels + 1))} | what))
        except RasterioIOError as error:
            raise ValueError(f"the TIFF is damaged: {error.__cause__ or error}") from error
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


def decode_tiff(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a TIFF's bytes, see `Raster.bands`; None: they are of another kind, see `OtherKindError`.

    Raises:
      ValueError: the file is damaged, or has several pages.
    """
    try:
        with Raster(data) as raster:
            if raster.height * raster.width > MAX_PIXELS:
                found = f"{raster.height}x{raster.width}"
                raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {found}; cut the image into parts")
            return raster.bands()
    except OtherKindError:
        return None


def tiff_size(data: bytes) -> tuple[int, int]:
    """Returns (height, width) of a TIFF's one page, or of its blocks where they are larger, as its decoder has them.

    Raises:
      ValueError: it is damaged, or has several pages.
    """
    try:
        with _opened(data) as file:
            _check_pages(file)
            rows, columns = file.block_shapes[0]
            return max(file.height, rows), max(file.width, columns)
    except (RasterioIOError, CRSError) as error:
        raise ValueError(f"the TIFF is damaged: {error}") from error


def bounded_cache() -> rasterio.Env:
    """Returns a context in which GDAL keeps few decoded blocks; its own limit is a share of the machine's memory."""
    return rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES)


def preview_size(height: int, width: int, most: int) -> tuple[int, int]:
    """Returns (height, width) of an image made smaller until no side is longer than `most`; never larger."""
    scale = min(1, most / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def count_pixels(file: Path | bytes) -> int:
    """Returns how many pixels an image file has, by its header; 0: the header is damaged, as decoding will tell."""
    try:
        if is_tiff(file):
            with _opened(file) as tiff:
                return tiff.height * tiff.width
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file)) as image:
            return image.size[0] * image.size[1]
    except (OSError, SyntaxError, ValueError):
        return 0


def is_tiff(file: Path | bytes) -> bool:
    """Returns whether an image file is a TIFF, by its first bytes."""
    if isinstance(file, bytes):
        return file.startswith(TIFF_SIGNATURES)
    with file.open("rb") as opened:
        return opened.read(4) in TIFF_SIGNATURES


def read_georeference(data: bytes) -> Georeference | None:
    """Returns where an image file lies on the earth; None: it does not say, or is no TIFF."""
    if not is_tiff(data):
        return None
    try:
        with _opened(data) as file:
            return Georeference.of(file)
    except (RasterioIOError, CRSError):
        return None


@contextlib.contextmanager
def _opened(file: Path | bytes) -> Iterator[rasterio.DatasetReader]:
    """Yields an open TIFF. (As a context a dataset would belong to the thread that enters it.)"""
    if not file:
        raise RasterioIOError("the file is empty")
    memory = None if isinstance(file, Path) else MemoryFile(file)
    try:
        opened = memory.open(driver="GTiff") if memory else rasterio.open(file, driver="GTiff")
        try:
            yield opened
        finally:
            opened.close()
    finally:
        if memory:
            memory.close()


def _check(file: rasterio.DatasetReader, orientation: int) -> None:
    """Raises ValueError for several pages, OtherKindError for pixels that are not simply grey or colours."""
    _check_pages(file)
    if len(set(file.dtypes)) > 1 or file.dtypes[0] not in ("uint8", "uint16"):
        raise OtherKindError(f"expected 8 or 16 bit pixels, found {', '.join(sorted(set(file.dtypes)))}; convert it")
    colours, structure = file.colorinterp, file.tags(ns="IMAGE_STRUCTURE")
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits or "MINISWHITE" in structure:
        found = f"{bits} bits a pixel" if bits else "a TIFF in which 0 is white"
        raise OtherKindError(f"expected 8 or 16 bit pixels of which 0 is black, found {found}; convert it")
    cmyk = structure.get("SOURCE_COLOR_SPACE") == "CMYK" or ColorInterp.cyan in colours
    is_coded = cmyk or ColorInterp.palette in colours
    grey_alpha = file.count == 2 and colours[1] == ColorInterp.alpha
    if not (file.count in (1, 3, 4) or grey_alpha) or is_coded:
        found = "CMYK" if cmyk else f"{file.count} bands ({', '.join(colour.name for colour in colours)})"
        raise OtherKindError(f"expected grey or RGB, with or without alpha, found {found}; convert it")
    if orientation != 1:
        raise OtherKindError(
            f"expected a TIFF whose first row is its upper one, found orientation {orientation}; turn it"
        )
    rows, columns = file.block_shapes[0]
    pieces = 1 if structure.get("INTERLEAVE") == "BAND" else file.count
    if (size := rows * columns * pieces * np.dtype(file.dtypes[0]).itemsize) > MOST_BLOCK_BYTES:
        raise OtherKindError(
            f"expected tiles or strips of at most {MOST_BLOCK_BYTES >> 20} MiB, found {rows}x{columns} pixels of "
            f"{size >> 20} MiB; rewrite it in tiles (gdal_translate -co TILED=YES)"
        )


def _check_pages(file: rasterio.DatasetReader) -> None:
    if file.subdatasets:
        raise ValueError(f"expected one image, found a TIFF of {len(file.subdatasets)} pages")


def _orientation(tiff: Path | bytes) -> int:
    """Returns what the TIFF says of where its first row and column lie, 1: above and left. GDAL ignores it."""
    with io.BytesIO(tiff) if isinstance(tiff, bytes) else tiff.open("rb") as file:
        header = file.read(8)
        header += file.read(8) if header[2:4] in (b"+\0", b"\0+") else b""
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return tags.get(_ORIENTATION, 1)
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
            raise ValueError(f"the TIFF is damaged: {error}") from error

"""Files → frames: a picture, the slices of a scan, the images of records."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imaging.codec import TIFF_SIGNATURES, decode_image
from imaging.volume import Geometry, axial_slice, read_scan
from inference.images import prepare
from inference.inputs.sources import Source
from inference.run import TrainedModel, check_fits
from records.info import read_info
from records.schema import decode, decode_pixels
from records.shards import read_shard

if TYPE_CHECKING:
    from imaging.georeference import Georeference

_READERS = 4
"""Files that are read at a time, ahead of the model."""

_SCAN = 2
"""Pictures that a scan counts as there, because it is large."""

DAMAGE = (ValueError, OSError, MemoryError)
"""What goes wrong with one file, and leaves the others alone."""


class Scan(NamedTuple):
    """A volume: where its voxels lie, and how many axial slices it has."""

    geometry: Geometry
    num_slices: int


class Frame(NamedTuple):
    """What is predicted at once.

    Attributes:
      name: of what is written for it; all slices of a scan have one.
      where: its file, for people; of records the folder, a colon and the key.
      image: as stored: uint8 or uint16 [height, width, 1 or 3]; of a slice HU + 32768.
      pixels: what the model sees of it, see `prepare`.
      spacing_mm: millimetres between rows, columns and slices of the image; None: not known.
      scan: the volume whose slice it is; None: it is none.
      index: of the slice, the lowest being 0; else 0.
      georeference: where a picture lies on the earth; None: it does not say.
    """

    name: str
    where: str
    image: np.ndarray
    pixels: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None
    scan: Scan | None = None
    index: int = 0
    georeference: "Georeference | None" = None


def read_frames(
    sources: Iterable[Source], trained: TrainedModel, fail: Callable[[Source, str], None]
) -> Iterator[Frame]:
    """Yields the frames of all sources, in their order; some files are read ahead.

    Args:
      sources: as `find_sources` returns them.
      trained: the model.
      fail: gets each source that cannot be read, or does not fit the model, and why; the rest goes on. Of records each
        shard or record is a source of its own there.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        ahead: deque[tuple[Source, Future]] = deque()
        for source in sources:
            ahead.append((source, readers.submit(_open, source, trained, fail)))
            yield from _finish(ahead, _READERS, fail)
        yield from _finish(ahead, 0, fail)


def describe_error(error: Exception) -> str:
    """Returns what an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _finish(ahead: deque, left: int, fail: Callable[[Source, str], None]) -> Iterator[Frame]:
    """Yields the frames of the sources that were opened first, until no more than `left` wait."""
    while sum(_SCAN if source.kind == "scan" else 1 for source, _ in ahead) > left:
        source, opened = ahead.popleft()
        try:
            yield from opened.result()
        except DAMAGE as error:
            fail(source, describe_error(error))


def _open(source: Source, trained: TrainedModel, fail: Callable[[Source, str], None]) -> Iterator[Frame]:
    """Returns an iterator of a file's frames."""
    if source.kind == "records":
        return _record_frames(source, trained, fail)
    unit = trained.intensity["unit"] if trained.intensity else None
    if source.kind == "scan":
        if trained.channels != 1 or trained.dtype != "uint16" or unit not in ("HU", None):
            known = f"{trained.dtype} images of {trained.channels} channels"
            raise ValueError(f"expected a picture: the model knows {known}, found a CT scan")
        volume, geometry = read_scan(source.read())
        return _slices(source, volume, geometry, trained)
    if unit == "HU":
        raise ValueError("expected a CT scan (.nii, .nii.gz): the model knows Hounsfield units, found a picture")
    data = source.read()
    image = decode_image(data)
    frame = Frame(source.name, source.where, image, prepare(image, trained))
    if data.startswith(TIFF_SIGNATURES):
        from imaging.raster import read_georeference  # GDAL is loaded for TIFFs alone

        frame = frame._replace(georeference=read_georeference(data))
    return iter([frame])


def _slices(source: Source, volume: np.ndarray, geometry: Geometry, trained: TrainedModel) -> Iterator[Frame]:
    """Yields the axial slices of a volume int16 [x, y, z] in RAS+, lowest first."""
    scan = Scan(geometry, volume.shape[2])
    for index in range(scan.num_slices):
        stored = (axial_slice(volume, index).astype(np.int32) + 32768).astype(np.uint16)[:, :, np.newaxis]
        yield Frame(source.name, source.where, stored, prepare(stored, trained), geometry.spacing_mm, scan, index)


def _record_frames(source: Source, trained: TrainedModel, fail: Callable[[Source, str], None]) -> Iterator[Frame]:
    """Yields the images of records, at the records' size: they were prepared when they were made.

    Raises:
      ValueError: they were made otherwise than those that the model was trained on.
    """
    info = read_info(source.where)
    check_fits(trained, info, "the run", source.where)
    if trained.tile is None and (info.height, info.width) != trained.size:
        wanted, found = (f"{height}x{width}" for height, width in (trained.size, (info.height, info.width)))
        raise ValueError(
            f"expected records of {wanted}, as those the run was trained on, found {found}; give their raw images"
        )
    for split in (name for name, of_split in info.splits.items() if of_split.num_examples):
        for file in info.shard_files(source.where, [split]):
            try:
                for serialized in read_shard(file.path):
                    yield from _record_frame(source, serialized, info.dtype, fail)
            except DAMAGE as error:
                fail(source._replace(where=file.path), describe_error(error))


def _record_frame(source: Source, serialized: bytes, dtype: str, fail: Callable[[Source, str], None]) -> list[Frame]:
    """Returns the image of a record; none, and tells, where it is damaged."""
    record = decode(serialized)
    where, spacing_mm = f"{source.where}:{record.source_id}", record.spacing_mm
    if spacing_mm is not None:  # of the raw image, which may have been stretched
        down, across = record.crop[2] / record.height, record.crop[3] / record.width
        spacing_mm = (spacing_mm[0] * down, spacing_mm[1] * across, spacing_mm[2])
    try:
        image = decode_pixels(record, dtype)
    except DAMAGE as error:
        fail(source._replace(where=where), describe_error(error))
        return []
    return [Frame(f"{source.name}/{record.source_id}", where, image, image, spacing_mm)]

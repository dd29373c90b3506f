"""Files → frames: a picture, the slices of a scan, the images of records."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from imaging.codec import decode_image
from imaging.volume import Geometry, axial_slice, read_scan
from inference.images import prepare
from inference.inputs.sources import Source
from inference.run import TrainedModel, check_fits
from records.info import read_info
from records.schema import decode, decode_pixels
from records.shards import read_shard

_READERS = 4
"""Files that are read at a time, ahead of the model; volumes are large."""


class Scan(NamedTuple):
    """A volume: where its voxels lie, and how many axial slices it has."""

    geometry: Geometry
    num_slices: int


class Frame(NamedTuple):
    """What is predicted at once.

    Attributes:
      name: of what is written for it; all slices of a scan have one.
      where: its file, for people.
      image: as stored: uint8 or uint16 [height, width, 1 or 3]; of a slice HU + 32768.
      pixels: what the model sees of it, see `prepare`.
      spacing_mm: millimetres between rows, columns and slices; None: not known.
      scan: the volume whose slice it is; None: it is none.
      index: of the slice, the lowest being 0; else 0.
    """

    name: str
    where: str
    image: np.ndarray
    pixels: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None
    scan: Scan | None = None
    index: int = 0


def read_frames(
    sources: Iterable[Source], trained: TrainedModel, fail: Callable[[Source, str], None]
) -> Iterator[Frame]:
    """Yields the frames of all sources, in their order; some files are read ahead.

    Args:
      sources: as `find_sources` returns them.
      trained: the model.
      fail: gets each source that cannot be read, or does not fit the model, and why; the rest goes on.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        ahead: deque[tuple[Source, Future]] = deque()
        for source in sources:
            if source.kind == "records":
                yield from _finish(ahead, 0, fail)
                yield from _record_frames(source, trained)
                continue
            ahead.append((source, readers.submit(_open, source, trained)))
            yield from _finish(ahead, _READERS, fail)
        yield from _finish(ahead, 0, fail)


def _finish(ahead: deque, left: int, fail: Callable[[Source, str], None]) -> Iterator[Frame]:
    """Yields the frames of the sources that were opened first, until no more than `left` wait."""
    while len(ahead) > left:
        source, opened = ahead.popleft()
        try:
            frames = opened.result()
        except (ValueError, OSError) as error:
            fail(source, " ".join(str(error).split()))
            continue
        yield from frames


def _open(source: Source, trained: TrainedModel) -> Iterator[Frame]:
    """Returns an iterator of a file's frames; all that can go wrong has gone wrong before."""
    is_ct = trained.intensity is not None and trained.intensity["unit"] == "HU"
    if source.kind == "scan":
        if trained.channels != 1 or trained.dtype != "uint16":
            known = f"{trained.dtype} images of {trained.channels} channels"
            raise ValueError(f"expected a picture: the model knows {known}, found a CT scan")
        volume, geometry = read_scan(source.read())
        return _slices(source, volume, geometry, trained)
    if is_ct:
        raise ValueError("expected a CT scan (.nii, .nii.gz): the model knows Hounsfield units, found a picture")
    image = decode_image(source.read())
    return iter([Frame(source.name, source.where, image, prepare(image, trained))])


def _slices(source: Source, volume: np.ndarray, geometry: Geometry, trained: TrainedModel) -> Iterator[Frame]:
    """Yields the axial slices of a volume int16 [x, y, z] in RAS+, lowest first."""
    scan = Scan(geometry, volume.shape[2])
    for index in range(scan.num_slices):
        stored = (axial_slice(volume, index).astype(np.int32) + 32768).astype(np.uint16)[:, :, np.newaxis]
        yield Frame(source.name, source.where, stored, prepare(stored, trained), geometry.spacing_mm, scan, index)


def _record_frames(source: Source, trained: TrainedModel) -> Iterator[Frame]:
    """Yields the images of records, at the records' size: they were prepared when they were made.

    Raises:
      ValueError: they were made otherwise than those that the model was trained on.
    """
    info = read_info(source.where)
    check_fits(trained, info, "the run", source.where)
    for split in info.splits:
        for file in info.shard_files(source.where, [split]):
            for serialized in read_shard(file.path):
                record = decode(serialized)
                image = decode_pixels(record, info.dtype)
                yield Frame(f"{source.name}/{record.source_id}", source.where, image, image, record.spacing_mm)

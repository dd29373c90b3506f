"""The same examples in the form that each loader reads: records, single files, tar shards, MDS shards.

All forms hold the very bytes that preprocess wrote into the records.
"""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from imaging.codec import encode_png
from records.files import join
from records.info import RecordsInfo, read_info
from records.schema import Record, decode
from records.shards import read_shard

Coding = Literal["jpeg", "png", "raw"]

RECORDS, IMAGES, MASKS, TARS, MDS = "records", "images", "masks", "tars", "mds"
"""Folders of `write_layouts`: shards of ours, single files twice, shards of WebDataset and of MosaicML streaming."""

JPEG_QUALITY = 95

_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "raw": ".raw"}
_TARS = 16  # several for each worker, as WebDataset wants them
_LEAVES = 200


def make_photograph(generator: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image that compresses as a photograph does, and the mask of half of what lies in it.

    Opaque leaves of all sizes, one over the other, have the edges of natural images (A. Lee, D. Mumford, J. Huang,
    "Occlusion Models for Natural Images", 2001); noise of many octaves gives their surfaces. As JPEG of quality 95
    256x256 pixels take 28 KiB (street scenes of CamVid at that size: 27), as PNG 95 (103).

    Returns:
      image: uint8 RGB [size, size, 3]. mask: uint8 [size, size] in {0, 255}.
    """
    light = generator.uniform(60, 190, 3)
    image = np.full((size, size, 3), light, np.float32)
    mask = np.zeros((size, size), np.uint8)
    for leaf in range(_LEAVES):
        radius = size / 3 / (1 + generator.exponential(5))
        axes = (1 + radius * generator.uniform(0.5, 1.5, 2)).astype(int).tolist()
        color = light + generator.normal(0, 35) + generator.normal(0, 15, 3)
        ellipse = (generator.integers(0, size, 2).tolist(), axes, generator.uniform(0, 180), 0, 360)
        cv2.ellipse(image, *ellipse, color.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(mask, *ellipse, 255 * (leaf % 2), -1)
    for cells in 2 ** np.arange(1, size.bit_length()):
        noise = generator.standard_normal((cells, cells), np.float32) * 70 / cells**0.6
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)[:, :, np.newaxis]
    return image.clip(0, 255).astype(np.uint8), mask


def write_photographs(folder: str, images: int, size: int, cores: int) -> None:
    """Writes images/*.png and masks/*.png of the same stem, as the layout `folder` has them."""
    for name in (IMAGES, MASKS):
        Path(folder, name).mkdir(parents=True)
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as executor:
        list(executor.map(partial(_write_photograph, folder, size), range(images), chunksize=16))


def _write_photograph(folder: str, size: int, number: int) -> None:
    image, mask = make_photograph(np.random.default_rng(number), size)
    Path(folder, IMAGES, f"{number:06d}.png").write_bytes(encode_png(image))
    Path(folder, MASKS, f"{number:06d}.png").write_bytes(encode_png(mask))


def write_layouts(raw: str, folder: str, coding: Coding, size: int | None, cores: int) -> RecordsInfo:
    """Makes the folders of all loaders from a dataset in the layout `folder`, and returns the records' info.

    MDS shards are left out where MosaicML streaming is not installed.

    Args:
      raw: directory with images/ and masks/; what its records have as split train is used.
      folder: new, for the folders.
      coding: of the images; masks are PNG.
      size: height and width that images get, or None to keep theirs.
      cores: worker processes of preprocess.
    """
    from preprocess.config import PreprocessConfig, Splits
    from preprocess.job import preprocess

    config = PreprocessConfig(
        size=size,
        coding=coding,
        jpeg_quality=JPEG_QUALITY,
        splits=Splits(train=1, val=0, test=0),
        near_duplicates=None,
        workers=cores,
    )
    preprocess("folder", raw, join(folder, RECORDS), config, _no_progress, lambda line: None)
    info = read_info(join(folder, RECORDS))
    _write_files(folder, info)
    _write_tars(folder, info)
    with contextlib.suppress(ImportError):
        _write_mds(folder, info)
    return info


@contextlib.contextmanager
def _no_progress(label: str, total: int):
    yield lambda done: None


def read_examples(folder: str, info: RecordsInfo) -> Iterator[Record]:
    """Yields the training examples of `write_layouts`, one after the other, from the records."""
    for shard in info.shards("train"):
        for serialized in read_shard(join(folder, f"{RECORDS}/{shard.name}")):
            yield decode(serialized)


def _write_files(folder: str, info: RecordsInfo) -> None:
    for name in (IMAGES, MASKS):
        Path(folder, name).mkdir()
    for number, record in enumerate(read_examples(folder, info)):
        assert record.mask is not None, "benchmarks are of labelled records"
        Path(folder, IMAGES, f"{number:06d}{_SUFFIXES[record.image_format]}").write_bytes(record.image)
        Path(folder, MASKS, f"{number:06d}.png").write_bytes(record.mask)


def _write_tars(folder: str, info: RecordsInfo) -> None:
    Path(folder, TARS).mkdir()
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(path, "w")) for path in _tar_paths(folder)]
        for number, record in enumerate(read_examples(folder, info)):
            for suffix, data in (("image", record.image), ("mask", record.mask)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                tars[number % _TARS].addfile(member, io.BytesIO(data))


def _tar_paths(folder: str) -> list[str]:
    return [join(folder, f"{TARS}/{number:05d}.tar") for number in range(_TARS)]


def _write_mds(folder: str, info: RecordsInfo) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=join(folder, MDS), columns={"image": "bytes", "mask": "bytes"}) as writer:
        for record in read_examples(folder, info):
            writer.write({"image": record.image, "mask": record.mask})

"""The hand-written loop: what one would write for this very dataset with multiprocessing.Pool.

Each worker decodes the images of a shard and their masks, merges, resizes, encodes and writes, with the codecs that
preprocess uses. There is no index, plan, checksums of files, statistics, error handling, resume or info.json.
"""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imaging.codec import SUFFIXES, decode_image, decode_mask, encode_png
from imaging.objects import merge_objects
from imaging.resize import resize_image, resize_mask
from records.schema import Record, encode
from records.shards import frame

SIZE = 256
"""Height and width of every example."""

SHARDS_PER_WORKER = 8


def image_folders(raw: str) -> list[Path]:
    """Returns the folders of a nuclei dataset's images, sorted."""
    return sorted(folder for folder in Path(raw).iterdir() if folder.is_dir())


def run_pool(raw: str, out: str, workers: int) -> dict[str, float]:
    """Makes shards of a dataset in a new folder `out`; returns seconds: total."""
    start = time.monotonic()
    folders = image_folders(raw)
    Path(out).mkdir()
    shards = max(1, min(len(folders), workers * SHARDS_PER_WORKER))
    tasks = [(folders[index::shards], str(Path(out, f"{index:05d}.tfrecord"))) for index in range(shards)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(_write_shard, tasks):
            pass
    return {"total": time.monotonic() - start}


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Returns one image folder of a nuclei dataset.

    Returns:
      image: uint8 [SIZE, SIZE, channels]. instances: uint16 [SIZE, SIZE]. facts: fields of its `Record`.
    """
    cv2.setNumThreads(1)
    source = next((folder / "images").iterdir())
    image = decode_image(source.read_bytes())
    height, width = image.shape[:2]
    masks = (decode_mask(p.read_bytes()) for p in (folder / "masks").iterdir() if p.suffix in SUFFIXES)
    merged = merge_objects(masks, height, width)
    facts = {
        "source_id": folder.name,
        "filename": source.name,
        "group": folder.name,
        "objects": merged.count,
        "original_height": height,
        "original_width": width,
    }
    return resize_image(image, SIZE, SIZE), resize_mask(merged.instances, SIZE, SIZE), facts


def _convert(folder: Path) -> bytes:
    """Returns the serialized record of one image folder."""
    image, instances, facts = read_folder(folder)
    record = Record(
        image=encode_png(image),
        image_format="png",
        height=SIZE,
        width=SIZE,
        channels=image.shape[2],
        mask=encode_png((instances > 0).astype(np.uint8)),
        instances=encode_png(instances),
        crop=(0, 0, facts["original_height"], facts["original_width"]),
        **facts,
    )
    return encode(record)


def _write_shard(task: tuple[list[Path], str]) -> None:
    folders, path = task
    with Path(path).open("wb") as file:
        for folder in folders:
            file.write(frame(_convert(folder)))

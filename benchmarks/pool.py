"""The hand-written loop: what one would write for this very dataset with multiprocessing.Pool.

Each worker decodes the images of a shard and their masks, merges, resizes, encodes and writes, with the codecs that
preprocess uses. There is no index, plan, checksums of files, statistics, error handling, resume or info.json.
"""

import multiprocessing
import time
from pathlib import Path

import cv2

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


def convert_folder(folder: Path) -> Record:
    """Returns the record of one image folder of a nuclei dataset."""
    cv2.setNumThreads(1)
    source = next((folder / "images").iterdir())
    image = decode_image(source.read_bytes())
    height, width = image.shape[:2]
    masks = (decode_mask(p.read_bytes()) for p in (folder / "masks").iterdir() if p.suffix in SUFFIXES)
    merged = merge_objects(masks, height, width)
    instances = resize_mask(merged.instances, SIZE, SIZE)
    return Record(
        image=encode_png(resize_image(image, SIZE, SIZE)),
        image_format="png",
        height=SIZE,
        width=SIZE,
        channels=image.shape[2],
        source_id=folder.name,
        filename=source.name,
        group=folder.name,
        mask=encode_png((instances > 0).astype("uint8")),
        instances=encode_png(instances),
        objects=merged.count,
        original_height=height,
        original_width=width,
        crop=(0, 0, height, width),
    )


def _write_shard(task: tuple[list[Path], str]) -> None:
    folders, path = task
    with Path(path).open("wb") as file:
        for folder in folders:
            file.write(frame(encode(convert_folder(folder))))

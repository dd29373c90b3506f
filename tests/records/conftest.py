"""Small records folders made by hand, so that these tests need neither Beam nor the writer of `preprocess`."""

import contextlib
import dataclasses
import io
import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from imaging.codec import encode_png
from records.info import INFO_FILE, RecordsInfo, SplitInfo, read_info
from records.schema import Record, encode
from records.shards import Shard, frame
from tests.records.damaging import KEYS, write_offsets

HEIGHT, WIDTH = 6, 10  # not square: swapped axes show


def made_record(key: str, image_format: str = "png", channels: int = 3, dtype: str = "uint8", **changes) -> Record:
    generator = np.random.default_rng(list(key.encode()))
    pixels = generator.integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype=dtype)
    image = encode_png(pixels)
    if image_format == "raw":
        image = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    elif image_format == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(buffer, "JPEG", quality=95, subsampling=0)
        image = buffer.getvalue()
    record = Record(
        image=image,
        image_format=image_format,
        height=HEIGHT,
        width=WIDTH,
        channels=channels,
        source_id=key,
        filename=f"images/{key}.{image_format}",
        group=f"group-{key[:1]}",
        mask=encode_png(generator.choice(np.array([0, 1, 255], np.uint8), (HEIGHT, WIDTH))),
        instances=encode_png(generator.integers(0, 400, (HEIGHT, WIDTH), dtype=np.uint16)),
        objects=3,
        original_height=HEIGHT * 2,
        original_width=WIDTH * 3,
        crop=(1, 2, HEIGHT, WIDTH),
    )
    return dataclasses.replace(record, **changes)


def _split_info(folder: Path, name: str, split: str, shards: list[list[Record]], num_classes: int) -> SplitInfo:
    masks = [np.array(Image.open(io.BytesIO(r.mask))) for shard in shards for r in shard if r.mask is not None]
    files = []
    for index, shard in enumerate(shards):
        data = b"".join(frame(encode(record)) for record in shard)
        (folder / Shard(name, split, index, len(shards)).name).write_bytes(data)
        files.append(data)
    objects = [record.objects for shard in shards for record in shard if record.objects is not None]
    overlapping = any(mask.dtype == np.uint16 for mask in masks)
    if overlapping:
        areas = [[(mask >> number & 1 == 1) & (mask < 2**15) for number in range(num_classes)] for mask in masks]
        ignored = [mask >= 2**15 for mask in masks]
    else:
        areas = [[mask == number for number in range(num_classes)] for mask in masks]
        ignored = [mask == 255 for mask in masks]
    return SplitInfo(
        shard_lengths=[len(shard) for shard in shards],
        shard_bytes=[len(data) for data in files],
        shard_crc32c=[f"{google_crc32c.value(data):08x}" for data in files],
        class_pixels=[int(sum(area[number].sum() for area in areas)) for number in range(num_classes)],
        ignored_pixels=int(sum(area.sum() for area in ignored)),
        class_examples=[int(sum(area[number].any() for area in areas)) for number in range(num_classes)],
        object_counts=[sum(count.bit_length() == bits for count in objects) for bits in range(16)],
        lost_pixels=0,
    )


def write_made_records(folder: Path, shards_by_split: dict[str, list[list[Record]]], **changes) -> RecordsInfo:
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(shards_by_split.values()))[0][0]
    classes = changes.get("classes", ["background", "nucleus"])
    folds = [split for split in shards_by_split if split.startswith("fold")]
    splits = {
        split: _split_info(folder, "made", split, shards_by_split.get(split, []), len(classes))
        for split in ([*folds, "test"] if folds else ["train", "val", "test"])
    }
    info = RecordsInfo(
        name="made",
        classes=classes,
        overlapping=False,
        labeled=first.mask is not None,
        instances=first.instances is not None,
        height=HEIGHT,
        width=WIDTH,
        channels=first.channels,
        dtype="uint8",
        coding="raw" if first.image_format == "raw" else "image",
        intensity={"offset": 0, "slope": 1, "unit": "stored value", "transform": "none"},
        mean=[127.5] * first.channels,
        std=[70.0] * first.channels,
        splits=splits,
        rejected=0,
        warnings={},
        config={"layout": "made"},
        fingerprint="f" * 64,
        versions={"numpy": np.__version__},
    )
    info = dataclasses.replace(info, **changes)
    (folder / INFO_FILE).write_text(info.to_json())
    return info


@pytest.fixture
def make_record():
    """(key, image_format, channels, dtype, **changes) -> Record of random pixels that depend on the key."""
    return made_record


@pytest.fixture
def write_records():
    """(folder, {split: shards of records}, **changes of the info) -> RecordsInfo, having written the folder."""
    return write_made_records


@pytest.fixture
def small_records(tmp_path):
    """(folder, info, records by key): two shards of training records, one for validation, no test split."""
    keys = {"train": [["a0", "a1", "a2"], ["b0", "b1"]], "val": [["c0", "c1"]]}
    records = {split: [[made_record(key) for key in shard] for shard in shards] for split, shards in keys.items()}
    folder = tmp_path / "records"
    info = write_made_records(folder, records)
    by_key = {record.source_id: record for shards in records.values() for shard in shards for record in shard}
    return folder, info, by_key


@pytest.fixture
def preprocess_folder():
    """(raw, folder, **settings) -> RecordsInfo of raw data in the folder layout, made in this process."""
    from preprocess.config import PreprocessConfig
    from preprocess.job import preprocess

    @contextlib.contextmanager
    def silent(label, total):
        yield lambda done: None

    def make(raw, folder, **settings):
        return preprocess("folder", str(raw), str(folder), PreprocessConfig(workers=1, **settings), silent, str)

    return make


@pytest.fixture
def own(nuclei_records, tmp_path):
    """(folder, info, files of training and validation): a copy that a test may damage."""
    folder = tmp_path / "records"
    shutil.copytree(nuclei_records, folder)
    (folder / "checked.json").unlink(missing_ok=True)
    info = read_info(str(folder))
    return folder, info, info.shard_files(str(folder), ["train", "val"])


@pytest.fixture
def made(tmp_path, make_record, write_records):
    """(folder, info, serialized records of the first training shard): two training shards and one for validation."""
    folder = tmp_path / "records"
    # Of several lengths, in no order.
    first = [make_record(key, filename=f"{key}{'x' * (7 * index % 5)}") for index, key in enumerate(KEYS)]
    shards = {"train": [first, [make_record("b0"), make_record("b1")]], "val": [[make_record("c0")]]}
    info = write_records(folder, shards)
    write_offsets(folder, {s: r for split in shards for s, r in zip(info.shards(split), shards[split], strict=True)})
    return folder, info, [encode(record) for record in first]

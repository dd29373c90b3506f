"""What goes wrong outside of preprocess: kills, disks that refuse, raw files that change, lie or are unusual."""

import csv
import hashlib
import io
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.codec import decode_image, decode_mask, encode_jpeg, encode_png, examine_image
from preprocess import job, storage
from preprocess.synthetic import SyntheticConfig, write_airbus, write_folder, write_nuclei
from records.info import read_info
from records.schema import decode
from records.shards import read_shard
from tests.conftest import make_records


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records_by_key(folder: Path) -> dict:
    info = read_info(str(folder))
    shards = [shard for split, content in info.splits.items() if content.num_examples for shard in info.shards(split)]
    records = [decode(data) for shard in shards for data in read_shard(f"{folder}/{shard.name}")]
    return {record.source_id: record for record in records}


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    with (folder / "rejected.csv").open() as file:
        return {row["key"]: (row["stage"], row["reason"]) for row in csv.DictReader(file)}


@pytest.fixture
def raw(tmp_path):
    write_folder(tmp_path / "raw", SyntheticConfig(images=8))
    return tmp_path / "raw"


# Kills.


class KilledRuns:
    """A dataset, records of it made without disturbance, and how long that took."""

    def __init__(self, folder: Path, layout: str, write_raw, images: int):
        """Makes both in `folder`."""
        self.raw, self.whole, self._layout = folder / "raw", folder / "whole", layout
        write_raw(self.raw, SyntheticConfig(images=images))
        self.raw_hashes = hashes(self.raw)
        start = time.monotonic()
        assert self.start(self.whole).wait() == 0
        self.seconds = time.monotonic() - start

    def start(self, records: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "preprocess", self._layout, self.raw, records, "--size", "128"]
        return subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.DEVNULL, start_new_session=True)

    def kill_and_run_again(self, records: Path, part: int, parts: int) -> None:
        """Kills a run at a random moment of one of the equal parts of its duration, and runs it again to its end."""
        process = self.start(records)
        moment = (part + random.Random(part).random()) / parts * self.seconds
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert self.start(records).wait() == 0
        assert hashes(records) == hashes(self.whole)
        assert hashes(self.raw) == self.raw_hashes


def assert_only_results(folder: Path) -> None:
    names = os.listdir(folder)
    assert "info.json" in names
    assert not [name for name in names if name.endswith(".tmp") or name.startswith("index-")]
    assert not [name for name in names if ".tfrecord-" in name and name.endswith(".json")]
    assert "annotations.parquet" not in names


@pytest.fixture(scope="module")
def nuclei_runs(tmp_path_factory):
    return KilledRuns(tmp_path_factory.mktemp("nuclei"), "nuclei", write_nuclei, 400)


@pytest.fixture(scope="module")
def airbus_runs(tmp_path_factory):
    return KilledRuns(tmp_path_factory.mktemp("airbus"), "airbus", write_airbus, 150)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_a_run_killed_at_any_moment_is_finished_by_the_same_command(nuclei_runs, tmp_path, part):
    nuclei_runs.kill_and_run_again(tmp_path / "records", part, 10)
    assert_only_results(tmp_path / "records")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_a_killed_run_with_a_table_of_annotations_is_finished_by_the_same_command(airbus_runs, tmp_path, part):
    airbus_runs.kill_and_run_again(tmp_path / "records", part, 3)
    assert_only_results(tmp_path / "records")


@pytest.mark.slow
def test_a_run_killed_again_and_again_comes_to_the_same_end(nuclei_runs, tmp_path):
    for moment in (0.5, 0.7, 0.9):
        process = nuclei_runs.start(tmp_path / "records")
        time.sleep(moment * nuclei_runs.seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    nuclei_runs.kill_and_run_again(tmp_path / "records", 9, 10)
    assert_only_results(tmp_path / "records")


class Killed(BaseException):
    """Ends a run as a kill does: nothing catches it."""


def test_a_run_killed_after_info_was_written_is_tidied_by_the_next(tmp_path, monkeypatch):
    write_airbus(tmp_path / "raw", SyntheticConfig(images=6))
    make_records("airbus", tmp_path / "raw", tmp_path / "whole", size=32)

    def kill(folder, names):
        if Path(folder, "info.json").exists():
            raise Killed

    monkeypatch.setattr(job, "delete_files", kill)
    with pytest.raises(Killed):
        make_records("airbus", tmp_path / "raw", tmp_path / "records", size=32)
    monkeypatch.undo()
    assert (tmp_path / "records/annotations.parquet").exists()
    (tmp_path / "records/rejected.csv.123-0123abcd.tmp").write_bytes(b"half")
    make_records("airbus", tmp_path / "raw", tmp_path / "records", size=32)
    assert_only_results(tmp_path / "records")
    assert hashes(tmp_path / "records") == hashes(tmp_path / "whole")


# Disks that refuse.


def test_an_output_folder_beneath_a_file_cannot_be_made(raw, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"file/records: the output folder cannot be made") as error:
        make_records("folder", raw, tmp_path / "file/records", size=32)
    assert "\n" not in str(error.value)


def test_an_output_folder_that_may_not_be_written_is_named(raw, tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.FileSystems, "create", refuse)
    with pytest.raises(OSError, match=r"records/\S+: cannot be written: Permission denied; nothing half-made"):
        make_records("folder", raw, tmp_path / "records", size=32)
    assert os.listdir(tmp_path / "records") == []


# Raw files that change, lie or are unusual.


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_that_changes_between_index_and_write_is_rejected_and_the_rest_survives(
    raw, tmp_path, monkeypatch, kind
):
    make_index = job.make_index

    def index_then_change(*arguments):
        index = make_index(*arguments)
        path = raw / kind / "scene0003.png"
        path.write_bytes(encode_png(255 - decode_image(path.read_bytes())))
        return index

    monkeypatch.setattr(job, "make_index", index_then_change)
    make_records("folder", raw, tmp_path / "records", size=32, max_rejects=0.2)
    assert sorted(records_by_key(tmp_path / "records")) == [f"scene000{n}" for n in range(8) if n != 3]
    assert rejected(tmp_path / "records").keys() == {"scene0003"}
    stage, reason = rejected(tmp_path / "records")["scene0003"]
    assert stage == "write"
    assert reason.startswith(f"{kind}/scene0003.png: changed since it was indexed")


def test_a_jpeg_without_a_byte_is_rejected_as_empty(raw, tmp_path):
    (raw / "images/scene0003.png").unlink()
    (raw / "images/scene0003.jpg").write_bytes(b"")
    make_records("folder", raw, tmp_path / "records", size=32, max_rejects=0.2)
    assert rejected(tmp_path / "records") == {"scene0003": ("index", "images/scene0003.jpg: the file is empty")}
    assert len(records_by_key(tmp_path / "records")) == 7


def test_one_16_bit_png_makes_all_images_16_bit_and_loses_nothing(raw, tmp_path):
    eight = decode_image((raw / "images/scene0000.png").read_bytes())
    height, width = decode_mask((raw / "masks/scene0003.png").read_bytes()).shape
    sixteen = np.random.default_rng(0).integers(0, 2**16, (height, width, 3), np.uint16)
    (raw / "images/scene0003.png").write_bytes(encode_png(sixteen))
    info = make_records("folder", raw, tmp_path / "records", size=None)
    records = records_by_key(tmp_path / "records")
    assert info.dtype == "uint16"
    np.testing.assert_array_equal(decode_image(records["scene0003"].image), sixteen)
    np.testing.assert_array_equal(decode_image(records["scene0000"].image), eight * np.uint16(257))


@pytest.mark.parametrize("marker", ["with", "without"])
@pytest.mark.parametrize("size", [None, 64])
def test_a_cmyk_jpeg_has_its_colours_in_tensorflow_too(raw, tmp_path, size, marker):
    tf = pytest.importorskip("tensorflow")
    height, width = decode_mask((raw / "masks/scene0003.png").read_bytes()).shape
    colors = np.full((height, width, 3), (200, 30, 40), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colors).convert("CMYK").save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    if marker == "without":  # Adobe's, which says that the values are inverted, as they are in practice
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    (raw / "images/scene0003.png").unlink()
    (raw / "images/scene0003.jpg").write_bytes(data)
    make_records("folder", raw, tmp_path / "records", size=size)
    stored = tf.io.decode_jpeg(records_by_key(tmp_path / "records")["scene0003"].image, channels=3).numpy()
    assert np.abs(stored.astype(int) - (200, 30, 40)).max() <= 2


def png_header(height: int, width: int, colour: int) -> bytes:
    """Returns a PNG that claims a size, with next to no pixels; colour as in its specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + data + chunk(b"IEND", b"")


def jpeg_header(height: int, width: int) -> bytes:
    data = bytearray(encode_jpeg(np.zeros((16, 16, 3), np.uint8), 90))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_header(height: int, width: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6) + bytes(100)


BOMBS = {
    "grey PNG": png_header(60_000, 60_000, 0),
    "RGB PNG": png_header(60_000, 60_000, 2),
    "palette PNG": png_header(60_000, 60_000, 3),
    "JPEG": jpeg_header(60_000, 60_000),
    "BMP": bmp_header(60_000, 60_000),
}


@pytest.fixture
def little_memory():
    """Lets this process ask for 256 MiB more than it has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
@pytest.mark.parametrize("function", [decode_image, decode_mask, examine_image])
@pytest.mark.parametrize("kind", BOMBS)
def test_an_image_that_claims_billions_of_pixels_is_refused_before_memory_is_taken(kind, function, little_memory):
    with pytest.raises(ValueError, match="expected at most 1073741824 pixels"):
        function(BOMBS[kind])


def test_an_image_that_claims_billions_of_pixels_is_one_bad_item(raw, tmp_path):
    (raw / "images/scene0003.png").write_bytes(BOMBS["RGB PNG"])
    make_records("folder", raw, tmp_path / "records", size=32, max_rejects=0.2)
    stage, reason = rejected(tmp_path / "records")["scene0003"]
    assert stage == "index"
    assert reason.startswith("images/scene0003.png: expected at most 1073741824 pixels, found 60000x60000")
    assert len(records_by_key(tmp_path / "records")) == 7


def test_a_satellite_scene_of_20_000_by_20_000_pixels_is_read():
    scene = np.zeros((20_000, 20_000), np.uint8)
    scene[123, 456] = 7
    decoded = decode_image(encode_png(scene))
    assert decoded.shape == (20_000, 20_000, 1)
    assert decoded[123, 456, 0] == 7

"""The whole job on small datasets: the same bytes always, nothing lost, nothing half-made."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from imaging.codec import decode_image, decode_mask, encode_png
from preprocess import storage
from preprocess.config import PreprocessConfig, Splits
from preprocess.job import preprocess
from preprocess.pipeline import _local_runner
from preprocess.synthetic import SyntheticConfig, write_nuclei
from records.info import read_info
from records.schema import decode
from records.shards import read_shard
from records.verify import verify
from tests.conftest import make_records, silent_progress

SMALL = {"size": 32, "splits": Splits(0.6, 0.2, 0.2)}


def shard_hashes(folder):
    files = sorted(Path(folder).glob("*.tfrecord-*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def all_records(folder):
    info = read_info(str(folder))
    names = [
        shard.name for split, content in info.splits.items() if content.num_examples for shard in info.shards(split)
    ]
    return [decode(record) for name in names for record in read_shard(f"{folder}/{name}")]


def command(*arguments):
    return [sys.executable, "-m", "preprocess", *map(str, arguments)]


@pytest.fixture(scope="module")
def small_records(nuclei_raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "records"
    make_records("nuclei", nuclei_raw, folder, **SMALL)
    return folder


def test_every_raw_image_becomes_one_record_with_its_own_pixels(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path / "records", size=None)
    records = {record.source_id: record for record in all_records(tmp_path / "records")}
    assert sorted(records) == sorted(path.name for path in nuclei_raw.iterdir())
    for key, record in records.items():
        image = decode_image((nuclei_raw / key / "images" / f"{key}.png").read_bytes())
        masks = [decode_mask(path.read_bytes()) for path in sorted((nuclei_raw / key / "masks").iterdir())]
        np.testing.assert_array_equal(decode_image(record.image), image)
        np.testing.assert_array_equal(decode_mask(record.mask), (np.sum(masks, 0, int) > 0).astype(np.uint8))
        expected = sum(number * (mask > 0).astype(int) for number, mask in enumerate(masks, 1))
        np.testing.assert_array_equal(decode_mask(record.instances), expected)
        assert record.objects == len(masks)


def test_info_agrees_with_the_records(small_records):
    info = read_info(str(small_records))
    assert list(verify(str(small_records), info, lambda done: None)) == []
    records = all_records(small_records)
    train = records[: info.splits["train"].num_examples]
    pixels = np.concatenate([decode_image(record.image).reshape(-1, 3) for record in train]).astype(float)
    np.testing.assert_allclose(info.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(info.std, pixels.std(0), rtol=1e-9)
    masks = np.stack([decode_mask(record.mask) for record in train])
    assert info.splits["train"].class_pixels == [int((masks == 0).sum()), int((masks == 1).sum())]
    assert info.splits["train"].class_examples[1] == int((masks == 1).any((1, 2)).sum())
    histogram = np.bincount([record.objects.bit_length() for record in train], minlength=16).tolist()
    assert info.splits["train"].object_counts == histogram
    offsets = pd.read_parquet(small_records / "offsets.parquet")
    assert offsets["key"].tolist() == [record.source_id for record in records]


def test_one_worker_and_two_directory_and_zip_give_identical_shards(nuclei_raw, small_records, tmp_path):
    with zipfile.ZipFile(tmp_path / "stage1_train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in nuclei_raw.rglob("*.png"):
            archive.write(path, path.relative_to(nuclei_raw))
    expected = shard_hashes(small_records)
    assert len(expected) == 3
    make_records("nuclei", tmp_path / "stage1_train.zip", tmp_path / "zip", **SMALL, workers=2)
    assert shard_hashes(tmp_path / "zip") == expected
    make_records("nuclei", tmp_path, tmp_path / "directory-with-zip", **SMALL)
    assert shard_hashes(tmp_path / "directory-with-zip") == expected
    assert (tmp_path / "zip/info.json").read_text() == (small_records / "info.json").read_text()


def test_a_killed_run_continues_with_the_missing_shards_to_the_same_result(tmp_path):
    write_nuclei(tmp_path / "raw", SyntheticConfig(images=100))
    make_records("nuclei", tmp_path / "raw", tmp_path / "whole", size=128)
    arguments = ["nuclei", tmp_path / "raw", tmp_path / "killed", "--size", 128, "--workers", 1]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, start_new_session=True)
    while not list((tmp_path / "killed").glob("*.tfrecord-*.json")):
        assert process.poll() is None, "it ended before its first shard"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    folder = tmp_path / "killed"
    finished = {path.name.removesuffix(".json") for path in folder.glob("*.tfrecord-*.json")}
    assert 0 < len(finished) < len(shard_hashes(tmp_path / "whole"))
    with pytest.raises(ValueError, match="expected finished records"):
        read_info(str(folder))
    before = {name: (folder / name).stat().st_mtime_ns for name in finished}
    told = []
    config = PreprocessConfig(size=128, workers=1)
    preprocess("nuclei", str(tmp_path / "raw"), str(folder), config, silent_progress, told.append)
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == before
    assert any(f"{len(finished)} of 7 shards are finished already" in line for line in told)
    assert shard_hashes(folder) == shard_hashes(tmp_path / "whole")
    assert (folder / "info.json").read_text() == (tmp_path / "whole/info.json").read_text()
    assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "whole"))  # no temporary file is left


def test_a_shard_without_its_report_or_cut_short_is_made_again(nuclei_raw, small_records, tmp_path):
    folder = tmp_path / "records"
    make_records("nuclei", nuclei_raw, folder, **SMALL)
    (folder / "info.json").unlink()  # as if it had been stopped before the commit
    for path in folder.glob("*.tfrecord-*"):
        path.write_bytes(path.read_bytes()[:-1])
    make_records("nuclei", nuclei_raw, folder, **SMALL)
    assert shard_hashes(folder) == shard_hashes(small_records)


def test_finished_records_are_left_alone_and_others_are_refused_unless_overwritten(nuclei_raw, tmp_path):
    folder = tmp_path / "records"
    make_records("nuclei", nuclei_raw, folder, **SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord-*")}
    make_records("nuclei", nuclei_raw, folder, **SMALL)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord-*")} == before
    with pytest.raises(ValueError, match=r"holds records of another dataset.*--overwrite"):
        make_records("nuclei", nuclei_raw, folder, **SMALL | {"size": 16})
    assert read_info(str(folder)).height == 32
    make_records("nuclei", nuclei_raw, folder, **SMALL | {"size": 16, "splits": Splits(0.5, 0.5, 0.0)}, overwrite=True)
    assert read_info(str(folder)).height == 16
    assert not list(folder.glob("*-test.tfrecord-*"))


def test_a_plan_only_run_leaves_other_records_alone(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path, **SMALL)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds records of another dataset"):
        make_records("nuclei", nuclei_raw, tmp_path, size=16, plan_only=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwriting_with_a_dataset_that_is_too_bad_keeps_the_old_records(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path / "records", **SMALL)
    shutil.copytree(nuclei_raw, tmp_path / "raw", ignore=shutil.ignore_patterns("masks"))
    with pytest.raises(ValueError, match="24 of 24 items are bad"):
        make_records("nuclei", tmp_path / "raw", tmp_path / "records", **SMALL, overwrite=True)
    info = read_info(str(tmp_path / "records"))
    assert list(verify(str(tmp_path / "records"), info, lambda done: None)) == []


def test_records_do_not_go_among_the_raw_data(nuclei_raw):
    before = sorted(nuclei_raw.iterdir())
    with pytest.raises(ValueError, match="expected a folder of its own for the records"):
        make_records("nuclei", nuclei_raw, nuclei_raw)
    assert sorted(nuclei_raw.iterdir()) == before


def test_classes_for_masks_that_are_binary_after_all_are_an_error(folder_raw, tmp_path):
    with pytest.raises(ValueError, match="if the masks are binary .* leave out --classes"):
        make_records("folder", folder_raw, tmp_path, size=16, classes=["background", "blob"])


def test_a_worker_process_that_dies_ends_the_run_with_one_line(nuclei_raw, tmp_path):
    # The system's out-of-memory killer does just this; Beam would wait for the worker for ever.
    process = subprocess.Popen(
        command("nuclei", nuclei_raw, tmp_path, "--workers", "2"), stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.parent.exists():
        process.kill()
        pytest.skip("needs /proc to find the worker")
    worker = None
    while worker is None:
        assert process.poll() is None
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"preprocess.worker" in path.read_bytes() and _ancestor(path.parent.name, process.pid):
                    worker = int(path.parent.name)
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    _, error = process.communicate(timeout=60)  # ends when the other worker has ended, too
    assert process.returncode == 2
    assert error.count("\n") == 1, error
    assert "a worker process died" in error


def _ancestor(pid, ancestor):
    while pid not in ("0", "1"):
        pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        if pid == str(ancestor):
            return True
    return False


def test_plan_only_shows_the_plan_and_writes_no_shard(nuclei_raw, tmp_path):
    assert make_records("nuclei", nuclei_raw, tmp_path, plan_only=True) is None
    assert sorted(os.listdir(tmp_path)) == ["index.parquet", "plan.parquet", "rejected.csv"]
    plan = pd.read_parquet(tmp_path / "plan.parquet")
    assert sorted(plan["key"]) == sorted(path.name for path in nuclei_raw.iterdir())
    index = pd.read_parquet(tmp_path / "index.parquet").set_index("key")
    for key in index.index:
        data = (nuclei_raw / key / "images" / f"{key}.png").read_bytes()
        row = index.loc[key]
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["height"], row["width"], row["channels"]) == decode_image(data).shape
        assert row["objects"] == len(list((nuclei_raw / key / "masks").iterdir()))


def test_bad_items_are_rejected_with_their_reasons_and_the_rest_goes_on(nuclei_raw, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(nuclei_raw, raw)
    truncated, no_mask, wrong_size = sorted(path.name for path in raw.iterdir())[:3]
    image = raw / truncated / "images" / f"{truncated}.png"
    image.write_bytes(image.read_bytes()[:200])
    shutil.rmtree(raw / no_mask / "masks")
    mask = next((raw / wrong_size / "masks").iterdir())
    mask.write_bytes(encode_png(np.zeros((3, 3), np.uint8)))

    with pytest.raises(ValueError, match=r"2 of 24 items are bad, more than --max_rejects 0.01") as error:
        make_records("nuclei", raw, tmp_path / "records", **SMALL)
    assert truncated in str(error.value)
    assert not (tmp_path / "records" / "info.json").exists()
    with pytest.raises(ValueError, match=r"3 of 24 items are bad"):  # the mask was found when it was read
        make_records("nuclei", raw, tmp_path / "records", **SMALL, max_rejects=0.1)
    assert not (tmp_path / "records" / "info.json").exists()

    info = make_records("nuclei", raw, tmp_path / "records", **SMALL, max_rejects=0.2)
    assert info.rejected == 3
    assert len(all_records(tmp_path / "records")) == 21
    with (tmp_path / "records" / "rejected.csv").open() as file:
        rejected = {row["key"]: (row["stage"], row["reason"]) for row in csv.DictReader(file)}
    assert rejected[truncated][0] == "index"
    assert "truncated" in rejected[truncated][1]
    assert rejected[no_mask][0] == "index"
    assert "no mask found (--unlabeled" in rejected[no_mask][1]
    assert rejected[wrong_size][0] == "write"
    assert "found 3x3" in rejected[wrong_size][1]
    assert list(verify(str(tmp_path / "records"), info, lambda done: None)) == []


def test_images_without_masks_become_records_on_purpose(nuclei_raw, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(nuclei_raw, raw, ignore=shutil.ignore_patterns("masks"))
    with pytest.raises(ValueError, match="24 of 24 items are bad"):
        make_records("nuclei", raw, tmp_path / "records", max_rejects=1.0)
    info = make_records("nuclei", raw, tmp_path / "records", **SMALL, unlabeled=True)
    assert (info.labeled, info.instances, info.splits["test"].num_examples) == (False, False, 24)
    assert all(record.mask is None for record in all_records(tmp_path / "records"))


def test_an_empty_dataset_is_an_error_that_says_what_was_expected(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=r"found no images in the layout 'nuclei' .*<id>/images/<id>.png"):
        make_records("nuclei", tmp_path / "raw", tmp_path / "records")


def test_a_key_that_is_there_twice_is_an_error_with_both_places(nuclei_raw, tmp_path):
    key = next(nuclei_raw.iterdir()).name
    for parent in ("one", "two"):
        shutil.copytree(nuclei_raw / key, tmp_path / "raw" / parent / key)
    with pytest.raises(ValueError, match=f"the key '{key}' is there 2 times") as error:
        make_records("nuclei", tmp_path / "raw", tmp_path / "records")
    assert f"one/{key}/images/{key}.png and two/{key}/images/{key}.png" in str(error.value)


def test_grey_and_colour_images_of_one_dataset_all_become_rgb(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for number in range(4):
        pixels = np.full((8, 8, 3), 60 * number, np.uint8)
        (tmp_path / f"raw/images/{number}.png").write_bytes(encode_png(pixels if number % 2 else pixels[:, :, 0]))
        (tmp_path / f"raw/masks/{number}.png").write_bytes(encode_png(pixels[:, :, 0] * 0))
    info = make_records("folder", tmp_path / "raw", tmp_path / "records", size=None)
    assert (info.channels, info.height, info.width) == (3, 8, 8)
    for record in all_records(tmp_path / "records"):
        np.testing.assert_array_equal(decode_image(record.image), np.full((8, 8, 3), 60 * int(record.source_id)))


def test_images_of_several_native_sizes_have_no_common_size(folder_raw, tmp_path):
    info = make_records("folder", folder_raw, tmp_path, size=None)
    assert (info.height, info.width) == (None, None)


def test_jpeg_files_at_native_size_are_in_the_shards_as_they_were(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    done, data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
    assert done
    (tmp_path / "raw/images/a.jpg").write_bytes(data.tobytes())
    (tmp_path / "raw/masks/a.png").write_bytes(encode_png(np.zeros((16, 16), np.uint8)))
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=None)
    assert [record.image for record in all_records(tmp_path / "records")] == [data.tobytes()]


def test_a_full_disk_while_writing_shards_is_told_and_nothing_looks_whole(
    nuclei_raw, small_records, tmp_path, monkeypatch
):
    write = storage.ChecksummingFile.write

    def full(self, data):
        if self.bytes > 5000:
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(storage.ChecksummingFile, "write", full)
    with pytest.raises(OSError, match=r"tfrecord-\d+-of-\d+: cannot be written: No space left on device") as error:
        make_records("nuclei", nuclei_raw, tmp_path, **SMALL)
    assert "\n" not in str(error.value)
    assert not [name for name in os.listdir(tmp_path) if "tfrecord" in name or name == "info.json"]
    monkeypatch.undo()
    make_records("nuclei", nuclei_raw, tmp_path, **SMALL)
    assert shard_hashes(tmp_path) == shard_hashes(small_records)


def test_a_users_mistake_in_a_worker_process_ends_with_one_line_and_exit_code_2(nuclei_raw, tmp_path):
    # A file-size limit is inherited by the worker processes: their disk is full, not ours.
    script = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "sys.argv = ['preprocess', *sys.argv[1:]]; runpy.run_module('preprocess', run_name='__main__')"
    )
    arguments = ["nuclei", nuclei_raw, tmp_path / "records", "--workers", "2"]
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert "cannot be written: File too large; nothing half-made was left" in result.stderr
    assert not [name for name in os.listdir(tmp_path / "records") if name.endswith((".json", ".tmp"))]


def test_nothing_is_downloaded_and_the_local_runner_is_named(nuclei_raw, tmp_path, monkeypatch):
    assert isinstance(_local_runner(1), FnApiRunner)
    assert isinstance(_local_runner(2), FnApiRunner)

    def refuse(self, address):
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    make_records("nuclei", nuclei_raw, tmp_path, **SMALL)


def test_preprocess_imports_no_tensorflow_and_its_help_no_beam():
    script = "import sys, {}; assert not {{'tensorflow', {}}} & set(sys.modules), 'imported'"
    for module, also in (("preprocess.job", "'keras'"), ("preprocess.__main__", "'apache_beam'")):
        subprocess.run([sys.executable, "-c", script.format(module, also)], check=True)


def test_stored_settings_hold_nothing_of_the_machine(small_records, tmp_path, nuclei_raw):
    config = json.loads((small_records / "info.json").read_text())["config"]
    fields = {field.name for field in dataclasses.fields(PreprocessConfig)}
    of_the_machine = {"workers", "beam", "plan_only", "overwrite", "max_rejects", "sample"}
    assert set(config) == {"layout"} | fields - of_the_machine - {"folder", "ct", "coco", "jpeg_quality"}
    assert str(nuclei_raw) not in (small_records / "info.json").read_text()

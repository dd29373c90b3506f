import dataclasses
import shutil

import pytest

from records.cache import choose_cache, decoded_bytes
from records.config import InputConfig


@pytest.fixture
def sized(small_records):
    """RecordsInfo of examples of 1 MiB: 256 Ki pixels of three channels and a mask."""
    return dataclasses.replace(small_records[1], height=512, width=512)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 7 * 512 * 512 * 4),
        ({"dtype": "uint16"}, 7 * 512 * 512 * 7),
        ({"overlapping": True}, 7 * 512 * 512 * 5),
        ({"labeled": False}, 7 * 512 * 512 * 3),
        ({"channels": 1, "dtype": "uint16", "width": 500}, 7 * 512 * 500 * 3),
        ({"height": None, "width": None}, None),
    ],
)
def test_decoded_bytes_are_those_of_images_and_masks(sized, changes, expected):
    assert decoded_bytes(dataclasses.replace(sized, **changes), 7) == expected


@pytest.mark.parametrize(
    ("num_examples", "budgets", "expected"),
    [
        (1200, (1200, 0), "memory: 1,200 decoded examples need 1,200 of 1,200 MiB"),
        (1201, (1200, 0), "none: 1,201 decoded examples need 1,201 MiB, --input.cache_mib allows 1,200"),
        (1, (0, 0), "none: 1 decoded examples need 1 MiB, --input.cache_mib allows 0"),
        (1200, (1200, 9000), "memory: 1,200 decoded examples need 1,200 of 1,200 MiB"),
        (3000, (1200, 3000), "file: 3,000 decoded examples need 3,000 of 3,000 MiB"),
        (
            3001,
            (1200, 3000),
            "none: 3,001 decoded examples need 3,001 MiB, --input.cache_mib allows 1,200 and --input.cache_file_mib "
            "3,000",
        ),
    ],
)
def test_memory_is_preferred_and_budgets_may_be_used_up(sized, tmp_path, monkeypatch, num_examples, budgets, expected):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40))
    config = InputConfig(cache_mib=budgets[0], cache_file_mib=budgets[1])
    choice, reason = choose_cache(sized, num_examples, config, tmp_path / "cache")
    assert reason == expected
    assert choice == expected.split(":")[0]


def test_a_mebibyte_begun_counts_as_one(sized, tmp_path):
    info = dataclasses.replace(sized, height=513)
    reason = choose_cache(info, 1, InputConfig(cache_mib=1), tmp_path)[1]
    assert reason == "none: 1 decoded examples need 2 MiB, --input.cache_mib allows 1"


@pytest.mark.parametrize(("free", "expected"), [(10, "file"), (9, "none")])
def test_a_file_needs_room_on_its_disk(sized, tmp_path, monkeypatch, free, expected):
    asked = []

    def disk_usage(path):
        asked.append(path)
        return shutil._ntuple_diskusage(2**40, 0, free * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder = tmp_path / "runs" / "first" / "cache"
    choice, reason = choose_cache(sized, 10, InputConfig(cache_mib=0, cache_file_mib=10), folder)
    assert choice == expected
    if choice == "none":
        assert reason == f"none: 10 decoded examples need 10 MiB, the disk of {folder} has 9 free"
    assert asked == [tmp_path]  # the folder comes later


def test_a_file_that_is_there_already_needs_no_room_of_its_own(sized, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "image.npy").write_bytes(bytes(2**20))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 0))
    config = InputConfig(cache_mib=0, cache_file_mib=10)
    assert choose_cache(sized, 1, config, tmp_path / "cache")[0] == "file"
    assert choose_cache(sized, 2, config, tmp_path / "cache")[0] == "none"


@pytest.mark.parametrize(
    ("info_changes", "config_changes", "reason"),
    [
        ({"height": None, "width": None}, {}, "none: images have several sizes"),
        ({}, {"crop": 64}, "none: other crops are decoded each time"),
        ({}, {"data_service": "host:5050"}, "none: other machines decode"),
    ],
)
def test_what_cannot_be_cached_is_told(sized, tmp_path, info_changes, config_changes, reason):
    info = dataclasses.replace(sized, **info_changes)
    assert choose_cache(info, 1, InputConfig(**config_changes), tmp_path) == ("none", reason)

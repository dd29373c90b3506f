"""Laws of mending: damaged shards alone are rewritten, without exactly the lost records."""

from pathlib import Path

import pytest

from records.damage import LostRecord
from records.info import read_info
from records.mend import DamagedShard, describe_lost, mend
from tests.records.damaging import KEYS, first_file, flip, mended, refused, starts


def test_what_is_whole_stays_where_it_is(made, tmp_path):
    folder, info, _ = made
    files = info.shard_files(str(folder), ["train", "val"])
    told = []
    assert mend(str(folder), info, files, tmp_path / "run", told.append) == (files, [])
    assert told[-1] == sum(file.num_bytes for file in files)
    assert told == sorted(told)
    assert not (tmp_path / "run").exists()
    assert describe_lost([]) == []


def test_mending_twice_gives_the_same_bytes_and_no_other_files(made, tmp_path):
    folder, info, bodies = made
    flip(first_file(folder, info).path, 8 * (starts(bodies)[1] + 50))
    first = mended(folder, info, tmp_path / "run")
    data = Path(first[0][0].path).read_bytes()
    assert mended(folder, info, tmp_path / "run") == first
    assert Path(first[0][0].path).read_bytes() == data
    assert [path.name for path in (tmp_path / "run").iterdir()] == [info.shards("train")[0].name]


def test_the_records_folder_may_be_read_with_a_cut_shard_to_be_mended(made, tmp_path):
    folder, info, _ = made
    path = Path(first_file(folder, info).path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="bytes, found"):
        read_info(str(folder))
    files, _ = mended(folder, read_info(str(folder), check_shards=False), tmp_path / "run")
    assert [(file.length, file.lost) for file in files] == [(3, (3,)), (2, ()), (1, ())]


def test_a_shard_of_which_nothing_is_left_is_left_out(made, tmp_path):
    folder, info, _ = made
    path = Path(first_file(folder, info).path)
    path.write_bytes(bytes(path.stat().st_size))
    files, (shard,) = mended(folder, info, tmp_path / "run")
    assert files == info.shard_files(str(folder), ["train", "val"])[1:]
    assert [record.key for record in shard.lost] == KEYS
    assert not (tmp_path / "run").exists()


def test_a_split_of_which_nothing_is_left_is_refused(made, tmp_path):
    folder, info, _ = made
    path = folder / info.shards("val")[0].name
    path.write_bytes(b"")
    assert "expected a sound record in split 'val', found none" in refused(folder, info, tmp_path / "run")


def test_the_lines_for_the_user_count_all_and_name_a_few(made, tmp_path):
    folder, info, bodies = made
    first, second = info.shard_files(str(folder), ["train"])
    flip(first.path, 8 * (starts(bodies)[3] + 12))
    flip(second.path, 0)
    _, damaged = mended(folder, info, tmp_path / "run")
    assert describe_lost(damaged) == [
        "1 damaged record is skipped (of 2 shards):",
        f"  {first.path}: record 3 (key 'a3'): its {len(bodies[3])} bytes fail their checksum",
        f"  {second.path}: frames are damaged, no record is lost",
    ]
    lost = tuple(LostRecord(number, f"a{number}", "gone") for number in range(5))
    assert describe_lost([DamagedShard(first, lost)]) == [
        "5 damaged records are skipped (of 1 shard):",
        f"  {first.path}: record 0 (key 'a0'): gone; record 1 (key 'a1'): gone; record 2 (key 'a2'): gone; and 2 more",
    ]


def test_a_failed_write_leaves_nothing(made, tmp_path, monkeypatch):
    folder, info, bodies = made
    flip(first_file(folder, info).path, 8 * (starts(bodies)[1] + 50))
    monkeypatch.setattr("records.mend.frame", lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mended(folder, info, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []

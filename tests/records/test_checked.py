"""Laws of the memory of shards that were found whole."""

import json
import os
import threading
from pathlib import Path

import pytest

import records.shards
from records.checked import CheckedShards
from records.mend import mend
from tests.records.rotting import check, rot


@pytest.fixture
def opened(monkeypatch):
    """Names of the shards that were opened to be checked, in order."""
    names = []
    true = records.shards.open_file

    def open_file(path):
        names.append(Path(path).name)
        return true(path)

    monkeypatch.setattr(records.shards, "open_file", open_file)
    return names


def names_of(files) -> list[str]:
    return [file.shard.name for file in files]


def test_a_whole_shard_is_read_once(own, opened):
    folder, info, files = own
    check(folder, info, files)
    assert opened == names_of(files)
    check(folder, info, files)
    assert opened == names_of(files)
    assert sorted(json.loads((folder / "checked.json").read_text())) == sorted(names_of(files))


def test_a_shard_that_rots_with_its_time_unchanged_stays_remembered_until_forgotten(own):
    folder, info, files = own
    check(folder, info, files)
    rot(files[0])
    checked = CheckedShards(str(folder), info)
    assert checked.is_whole(files[0])
    checked.forget()
    assert not (folder / "checked.json").exists()
    assert not checked.is_whole(files[0])


def test_a_shard_touched_since_or_of_another_checksum_is_read_again(own, opened):
    folder, info, files = own
    check(folder, info, files)
    opened.clear()
    os.utime(files[0].path, ns=(0, 12345))
    check(folder, info, files)
    assert opened == names_of(files[:1])
    info.splits["val"].shard_crc32c[0] = "0badf00d"
    assert not CheckedShards(str(folder), info).is_whole(files[-1])


def test_a_damaged_shard_is_not_remembered_the_others_are(own):
    folder, info, files = own
    rot(files[-1])
    with pytest.raises(ValueError, match="records damaged"):
        check(folder, info, files)
    assert set(json.loads((folder / "checked.json").read_text())) == set(names_of(files[:-1]))


@pytest.mark.parametrize("junk", [b"", b"\xff\x00", b"[1, 2]", b'{"x": 1}', b"[" * 100_000, None])
def test_junk_in_the_memory_is_ignored_and_replaced(own, opened, junk):
    folder, info, files = own
    memory = folder / "checked.json"
    # The last case: the right name, a value that is none.
    memory.write_bytes(json.dumps({files[0].shard.name: {"deep": [None]}}).encode() if junk is None else junk)
    check(folder, info, files)
    assert opened == names_of(files)
    assert set(json.loads(memory.read_text())) == set(names_of(files))


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(own, opened, monkeypatch):
    folder, info, files = own
    # A mode would not stop root.
    monkeypatch.setattr(Path, "write_text", lambda *arguments: (_ for _ in ()).throw(PermissionError("read-only")))
    before = sorted(folder.iterdir())
    check(folder, info, files)
    assert opened == names_of(files)
    assert sorted(folder.iterdir()) == before


def test_two_runs_at_once_keep_what_both_found(own):
    folder, info, files = own
    first, second = (CheckedShards(str(folder), info) for _ in range(2))
    assert first.is_whole(files[0])
    assert second.is_whole(files[-1])
    first.save()
    second.save()
    assert set(json.loads((folder / "checked.json").read_text())) == {files[0].shard.name, files[-1].shard.name}
    savers = [CheckedShards(str(folder), info) for _ in range(8)]
    for saver in savers:
        saver.forget()
        assert saver.is_whole(files[0])
    threads = [threading.Thread(target=saver.save) for saver in savers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(json.loads((folder / "checked.json").read_text())) == [files[0].shard.name]
    assert not list(folder.glob("*.tmp"))


def test_mending_uses_and_fills_the_memory(own, opened, tmp_path):
    folder, info, files = own
    mend(str(folder), info, files, tmp_path / "run", lambda num_bytes: None)
    check(folder, info, files)
    assert opened == names_of(files)

import errno
import resource

import google_crc32c
import pytest
from apache_beam.io.filesystems import FileSystems

from preprocess import storage


def test_a_file_appears_whole_with_its_length_and_checksum(tmp_path):
    path = str(tmp_path / "out")
    with storage.atomic_file(path) as file:
        file.write(b"hello ")
        file.write(b"world")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_bytes() == b"hello world"
    assert (file.bytes, file.crc32c) == (11, google_crc32c.value(b"hello world"))
    assert storage.list_files(str(tmp_path)) == {"out": 11}


def test_an_error_while_writing_leaves_nothing_and_keeps_the_old_file(tmp_path):
    storage.write_file(str(tmp_path / "out"), b"old")
    with pytest.raises(KeyError), storage.atomic_file(str(tmp_path / "out")) as file:
        file.write(b"new")
        raise KeyError("a bug")
    assert storage.list_files(str(tmp_path)) == {"out": 3}


def test_writing_twice_replaces(tmp_path):
    for content in (b"one", b"second"):
        storage.write_file(str(tmp_path / "out"), content)
    assert storage.read_file(str(tmp_path / "out")) == b"second"


def test_a_disk_that_is_full_leaves_nothing_and_says_so(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="out: cannot be written: .*nothing half-made was left"):
            storage.write_file(str(tmp_path / "out"), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert storage.list_files(str(tmp_path)) == {}


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "rename", full)
    with pytest.raises(OSError, match="out: cannot be written: No space left on device"):
        storage.write_file(str(tmp_path / "out"), b"x")
    assert storage.list_files(str(tmp_path)) == {}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file/records: the output folder cannot be made"):
        storage.make_folder(str(tmp_path / "file" / "records"))
    assert not FileSystems.exists(str(tmp_path / "file" / "records"))

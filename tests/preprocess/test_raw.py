import os
import zipfile

import pytest

from preprocess.job import open_raw
from preprocess.raw import RawFiles


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return str(path)


def test_a_directory_and_a_zip_of_it_are_the_same_tree(tmp_path):
    files = {"b/images/1.png": b"one", "a/images/2.png": b"two", "top.txt": b"three"}
    for name, data in files.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(data)
    directory = RawFiles(str(tmp_path / "raw"))
    archive = RawFiles(write_zip(tmp_path / "raw.zip", files.items()))
    assert list(directory.walk()) == list(archive.walk()) == ["top.txt", "a/images/2.png", "b/images/1.png"]
    assert directory.list_directory("a/images") == archive.list_directory("a/images") == ["a/images/2.png"]
    assert directory.list_directory("nowhere") == archive.list_directory("nowhere") == []
    for name, data in files.items():
        assert directory.read(name) == archive.read(name) == data


def test_litter_of_operating_systems_is_no_data(tmp_path):
    members = [
        ("__MACOSX/a/images/1.png", b""),
        ("a/images/._1.png", b""),
        ("a/.DS_Store", b""),
        ("a/images/1.png", b""),
    ]
    assert list(RawFiles(write_zip(tmp_path / "raw.zip", members)).walk()) == ["a/images/1.png"]


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "a/../../b.png", "C:/windows.png", "a\\..\\b.png"])
def test_a_zip_with_a_hostile_member_name_is_refused_by_name(tmp_path, name):
    path = write_zip(tmp_path / "raw.zip", [("a/images/1.png", b""), (name, b"")])
    with pytest.raises(ValueError, match="leads outside of the zip") as error:
        RawFiles(path)
    assert repr(name) in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_name_twice_is_refused(tmp_path):
    path = write_zip(tmp_path / "raw.zip", [("a.png", b"1"), ("a.png", b"2")])
    with pytest.raises(ValueError, match="'a.png' is there twice"):
        RawFiles(path)


def test_what_is_neither_directory_nor_zip_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found nothing there"):
        RawFiles(str(tmp_path / "nowhere"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="found another kind of file"):
        RawFiles(str(tmp_path / "text"))


def test_an_unreadable_directory_is_named(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def deny(path="."):  # chmod does not bind root, which tests may run as
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(ValueError, match="locked: the directory cannot be read: Permission denied"):
        list(RawFiles(str(tmp_path)).walk())


def test_a_file_that_cannot_be_read_is_an_error_of_that_file(tmp_path):
    archive = RawFiles(write_zip(tmp_path / "raw.zip", [("a.png", b"x" * 1000)]))
    data = bytearray((tmp_path / "raw.zip").read_bytes())
    data[data.index(b"xxxx") + 10] ^= 1  # the zip's own checksum fails
    (tmp_path / "raw.zip").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read: Bad CRC-32"):
        archive.read("a.png")
    with pytest.raises(ValueError, match="cannot be read"):
        RawFiles(str(tmp_path)).read("absent.png")


def test_a_directory_that_holds_the_zip_stands_for_the_zip(tmp_path):
    write_zip(tmp_path / "stage1_train.zip", [("k/images/k.png", b"")])
    assert open_raw("nuclei", str(tmp_path)).root == str(tmp_path / "stage1_train.zip")
    write_zip(tmp_path / "stage1_test.zip", [("t/images/t.png", b"")])
    assert open_raw("nuclei", str(tmp_path)).root == str(tmp_path / "stage1_train.zip")
    assert open_raw("folder", str(tmp_path)).root == str(tmp_path)  # two zips, none of that layout's name


def test_a_damaged_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "raw.zip", [("a.png", b"x" * 100)])
    data = bytearray((tmp_path / "raw.zip").read_bytes())
    data[data.index(b"PK\x01\x02")] ^= 1  # the central directory
    (tmp_path / "raw.zip").write_bytes(data)
    with pytest.raises(ValueError, match="raw.zip: the zip is damaged"):
        RawFiles(path)


def test_a_directorys_hash_is_that_of_the_zip_and_changes_with_names_and_bytes(tmp_path):
    (tmp_path / "raw/a/masks").mkdir(parents=True)
    (tmp_path / "raw/a/masks/1.png").write_bytes(b"one")
    directory = RawFiles(str(tmp_path / "raw"))
    archive = RawFiles(write_zip(tmp_path / "raw.zip", [("a/masks/1.png", b"one")]))
    before = directory.content_hash("a/masks")
    assert before == archive.content_hash("a/masks")
    (tmp_path / "raw/a/masks/1.png").write_bytes(b"two")
    changed = directory.content_hash("a/masks")
    (tmp_path / "raw/a/masks/1.png").rename(tmp_path / "raw/a/masks/2.png")
    assert len({before, changed, directory.content_hash("a/masks")}) == 3

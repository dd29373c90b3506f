"""Which files are meant by what stands on the command line, and what their predictions are called."""

import zipfile

import pytest

from inference.inputs.sources import _read_member, find_sources
from tests.conftest import make_records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "a/x.JPG", "a/b/x.png", "a/y.TIFF", "a/scan.nii.gz", "a/notes.txt", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def names(*inputs, **settings) -> list[str]:
    return [source.name for source in find_sources(inputs, **settings)]


def test_a_folder_gives_its_images_sorted_and_called_by_their_paths_in_it(folder):
    sources = find_sources(["a"])
    assert [(source.name, source.kind, source.file) for source in sources] == [
        ("b/x", "picture", "x.png"),
        ("scan", "scan", "scan.nii.gz"),
        ("x.JPG", "picture", "x.JPG"),
        ("x.png", "picture", "x.png"),
        ("y", "picture", "y.TIFF"),
    ]
    assert [source.read().decode() for source in sources] == [source.where for source in sources]


def test_patterns_keep_what_tells_files_of_equal_names_apart(folder):
    assert names("a/*.png") == ["x"]
    assert names("a/**/*.png") == ["b/x", "x"]
    assert names("*/b") == ["a/b/x"]
    assert names(f"{folder}/a/[xy].*") == ["x.JPG", "x.png", "y"]
    (folder / "a/y.TIFF").rename(folder / "a/[y].TIFF")
    assert names("a/[y].TIFF") == ["[y]"]


def test_each_file_comes_once_and_no_two_names_are_equal(folder):
    assert names("a/x.png", "./a/x.png", str(folder / "a" / "x.png"), "a/b/../x.png") == ["x"]
    assert names("a/x.png", "a/b/x.png") == ["x", "x-2"]
    (folder / "x-2.png").write_bytes(b"")
    assert names("a/x.png", "a/b/x.png", "x-2.png") == ["x", "x-2", "x-2-2"]


def test_zips_are_read_in_place(folder):
    with zipfile.ZipFile("all.zip", "w") as archive:
        for name in ("deep/x.png", "deep/y.PNG", "__MACOSX/deep/._x.png", "__MACOSX/x.png", "deep/notes.txt"):
            archive.writestr(name, name)
    sources = find_sources(["all.zip"])
    assert [(source.name, source.where) for source in sources] == [
        ("deep/x", "all.zip:deep/x.png"),
        ("deep/y", "all.zip:deep/y.PNG"),
    ]
    assert sources[1].read() == b"deep/y.PNG"


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_zips_whose_names_lead_out_are_refused(folder, name):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match=r"evil.zip: expected names below the zip's root, found .*x.png"):
        find_sources(["evil.zip"])


def test_a_damaged_member_is_a_value_error_when_it_is_read(folder):
    with zipfile.ZipFile("all.zip", "w") as archive:
        archive.writestr("x.png", b"0123456789")
    data = bytearray((folder / "all.zip").read_bytes())
    data[data.index(b"0123456789")] ^= 1
    (folder / "all.zip").write_bytes(data)
    (source,) = find_sources(["all.zip"])
    with pytest.raises(ValueError, match="the zip is damaged there: Bad CRC-32"):
        source.read()
    (folder / "all.zip").write_bytes(data[:20])
    with pytest.raises(ValueError, match="all.zip: the zip is damaged"):
        find_sources(["all.zip"])


def test_records_are_a_source_of_as_many_images_as_they_hold(nuclei_records, nuclei_raw, tmp_path):
    (source,) = find_sources([str(nuclei_records)])
    assert (source.name, source.kind, source.images) == ("nuclei", "records", 24)
    make_records("nuclei", nuclei_raw, tmp_path / "like.png", size=32)
    assert find_sources([str(tmp_path / "like.png")])[0].kind == "records"


def test_earlier_predictions_in_a_folder_are_no_inputs(folder):
    (folder / "a/out/masks").mkdir(parents=True)
    (folder / "a/out/masks/x.png").write_bytes(b"")
    assert "out/masks/x" in names("a")
    assert "out/masks/x" not in names("a", leave_out="a/b/../out")
    assert names("a/out", leave_out="a/outer") == ["masks/x"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.png", "'none.png': expected a picture, .* found nothing there"),
        ("*.jp2", "found nothing there"),
        ("", "found nothing there"),
        ("a/notes.txt", r"a/notes.txt: expected a file that ends in one of .png, .*.zip, found .txt"),
        ("empty", r"empty: expected pictures or scans .* found none"),
    ],
)
def test_what_is_no_input_is_refused_by_name(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        find_sources([name])


def test_a_member_that_is_larger_than_memory_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("inference.inputs.sources._MOST_MEMBER_BYTES", 2**30)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.png", b"small")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.getinfo("x.png").file_size = 3 * 2**30
        with pytest.raises(ValueError, match="expected at most 1 GiB, found 3.0; unpack the zip"):
            _read_member(archive, "x.png")

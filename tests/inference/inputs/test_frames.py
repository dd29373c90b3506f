"""Files of all kinds become what a model takes; those that cannot are told, and the rest comes in order."""

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.codec import encode_png
from inference.inputs.frames import read_frames
from inference.inputs.sources import find_sources
from inference.run import TrainedModel
from records.info import read_info
from tests.conftest import make_records
from tests.records.damaging import flip

HU = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}
STORED = {"offset": 0, "slope": 1, "unit": "stored value", "transform": "none"}


def model_of(channels=3, dtype="uint8", intensity=STORED, **settings) -> TrainedModel:
    settings = {"size": (8, 8), "stretched": True, **settings}
    return TrainedModel(None, ["background", "x"], channels, dtype, "", intensity=intensity, **settings)


def read(trained, *inputs):
    """Returns (frames, reasons of failure by where)."""
    failed = {}

    def fail(source, reason):
        failed[source.where] = reason

    return list(read_frames(find_sources(map(str, inputs)), trained, fail)), failed


def png(pixels, mode=None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else image).save(file, "PNG")
    return file.getvalue()


GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
COLOUR = np.repeat(GREY[..., None], 3, -1)
KINDS = {
    "grey": png(GREY),
    "rgb": png(COLOUR),
    "rgba": png(np.dstack([COLOUR, GREY])),
    "palette": png(GREY, "P"),
    "wide": encode_png(GREY.astype(np.uint16) * 257),
    "wide_rgb": encode_png(COLOUR.astype(np.uint16) * 257),
}


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16"), (3, "uint16")])
def test_every_kind_of_picture_becomes_the_models(tmp_path, channels, dtype):
    for name, data in KINDS.items():
        (tmp_path / f"{name}.PNG").write_bytes(data)
    frames, failed = read(model_of(channels, dtype, size=None, stretched=False, crop=8), tmp_path)
    assert failed == {} and [frame.name for frame in frames] == sorted(KINDS)
    expected = np.repeat(GREY[..., None].astype(dtype) * (257 if dtype == "uint16" else 1), channels, -1)
    for frame in frames:
        assert frame.pixels.dtype == dtype and frame.image.shape[:2] == (6, 9)
        np.testing.assert_array_equal(frame.pixels, expected, frame.name)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2)])
@pytest.mark.parametrize("transform", ["none", "stretch", "equalize", "clahe"])
def test_images_of_any_shape_are_prepared(tmp_path, size, transform):
    (tmp_path / "x.png").write_bytes(encode_png(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)))
    (frame,), failed = read(model_of(intensity=STORED | {"transform": transform}), tmp_path)
    assert failed == {} and frame.pixels.shape == (8, 8, 3) and frame.image.shape == (*size, 3)


def scan_file(path: Path, shape=(4, 5, 3)) -> np.ndarray:
    stored = np.random.default_rng(1).integers(-32768, 32768, shape).astype(np.int16)
    path.write_bytes(nib.Nifti1Image(stored, np.diag([0.5, 0.75, 2, 1])).to_bytes())
    return stored


def test_slices_come_from_the_lowest_up_and_know_their_distances(tmp_path):
    stored = scan_file(tmp_path / "a.nii")
    frames, failed = read(model_of(1, "uint16", HU), tmp_path)
    assert failed == {} and [(frame.name, frame.index) for frame in frames] == [("a", 0), ("a", 1), ("a", 2)]
    for frame in frames:
        # Columns go from right to left, rows from front to back; 0 HU is 32768.
        expected = stored[::-1, ::-1, frame.index].T.astype(int) + 32768
        np.testing.assert_array_equal(frame.image[..., 0], expected)
        assert frame.spacing_mm == (0.75, 0.5, 2.0) and frame.scan.num_slices == 3


def test_scans_and_pictures_are_not_taken_for_each_other(tmp_path):
    scan_file(tmp_path / "a.nii")
    (tmp_path / "b.png").write_bytes(KINDS["wide"])
    for trained, kept, wrong in (
        (model_of(1, "uint16", HU), "a", "b.png"),
        (model_of(1, "uint16", STORED), "b", "a.nii"),
        (model_of(3, "uint8", None), "b", "a.nii"),
    ):
        frames, failed = read(trained, tmp_path)
        assert {frame.name for frame in frames} == {kept} and list(failed) == [str(tmp_path / wrong)]


def test_a_slice_that_fails_ends_its_scan_and_nothing_else(tmp_path, monkeypatch):
    scan_file(tmp_path / "a.nii")
    scan_file(tmp_path / "b.nii")
    from inference.inputs import frames as module

    calls = []

    def prepare(image, trained):
        calls.append(image)
        if len(calls) == 2:
            raise ValueError("this slice\nis odd")
        return image

    monkeypatch.setattr(module, "prepare", prepare)
    frames, failed = read(model_of(1, "uint16", HU), tmp_path)
    assert [(frame.name, frame.index) for frame in frames] == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    assert failed == {str(tmp_path / "a.nii"): "this slice is odd"}


def test_files_are_read_ahead_but_few(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02}.png").write_bytes(KINDS["grey"])
    read_at = []
    sources = find_sources([str(tmp_path)])
    watched = [source._replace(read=lambda one=source: read_at.append(one) or one.read()) for source in sources]
    frames = read_frames(watched, model_of(), lambda *_: None)
    assert next(frames).name == "00" and len(read_at) <= 6
    assert [frame.name for frame in frames] == [f"{number:02}" for number in range(1, 40)]


def test_a_damaged_shard_of_records_costs_its_own_images_only(nuclei_raw, tmp_path):
    folder = tmp_path / "records"
    make_records("nuclei", nuclei_raw, folder, size=32, unlabeled=True, near_duplicates=None)
    info = read_info(str(folder))
    trained = model_of(info.channels, info.dtype, info.intensity, size=(32, 32))
    whole, failed = read(trained, folder)
    assert len(whole) == 24 and failed == {}
    assert all(frame.where == f"{folder}:{frame.name.removeprefix('records/')}" for frame in whole)
    shards = [folder / shard.name for shard in info.shards("test")]
    flip(shards[0], 8 * shards[0].stat().st_size - 100)  # in its last record
    part, failed = read(trained, folder)
    assert list(failed) == [str(shards[0])] and len(part) == 23
    names = {frame.name for frame in part}
    assert [frame.name for frame in part] == [frame.name for frame in whole if frame.name in names]

"""predict.py from the command line to files: what it makes of raw images is what test.py makes of their records."""

import csv
import dataclasses
import errno
import io
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from imaging.codec import encode_png
from imaging.rle import decode_rle
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import read_info
from tests.conftest import make_records, predictor_of, silent_progress, untrained_run

ROOT = Path(__file__).parents[1]
SIZES = [(40, 56), (16, 16), (64, 33), (9, 70), (50, 20)]
HU = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}
STORED = {"offset": 0, "slope": 1, "unit": "stored value", "transform": "none"}


def blurring(channels=3, dtype="uint8", middle=125.0, **settings) -> TrainedModel:
    """A model without weights of training: class 1 where the mean of 5x5 pixels is above the middle."""
    inputs = keras.Input([None, None, channels])
    kernel = np.full((5, 5, channels, 1), 0.2 / 25 / channels, np.float32)
    mean = keras.layers.Conv2D(1, 5, padding="same", use_bias=False)
    logits = keras.layers.Rescaling(1.0, -0.2 * middle)(mean(inputs))
    mean.set_weights([kernel])
    known = {"channels": channels, "dtype": dtype, "fingerprint": "", "intensity": STORED}
    return TrainedModel(keras.Model(inputs, logits), ["background", "blob"], **{**known, **settings})


def image_of(number: int) -> np.ndarray:
    """A picture of blobs, uint8 RGB."""
    noise = np.random.default_rng(number).random((*SIZES[number], 3))
    return (255 * (scipy.ndimage.gaussian_filter(noise, (2, 2, 0)) - 0.3).clip(0, 0.4) / 0.4).astype(np.uint8)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw data in the folder layout, of images of several sizes; read only."""
    folder = tmp_path_factory.mktemp("predict") / "raw"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(len(SIZES)):
        image = image_of(number)
        (folder / "images" / f"scan{number}.png").write_bytes(encode_png(image))
        (folder / "masks" / f"scan{number}.png").write_bytes(encode_png((image[..., 0] > 125).astype(np.uint8)))
    return folder


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Returns a function of a model and arguments that runs predict.py, and returns its exit code."""

    def run(trained: TrainedModel, *arguments) -> int:
        monkeypatch.setattr("inference.predictor.load_run", lambda run: trained)
        monkeypatch.setattr("training.run_folder.read_config", lambda run: {})
        command = ["predict.py", str(tmp_path / "run"), *map(str, arguments), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", command)
        return runpy.run_path("predict.py")["main"]()

    return run


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def masks_of(path) -> dict[str, np.ndarray]:
    return {one.stem: np.array(Image.open(one)) for one in path.glob("*.png")}


WAYS = {
    "stretched": ({"size": 32}, {"size": (32, 32), "stretched": True}),
    "native, crops": ({"size": None}, {"crop": 16, "multiple": 8}),
    "tiles": ({"size": 16, "tile": True, "tile_overlap": 8}, {"size": (16, 16)}),
    "tiles, contrast": ({"size": 16, "tile": True, "tile_overlap": 8, "intensity": "equalize"}, {"size": (16, 16)}),
}


@pytest.mark.parametrize("way", WAYS)
def test_raw_images_give_what_their_records_give_at_the_original_size(raw, predict, tmp_path, way):
    of_records, of_model = WAYS[way]
    make_records(
        "folder", raw, tmp_path / "records", classes=["background", "blob"], splits=Splits(0.0, 0.0, 1.0), **of_records
    )
    info = read_info(str(tmp_path / "records"))
    trained = blurring(**of_model, intensity=info.intensity)
    config = EvalConfig(batch_size=3, pictures=0, distances=False, submission="nuclei")
    evaluate(predictor_of(trained), str(tmp_path / "records"), info, tmp_path / "eval", config, silent_progress)
    expected = {f"scan{number}": np.zeros(size, int) for number, size in enumerate(SIZES)}
    for row in rows_of(tmp_path / "eval" / "submission.csv"):
        expected[row["ImageId"]] += decode_rle(row["EncodedPixels"], *expected[row["ImageId"]].shape)
    assert predict(trained, raw / "images", "--batch_size", "3", "--save", "[mask]") == 0
    found = masks_of(tmp_path / "out" / "masks")
    assert sorted(found) == sorted(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask)
        assert 0 < mask.mean() < 1, name


def test_a_submission_of_raw_images_is_that_of_their_records(raw, predict, tmp_path, capsys):
    make_records("folder", raw, tmp_path / "records", size=32, unlabeled=True, near_duplicates=None)
    info = read_info(str(tmp_path / "records"))
    trained = blurring(size=(32, 32), stretched=True, intensity=info.intensity)
    sample = tmp_path / "sample.csv"
    for form, ending in (("nuclei", ""), ("airbus", ".png")):
        ids = [f"scan{number}{ending}" for number in (3, 0, 4)]
        sample.write_text("\n".join(["ImageId,EncodedPixels", *(f"{one},1 1" for one in ids)]) + "\n")
        config = EvalConfig(batch_size=2, pictures=0, submission=form, sample=str(sample))
        evaluate(predictor_of(trained), str(tmp_path / "records"), info, tmp_path / form, config, silent_progress)
        assert predict(trained, raw / "images", "--to", "submission", "--sample", sample, "--save", "[]") == 0
        assert f"of {form}; left out 2 inputs" in capsys.readouterr().out
        assert (tmp_path / "out/submission.csv").read_bytes() == (tmp_path / form / "submission.csv").read_bytes()
        assert [row["name"] for row in rows_of(tmp_path / "out/predictions.csv")] == ["scan0", "scan3", "scan4"]


def test_records_are_predicted_at_their_size_with_areas_of_their_pixels(raw, predict, tmp_path):
    make_records("folder", raw, tmp_path / "mine", size=32, unlabeled=True, near_duplicates=None)
    info = read_info(str(tmp_path / "mine"))
    trained = blurring(size=(32, 32), stretched=True, intensity=info.intensity)
    assert predict(trained, tmp_path / "mine") == 0
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert sorted(row["name"] for row in rows) == [f"mine/scan{number}" for number in range(len(SIZES))]
    assert {mask.shape for mask in masks_of(tmp_path / "out/masks/mine").values()} == {(32, 32)}
    smaller = dataclasses.replace(trained, size=(16, 16))
    assert predict(smaller, tmp_path / "mine", raw / "images") == 1
    (failed,) = rows_of(tmp_path / "out" / "failed.csv")
    assert failed["file"] == str(tmp_path / "mine") and "records of 16x16" in failed["reason"]
    grey = blurring(1, size=(32, 32), stretched=True, intensity=info.intensity)
    assert predict(grey, tmp_path / "mine", raw / "images") == 1
    (failed,) = rows_of(tmp_path / "out" / "failed.csv")
    assert "records with channels 1" in failed["reason"]


def test_one_bad_file_is_told_and_the_rest_goes_on(raw, predict, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "mixed.zip", "w") as archive:
        for name, data in (
            ("a.png", encode_png(image_of(0))),
            ("b.png", encode_png(image_of(1))[:60]),
            ("c.TIF", b"II*\x00rubbish"),
            ("d.nii", bytes(400)),
            ("e.png", encode_png(image_of(2))),
            (f"{'long' * 70}.png", encode_png(image_of(3))),
        ):
            archive.writestr(name, data)
    trained = blurring(size=(32, 32), stretched=True)
    assert predict(trained, tmp_path / "mixed.zip", "--batch_size", "1") == 1
    assert [row["name"] for row in rows_of(tmp_path / "out/predictions.csv")] == ["a", "e"]
    assert sorted(masks_of(tmp_path / "out/overlays")) == ["a", "e"]
    failed = {row["file"].partition(":")[2]: row["reason"] for row in rows_of(tmp_path / "out/failed.csv")}
    assert sorted(failed) == ["b.png", "c.TIF", "d.nii", f"{'long' * 70}.png"]
    said = capsys.readouterr().out
    assert all(reason in said for reason in failed.values()) and "failed     4 of 6, see" in said
    assert "truncated" in failed["b.png"] and "expected a picture" in failed["d.nii"]
    assert predict(trained, raw / "images") == 0
    assert not (tmp_path / "out/failed.csv").exists()


def test_files_together_give_what_each_gives_alone_in_their_order(raw, predict, tmp_path):
    trained = blurring(crop=16, multiple=8)
    paths = [raw / "images" / f"scan{number}.png" for number in (3, 1, 4, 0, 2)]
    alone, rows = {}, []
    for path in paths:
        assert predict(trained, path) == 0
        alone |= masks_of(tmp_path / "out/masks")
        rows += rows_of(tmp_path / "out/predictions.csv")
    assert len(alone) == len(paths)
    for batch_size in (1, 3, 7):
        for mask in (tmp_path / "out/masks").iterdir():
            mask.unlink()
        assert predict(trained, *paths, "--batch_size", str(batch_size)) == 0
        together = masks_of(tmp_path / "out/masks")
        assert together.keys() == alone.keys()
        for name, mask in alone.items():
            np.testing.assert_array_equal(together[name], mask)
        assert rows_of(tmp_path / "out/predictions.csv") == rows


def test_a_scan_becomes_a_mask_on_its_own_grid_with_its_volume(predict, tmp_path):
    stored = np.random.default_rng(0).integers(-1000, 1000, (20, 24, 5)).astype(np.int16)
    affine = np.array([[-0.5, 0, 0, 9], [0, -0.75, 0, 4], [0, 0, 4.0, -3], [0, 0, 0, 1]])
    (tmp_path / "scan.NII.GZ").write_bytes(nib.Nifti1Image(stored, affine).to_bytes())
    (tmp_path / "picture.png").write_bytes(encode_png(image_of(0)))
    trained = blurring(1, "uint16", middle=32768.0 + 30, crop=16, multiple=8, intensity=HU, window=(0, 65535))
    assert predict(trained, tmp_path / "scan.NII.GZ", tmp_path / "picture.png", "--overlap", "0") == 1
    mask = nib.load(tmp_path / "out/masks/scan.nii.gz")
    np.testing.assert_allclose(mask.affine, affine, atol=1e-6)
    (row,) = rows_of(tmp_path / "out/predictions.csv")
    found = np.asanyarray(mask.dataobj)
    assert int(row["pixels"]) == found.sum() and 0.05 < found.mean() < 0.95
    assert float(row["volume_ml"]) == pytest.approx(found.sum() * 0.5 * 0.75 * 4 / 1000)
    inner = np.stack([scipy.ndimage.uniform_filter(stored[..., z].astype(float), 5) > 30 for z in range(5)], -1)
    # Away from edges of the tiles, which lie in the body's right and front corner.
    np.testing.assert_array_equal(found[2:14, 2:14], inner[2:14, 2:14])
    (failed,) = rows_of(tmp_path / "out/failed.csv")
    assert "expected a CT scan" in failed["reason"]


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({"task": "classify"}, [], "expected a run that segments, found one of --task classify"),
        ({}, ["--to", "submission"], "to: expected --sample with --to submission"),
        ({}, ["--sample", "sample.csv"], "sample: expected --to submission with it"),
        ({}, ["none.png"], "'none.png': expected a picture"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(raw, predict, tmp_path, changed, arguments, message):
    trained = blurring(size=(32, 32), stretched=True, **changed)
    with pytest.raises(ValueError, match=message) as error:
        predict(trained, raw / "images", *arguments)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_refused(raw, predict, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out: expected a folder, found the file"):
        predict(blurring(), raw / "images")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_ends_it_and_nothing_looks_finished(raw, predict, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    plainly = Path.open

    def open_full(path, mode="r", **settings):
        if path.suffix != ".part":
            return plainly(path, mode, **settings)
        path.touch()
        return Full()

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left"):
        predict(blurring(size=(32, 32), stretched=True), raw / "images", "--save", "[mask,coco,rle]")
    monkeypatch.undo()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.slow  # processes that import TensorFlow
def test_two_devices_give_the_files_of_one(raw, nuclei_records, tmp_path):
    run = untrained_run(nuclei_records, tmp_path)
    for devices in (1, 2):
        flags = [f"--virtual_replicas={devices}", "--threshold=0.5", "--batch_size=4", "--save=[mask,probability]"]
        command = [sys.executable, str(ROOT / "predict.py"), str(run), str(raw / "images"), *flags]
        subprocess.run([*command, "--out", f"{devices}"], cwd=tmp_path, check=True, capture_output=True)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.png"))
    assert len(files) == 2 * len(SIZES)
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()

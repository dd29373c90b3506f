"""Images in strips: what predicting the whole in memory gives, in files that lie where the image does."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
import rasterio
import tensorflow as tf
from rasterio.features import rasterize
from tensorflow import keras

from imaging.codec import decode_image, encode_png
from imaging.objects import label_objects
from inference.gate import Gate
from inference.images import decide, predict_images, prepare
from inference.large.predict import predict_large
from inference.large.sources import is_large, left_out
from inference.large.tiles import read_tiles
from inference.postprocess import Steps
from inference.run import TrainedModel
from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet
from tests.conftest import predictor_of
from tests.imaging.test_raster import write_tiff

CLASSES = {"one": ["background", "cell"], "three": ["sky", "tree", "road"], "overlapping": ["fish", "sand", "weed"]}
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 5_000_000)}


def blobs(height: int, width: int, dtype="uint8", channels: int = 3) -> np.ndarray:
    """Spots that differ in size and brightness, on noise."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    bright = np.zeros((height, width))
    for _ in range(height * width // 400):
        centre, radius = rng.random(2) * (height, width), rng.uniform(1, 9)
        bright += rng.uniform(60, 160) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / radius**2)
    noisy = bright[..., None] * rng.uniform(0.5, 1, channels) + rng.uniform(0, 40, (height, width, channels))
    return (noisy.clip(0, 255) * (257 if dtype == "uint16" else 1)).astype(dtype)


def trained(kind="one", crop: int | None = 32, **settings) -> TrainedModel:
    """A U-Net of random weights."""
    classes, overlapping = CLASSES[kind], kind == "overlapping"
    settings = {"channels": 3, "dtype": "uint8", **settings}
    network, scale = ModelConfig(depth=1, filters=4), 1 if settings["dtype"] == "uint8" else 257
    labels, channels = Labels(len(classes), overlapping), settings["channels"]
    model = build_unet(network, channels, labels, [60.0 * scale] * channels, [60.0 * scale] * channels, seed=3)
    return TrainedModel(model, classes, fingerprint="", overlapping=overlapping, crop=crop, multiple=2, **settings)


def whole(predictor, image: np.ndarray, batch_size: int):
    """Returns the prediction of an image in memory."""
    images = [(0, prepare(image, predictor.trained))]
    ((_, probabilities, cleared),) = predict_images(predictor, images, batch_size)
    return decide(predictor, probabilities, *image.shape[:2], cleared)


def large(predictor, path, folder, kinds=("mask", "probability", "contours", "overlay"), batch_size=5) -> dict:
    reports = []
    row = predict_large(path, "a/b", predictor, folder, kinds, batch_size, lambda *done: reports.append(done))
    assert reports[-1][0] == reports[-1][1] == max(reports)[0]
    assert not list(folder.rglob("*.part")), "nothing half-made stays"
    return row


def read(path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def halves(model, image, **steps):
    """Returns (the predictor with thresholds that leave about half of every class, its prediction in memory)."""
    probabilities = whole(predictor_of(model), image, 5).probabilities
    outputs = {number: number if probabilities.shape[-1] > 1 else 0 for number in model.scored_classes}
    chosen = {number: Steps(float(np.median(probabilities[..., one])), **steps) for number, one in outputs.items()}
    predictor = predictor_of(model, postprocess=chosen)
    return predictor, decide(predictor, probabilities, *image.shape[:2], False)


@pytest.mark.parametrize(
    ("kind", "height", "width"),
    [("one", 300, 70), ("three", 40, 290), ("overlapping", 90, 21), ("three", 20, 50), ("overlapping", 32, 32)],
)
def test_strips_give_what_the_whole_gives(tmp_path, kind, height, width):
    image, model = blobs(height, width), trained(kind)
    predictor, expected = halves(model, image, opening=1)
    row = large(predictor, write_tiff(tmp_path / "a.tif", image), tmp_path)
    for position, (number, name) in enumerate(model.scored_classes.items()):
        probability = expected.probabilities[..., number if len(model.classes) > 2 else 0]
        stored = read(tmp_path / f"probabilities/a/b.{name}.tif")
        np.testing.assert_array_equal(stored, np.rint(probability * 65535).astype(np.uint16))
        area = expected.mask >> number & 1 > 0 if kind == "overlapping" else expected.mask == number
        if kind == "overlapping":
            np.testing.assert_array_equal(read(tmp_path / f"masks/a/b.{name}.tif"), area)
        behind = f"/{name}" if len(model.scored_classes) > 1 else ""
        assert row[f"pixels{behind}"] == area.sum()
        assert row[f"objects{behind}"] == label_objects(area).max()
        assert 0 < area.sum() < area.size or position
    if kind != "overlapping":
        np.testing.assert_array_equal(read(tmp_path / "masks/a/b.tif"), expected.mask)
    assert (row["height"], row["width"], row["cleared"]) == (height, width, False)


@pytest.mark.parametrize("transform", ["none", "stretch", "equalize"])
@pytest.mark.parametrize(("stored", "channels"), [("uint8", 1), ("uint16", 3)])
def test_tiles_are_those_of_the_prepared_image(tmp_path, transform, stored, channels):
    image = blobs(100, 50, stored, channels)
    intensity = {"transform": transform, "unit": None}
    for model in (
        trained(intensity=intensity),
        trained(crop=None, size=(64, 64), intensity=intensity, dtype="uint16", channels=1),
    ):
        predictor, path = predictor_of(model), write_tiff(tmp_path / "a.tif", image)
        prepared = prepare(image, model)
        fill = 0 if model.crop else prepared.min()
        count = 0
        for pixels, window in read_tiles(path, model, predictor.tile_overlap):
            expected = np.full((model.tile, model.tile, model.channels), fill, model.dtype)
            inside = prepared[window.y : window.y + window.height, window.x : window.x + window.width]
            expected[: window.height, : window.width] = inside
            np.testing.assert_array_equal(pixels, expected)
            count += 1
        assert count == (18 if model.crop else 3)


def constant(value: float) -> TrainedModel:
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Rescaling(0.0, float(np.log(value / (1 - value))))(inputs[..., :1])
    return TrainedModel(keras.Model(inputs, logits), CLASSES["one"], 3, "uint8", "", crop=32)


def test_a_model_that_always_says_the_same_leaves_no_seam(tmp_path):
    path = write_tiff(tmp_path / "a.tif", blobs(150, 77))
    large(predictor_of(constant(0.3)), path, tmp_path)
    assert len(np.unique(read(tmp_path / "probabilities/a/b.cell.tif"))) == 1
    assert not read(tmp_path / "masks/a/b.tif").any()


class Half(keras.layers.Layer):
    """Clears tiles whose first pixel is dark."""

    def call(self, images):
        return tf.cast(images[:, :1, :1, :1], tf.float32) - 100


@pytest.mark.parametrize("dark", [0, 60, 200])
def test_a_gate_clears_tiles_as_in_memory(tmp_path, dark):
    image = np.full((200, 40, 3), 200, np.uint8)
    image[:dark] = 10
    inputs = keras.Input([None, None, 3])
    gate = Gate(keras.Model(inputs, Half()(inputs)), 0.5)
    predictor = predictor_of(constant(0.9), gate=gate)
    row = large(predictor, write_tiff(tmp_path / "a.tif", image), tmp_path)
    expected = whole(predictor, image, 5)
    np.testing.assert_array_equal(read(tmp_path / "masks/a/b.tif"), expected.mask)
    assert row["cleared"] == expected.cleared == (dark == 200)
    assert expected.mask.any() == (dark < 200)


def test_what_is_written_lies_where_the_image_lies(tmp_path):
    image, model = blobs(280, 60), trained()
    predictor, _ = halves(model, image, opening=1)
    row = large(predictor, write_tiff(tmp_path / "a.tif", image, **UTM), tmp_path)
    for path in ("masks/a/b.tif", "probabilities/a/b.cell.tif"):
        with rasterio.open(tmp_path / path) as file:
            assert (file.crs.to_epsg(), file.transform) == (32633, UTM["transform"])
            assert file.compression.name == "deflate" and file.shape == (280, 60)
    with rasterio.open(tmp_path / "masks/a/b.tif") as file:
        assert file.colormap(1)[0][:3] == (0, 0, 0) and file.colormap(1)[1][:3] == (255, 80, 20)
        mask = file.read(1)
    assert row["area_m2"] == 4 * row["pixels"] == 4 * mask.sum()
    features = json.loads((tmp_path / "contours/a/b.geojson").read_text())["features"]
    assert sum(feature["properties"]["pixels"] for feature in features) == mask.sum()
    back = [
        rasterio.warp.transform_geom("EPSG:4326", "EPSG:32633", feature["geometry"], precision=3)
        for feature in features
    ]
    np.testing.assert_array_equal(rasterize(back, mask.shape, transform=UTM["transform"]), mask)


@pytest.mark.parametrize("kind", list(CLASSES))
def test_outlines_without_georeference_are_in_pixels(tmp_path, kind):
    image, model = blobs(64, 90), trained(kind)
    predictor, prediction = halves(model, image)
    row = large(predictor, write_tiff(tmp_path / "a.tif", image), tmp_path, kinds=("contours",))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["contours"]
    assert "area_m2" not in row
    expected = prediction.mask
    features = json.loads((tmp_path / "contours/a/b.geojson").read_text())["features"]
    for number, name in model.scored_classes.items():
        polygons = [feature["geometry"] for feature in features if feature["properties"]["class"] == name]
        area = expected >> number & 1 if kind == "overlapping" else expected == number
        found = rasterize(polygons, area.shape) if polygons else np.zeros(area.shape)
        np.testing.assert_array_equal(found, area)


def test_the_overlay_is_small_and_shows_every_object(tmp_path, monkeypatch):
    monkeypatch.setattr("inference.large.predict.PREVIEW_SIDE", 50)
    monkeypatch.setattr("inference.large.files.PREVIEW_SIDE", 50)
    image = np.full((300, 120, 3), 20, np.uint8)
    image[100, 7] = 255  # a single pixel
    inputs = keras.Input([None, None, 3])
    model = keras.Model(inputs, keras.layers.Rescaling(0.1, -10)(inputs[..., :1]))
    predictor = predictor_of(TrainedModel(model, CLASSES["one"], 3, "uint8", "", crop=32))
    row = large(predictor, write_tiff(tmp_path / "a.tif", image), tmp_path, kinds=("overlay",))
    assert row["pixels"] == row["objects"] == 1
    shown = decode_image((tmp_path / "overlays/a/b.png").read_bytes())
    assert shown.shape == (50, 20, 3)
    np.testing.assert_array_equal(np.argwhere((shown == (255, 80, 20)).all(-1)), [[16, 1]])


def test_memory_does_not_grow_with_the_height(tmp_path):
    def peak(height: int) -> int:
        path = write_tiff(tmp_path / f"{height}.tif", np.zeros((height, 300, 3), np.uint8), tiled=True)
        tracemalloc.start()
        large(predictor_of(constant(0.3)), path, tmp_path, kinds=("mask", "probability"), batch_size=16)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(300)  # what is made once
    small, tall = peak(600), peak(2400)
    assert tall < 1.3 * small and tall < 2400 * 300 * 8, "the sums of the whole would take more"


def test_a_damaged_file_leaves_nothing_behind(tmp_path):
    path = write_tiff(tmp_path / "a.tif", blobs(300, 64), compress="deflate", blockysize=16)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(4000) + data[len(data) // 2 + 4000 :])
    with pytest.raises(ValueError, match="the TIFF is damaged"):
        predict_large(path, "a", predictor_of(constant(0.3)), tmp_path / "out", ("mask", "probability"), 4, print)
    assert not [found for found in (tmp_path / "out").rglob("*") if found.is_file()]


def test_models_that_take_no_parts_are_refused_in_one_line(tmp_path):
    path = write_tiff(tmp_path / "a.tif", blobs(40, 40))
    stretched = trained(crop=None, size=(32, 32), stretched=True)
    clahe = trained(intensity={"transform": "clahe", "unit": None})
    scans = trained(intensity={"transform": "none", "unit": "HU"})
    for model, message in (
        (stretched, "expected an image that fits into memory: the model knows whole images stretched to one size"),
        (clahe, "expected the intensity none, stretch or equalize for an image in parts, found clahe"),
        (scans, "expected a CT scan .* found a TIFF"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_large(path, "a", predictor_of(model), tmp_path / "out", ("mask",), 4, print)
    assert not (tmp_path / "out").exists()


def test_an_image_is_large_by_its_header(tmp_path):
    tiff = write_tiff(tmp_path / "a.tif", blobs(40, 50))
    png = tmp_path / "a.png"
    png.write_bytes(encode_png(blobs(40, 50)))
    assert is_large(tiff, 0.002) and not is_large(tiff, 0.0021)
    assert not is_large(png, 0.0021) and not is_large(tiff.read_bytes(), 0.0021) and not is_large(b"", 0.001)
    with pytest.raises(ValueError, match="expected fewer than 0.002 million pixels .* convert it to a TIFF in tiles"):
        is_large(png, 0.002)
    with pytest.raises(ValueError, match="in a zip; unpack it, and give a TIFF by its path"):
        is_large(tiff.read_bytes(), 0.002)


def test_what_is_not_written_is_told():
    predictor = predictor_of(constant(0.3))
    assert left_out(predictor, ("mask", "overlay", "probability", "contours")) == []
    assert left_out(predictor, ("mask", "coco", "rle")) == ["of large images are not written: coco, rle"]
    split = predictor_of(constant(0.3), postprocess={1: Steps(split=4)})
    assert left_out(split, ()) == ["objects of large images that touch are one: split is not made"]


def test_rows_of_numbers_go_into_one_table_with_those_of_other_images(tmp_path):
    """The columns are those of `Summary`."""
    from inference.inputs.frames import Frame
    from inference.outputs.found import Found
    from inference.outputs.table import Summary

    image, model = blobs(70, 40), trained("three")
    predictor = predictor_of(model)
    row = large(predictor, write_tiff(tmp_path / "a.tif", image), tmp_path, kinds=())
    summary = Summary(tmp_path, model)
    found = Found(Frame("a/b", str(tmp_path / "a.tif"), image, image), whole(predictor, image, 5), model)
    assert summary.write(found) == row
    summary.collect(row)
    summary.close()
    with (tmp_path / "predictions.csv").open() as file:
        assert next(csv.DictReader(file))["name"] == "a/b"

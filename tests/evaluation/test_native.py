"""Models trained on crops are judged in tiles, image by image; of records that keep their images' sizes, too."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorflow import keras

from evaluation import judging
from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from imaging.codec import decode_image, decode_mask, encode_png
from inference.run import TrainedModel, check_fits
from preprocess.config import Splits
from records.info import RecordsInfo, read_info
from records.schema import IGNORE, decode
from records.shards import read_shard
from tests.conftest import make_records, predictor_of, silent_progress

SIZES = [(20, 50), (16, 16), (5, 40), (33, 7), (48, 31)]
TILE = 16


def write_images(folder: Path, masks: bool) -> None:
    """Raw data in the folder layout: bright blobs, dark towards one side, some pixels ignored."""
    for name in ("images", "masks") if masks else ("images",):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        mask = np.zeros([height, width], np.uint8)
        mask[height // 3 :, width // 4 : width // 2] = 1
        image = generator.integers(0, 60, [height, width, 3]) + 70 * mask[..., None] + np.arange(width)[:, None]
        mask[: number + 1, :3] = IGNORE
        (folder / "images" / f"scan{number}.png").write_bytes(encode_png(image.astype(np.uint8)))
        if masks:
            (folder / "masks" / f"scan{number}.png").write_bytes(encode_png(mask))


@pytest.fixture(scope="module")
def labeled(tmp_path_factory) -> Path:
    """Records of these images with their masks, all in the test split; read only."""
    folder = tmp_path_factory.mktemp("native")
    write_images(folder / "raw", masks=True)
    splits = Splits(0.0, 0.0, 1.0)
    make_records("folder", folder / "raw", folder / "records", size=None, classes=["background", "cell"], splits=splits)
    return folder / "records"


def above_average(info: RecordsInfo, crop: int | None = TILE) -> TrainedModel:
    """A model without weights: class 1 where a pixel is brighter than the average of its tile, so that tiles matter."""
    inputs = keras.Input([None, None, info.channels])
    average = keras.layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    logits = keras.layers.Subtract()([inputs, average])[..., :1]
    model = keras.Model(inputs, logits)
    return TrainedModel(model, info.classes, info.channels, info.dtype, info.fingerprint, multiple=8, crop=crop)


def judge(trained: TrainedModel, records: Path, info: RecordsInfo, folder: Path, **settings) -> dict:
    config = EvalConfig(**{"batch_size": 3, "pictures": 0, **settings})
    predictor = predictor_of(trained, overlap=config.overlap)
    return evaluate(predictor, str(records), info, folder, config, silent_progress)


def read_records(records: Path, info: RecordsInfo) -> dict:
    """Returns the decoded records of the test split by key, read without TensorFlow."""
    shards = info.shards("test")
    found = [decode(data) for shard in shards for data in read_shard(str(records / shard.name))]
    return {record.source_id: record for record in found}


def starts_of(length: int, overlap: int) -> list[int]:
    """Where tiles begin: with so many pixels shared, the last moved back to the image's edge."""
    return [0] if length <= TILE else [*range(0, length - TILE, TILE - overlap), length - TILE]


def expected_prediction(image: np.ndarray, overlap: int = TILE // 2) -> np.ndarray:
    """The mean of the tiles' probabilities, weighted by how near their centre is, computed pixel by pixel."""
    height, width, _ = image.shape
    sums, weights = np.zeros([2, height, width])
    for y in starts_of(height, overlap):
        for x in starts_of(width, overlap):
            tile = np.zeros([TILE, TILE], np.float64)
            part = image[y : y + TILE, x : x + TILE, 0]
            rows, columns = part.shape
            tile[:rows, :columns] = part
            for row in range(rows):
                for column in range(columns):
                    below, right = (row - (rows - 1) / 2) / rows, (column - (columns - 1) / 2) / columns
                    weight = max(np.exp(-32 * (below**2 + right**2)), 1e-3)  # sigma: an eighth of a tile
                    probability = 1 / (1 + np.exp(tile.mean() - tile[row, column]))
                    sums[y + row, x + column] += weight * probability
                    weights[y + row, x + column] += weight
    return (sums >= 0.5 * weights).astype(np.uint8)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_are_those_of_whole_images_put_together_from_tiles(labeled, tmp_path, batch_size):
    info = read_info(str(labeled))
    assert info.height is None
    metrics = judge(above_average(info), labeled, info, tmp_path, batch_size=batch_size, pictures=1)
    table = pd.read_csv(tmp_path / "per_image.csv").set_index("source_id")
    found = read_records(labeled, info)
    assert sorted(table.index) == sorted(found) and len(found) == len(SIZES) == metrics["num_examples"]
    known_pixels = 0
    correct = 0
    for key, record in found.items():
        mask, guess = decode_mask(record.mask), expected_prediction(decode_image(record.image))
        known = mask != IGNORE
        true, guess = (mask == 1)[known], (guess == 1)[known]
        counts = [(true & guess).sum(), (guess & ~true).sum(), (true & ~guess).sum()]
        assert table.loc[key, ["tp", "fp", "fn"]].tolist() == counts
        assert table.loc[key, "dice"] == pytest.approx(2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]))
        known_pixels += known.sum()
        correct += (true == guess).sum()
    assert metrics["pixel_accuracy"] == pytest.approx(correct / known_pixels)
    assert metrics["dice_per_image"] == pytest.approx(table["dice"].mean())
    assert len(list((tmp_path / "result-image").iterdir())) == 3


def test_unlabelled_predictions_have_their_images_sizes(tmp_path):
    write_images(tmp_path / "raw", masks=False)
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=None, unlabeled=True)
    info = read_info(str(tmp_path / "records"))
    metrics = judge(above_average(info), tmp_path / "records", info, tmp_path / "eval", pictures=1)
    assert metrics == json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["num_examples"] == len(SIZES)
    images = {key: decode_image(record.image) for key, record in read_records(tmp_path / "records", info).items()}
    masks = {path.stem: decode_mask(path.read_bytes()) for path in (tmp_path / "eval" / "predictions").iterdir()}
    assert masks.keys() == images.keys()
    for key, image in images.items():
        np.testing.assert_array_equal(masks[key], expected_prediction(image))


def test_a_picture_shows_the_whole_image_and_what_was_judged(labeled, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(judging, "draw_comparison", lambda path, *shown: drawn.append(shown))
    info = read_info(str(labeled))
    judge(above_average(info), labeled, info, tmp_path, pictures=len(SIZES))
    assert {image.shape[:2] for image, *_ in drawn} == set(SIZES)
    for image, truth, prediction, *_ in drawn:
        assert truth.shape == image.shape[:2]
        np.testing.assert_array_equal(prediction, expected_prediction(image))


def test_images_of_one_size_are_judged_in_tiles_too(labeled, tmp_path):
    splits = Splits(0.0, 0.0, 1.0)
    classes = ["background", "cell"]
    make_records("folder", labeled.parent / "raw", tmp_path / "records", size=36, classes=classes, splits=splits)
    info = read_info(str(tmp_path / "records"))
    trained = above_average(info)
    check_fits(trained, info, "RUN", "RECORDS")  # 36 is no multiple of 8, but the tiles' side is
    metrics = judge(trained, tmp_path / "records", info, tmp_path / "eval")
    table = pd.read_csv(tmp_path / "eval" / "per_image.csv").set_index("source_id")
    assert metrics["num_examples"] == len(table) == len(SIZES)
    for key, record in read_records(tmp_path / "records", info).items():
        true, guess = decode_mask(record.mask) == 1, expected_prediction(decode_image(record.image)) == 1
        known = decode_mask(record.mask) != IGNORE
        assert table.loc[key, "tp"] == (true & guess).sum()
        assert table.loc[key, "fp"] == (~true & guess & known).sum()


def test_a_model_of_whole_images_is_not_judged_on_several_sizes(labeled):
    info = read_info(str(labeled))
    check_fits(above_average(info), info, "RUN", "RECORDS")
    message = "RUN was trained on whole images, but RECORDS has images of several sizes; train with --input.crop 256"
    with pytest.raises(ValueError, match=message):
        check_fits(above_average(info, crop=None), info, "RUN", "RECORDS")

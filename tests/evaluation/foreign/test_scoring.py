"""Scores of another tool's predictions: the very ones that test.py gives for the same masks."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score
from tensorflow import keras

from evaluation.config import EvalConfig, ScoreConfig
from evaluation.evaluator import evaluate
from evaluation.foreign.codes import read_codes
from evaluation.foreign.masks import read_masks
from evaluation.foreign.names import RecordNames
from evaluation.foreign.scoring import score_predictions
from evaluation.pictures import file_name
from imaging.codec import encode_png
from imaging.rle import encode_rle
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import RecordsInfo, read_info
from records.schema import decode, decode_pixels
from records.shards import read_shard
from tests.conftest import make_records, predictor_of, silent_progress
from tests.evaluation.foreign.truth import write_masks, write_truth

ALL_TEST = Splits(0.0, 0.0, 1.0)
CLOUDS = ["Fish", "Flower", "Gravel", "Sugar"]


def brightness(info: RecordsInfo, limits: list[int]) -> TrainedModel:
    """A model without weights: each output a class, where a pixel is at least as bright as its limit.

    Of several exclusive classes the first is where none of the others is.
    """
    inputs = keras.Input([None, None, info.channels])
    scales = [0.05 * (number + (len(limits) < 3 or info.overlapping)) for number in range(len(limits))]
    bright = [
        keras.layers.Rescaling(scale, -scale * limit)(inputs[..., :1])
        for scale, limit in zip(scales, limits, strict=True)
    ]
    outputs = keras.layers.Concatenate()(bright) if len(bright) > 1 else bright[0]
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    return TrainedModel(keras.Model(inputs, outputs), **known, overlapping=info.overlapping)


def score(predictions, records, info: RecordsInfo, folder: Path, instances: bool = False, **settings) -> dict:
    """Returns the metrics of predictions."""
    names, told = RecordNames(str(records), "test"), []
    if predictions.is_dir():
        predict = read_masks(predictions, names, info, instances, False, told.append)
    else:
        predict = read_codes(predictions, names, info, told.append)
    config = ScoreConfig(**{"pictures": 0, **settings})
    return score_predictions(predict, str(records), info, "test", folder, config, silent_progress)[0]


def shared(metrics: dict) -> dict:
    """The scores that need no probabilities."""
    return {name: value for name, value in metrics.items() if not name.startswith(("threshold", "calibration"))}


def check_alike(found: dict, expected: dict) -> None:
    """Asserts that two evaluations have the same scores, counts and intervals, up to rounding."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A grey image of blobs, uint8."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((height, width)), (0, 0), 5)
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def write_raw(folder: Path, sizes: list[tuple[int, int]], values: np.ndarray) -> None:
    """Writes raw data in the folder layout: blobs, and masks of values that follow them loosely; some is ignored."""
    for number, (height, width) in enumerate(sizes):
        image = smooth(height, width, number)
        mask = values[(smooth(height, width, number + 100) // 3 + image // 2 > 110).astype(int) + (image > 190)]
        mask[:2] = 255
        write_masks(folder / "images", {f"scan{number}": image})
        write_masks(folder / "masks", {f"scan{number}": mask})


@pytest.mark.parametrize(
    ("classes", "limits", "stretch"),
    [(["background", "blob"], [120], 255), (["background", "road", "car"], [0, 110, 140], 1)],
)
def test_the_same_masks_have_the_same_scores_and_tables_as_in_test_py(tmp_path, classes, limits, stretch):
    values = np.array([0, 1, len(classes) - 1], np.uint8)
    write_raw(tmp_path / "raw", [(40, 56), (32, 32), (50, 20), (24, 70)], values)
    settings = {"classes": classes, "splits": ALL_TEST, "size": 32}
    make_records("folder", tmp_path / "raw", tmp_path / "records", **settings)
    info = read_info(str(tmp_path / "records"))
    predictor = predictor_of(brightness(info, limits))
    for shard in info.shards("test"):
        for data in read_shard(str(tmp_path / "records" / shard.name)):
            record = decode(data)
            mask = predictor.mask(decode_pixels(record, info.dtype))
            write_masks(tmp_path / "masks", {file_name(record.source_id): mask * np.uint8(stretch)})
    config = EvalConfig(batch_size=3, pictures=1)
    expected = evaluate(predictor, str(tmp_path / "records"), info, tmp_path / "ours", config, silent_progress)
    found = score(tmp_path / "masks", tmp_path / "records", info, tmp_path / "theirs", pictures=1)
    assert found == shared(expected)
    assert 0 < found["dice_per_image"] < 1 and found["object_f2"] > 0
    for name in ("per_image.csv", "confusion.csv"):
        assert (tmp_path / "theirs" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()
    for picture in (tmp_path / "ours" / "result-image").iterdir():
        assert (tmp_path / "theirs" / "result-image" / picture.name).read_bytes() == picture.read_bytes()
    assert json.loads((tmp_path / "theirs" / "metrics.json").read_text()) == found


def test_pixel_scores_equal_those_of_scikit_learn(tmp_path):
    generator = np.random.default_rng(0)
    keys = [f"scan{number}" for number in range(6)]
    truth = {key: generator.choice([0, 1, 255], (9, 14), p=[0.6, 0.3, 0.1]).astype(np.uint8) for key in keys}
    found = {key: generator.integers(0, 2, (9, 14)).astype(np.uint8) for key in keys}
    info = write_truth(tmp_path / "records", truth)
    metrics = score(write_masks(tmp_path / "masks", found), tmp_path / "records", info, tmp_path / "scores")
    pairs = [(truth[key][truth[key] != 255], found[key][truth[key] != 255]) for key in keys]
    pooled = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    assert metrics["dice_per_image"] == pytest.approx(np.mean([f1_score(*pair) for pair in pairs]))
    assert metrics["iou_per_image"] == pytest.approx(np.mean([jaccard_score(*pair) for pair in pairs]))
    assert metrics["dice_pooled"] == pytest.approx(f1_score(*pooled))
    assert metrics["iou_pooled"] == pytest.approx(jaccard_score(*pooled))


def test_objects_that_touch_stay_apart_in_instance_maps_alone(tmp_path):
    """Two true objects side by side, found to a pixel."""
    numbers = np.repeat(np.uint8([[0, 1, 1, 2, 2, 0]]), 4, axis=0)
    mask = (numbers > 0).astype(np.uint8)
    masks, instances = dict.fromkeys(["one", "two"], mask), dict.fromkeys(["one", "two"], numbers)
    info = write_truth(tmp_path / "records", masks, instances=instances)
    write_masks(tmp_path / "labels", dict.fromkeys(masks, 40 * numbers))
    for given, expected in ((False, 0.0), (True, 1.0)):
        metrics = score(tmp_path / "labels", tmp_path / "records", info, tmp_path / "scores", given)
        assert (metrics["dice_per_image"], metrics["object_f2"]) == (1.0, expected)
    rows = [(key, encode_rle(numbers == number)) for key in masks for number in (1, 2)]
    with (tmp_path / "found.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "EncodedPixels"), *rows])
    metrics = score(tmp_path / "found.csv", tmp_path / "records", info, tmp_path / "scores")
    assert (metrics["dice_per_image"], metrics["object_f2"]) == (1.0, 1.0)


@pytest.mark.parametrize("form", ["airbus", "nuclei"])
def test_a_submission_has_the_scores_of_the_original_size(tmp_path, form):
    write_raw(tmp_path / "raw", [(64, 96), (48, 48), (33, 80), (50, 20)], np.uint8([0, 1, 1]))
    infos = {}
    for name, size in (("small", 32), ("native", None)):
        settings = {"classes": ["background", "ship"], "splits": ALL_TEST, "size": size}
        make_records("folder", tmp_path / "raw", tmp_path / name, **settings)
        infos[name] = read_info(str(tmp_path / name))
    config = EvalConfig(original=str(tmp_path / "native"), submission=form, pictures=0)
    predictor = predictor_of(brightness(infos["small"], [120]))
    small = str(tmp_path / "small"), infos["small"]
    expected = evaluate(predictor, *small, tmp_path / "ours", config, silent_progress)
    found = score(tmp_path / "ours" / "submission.csv", tmp_path / "native", infos["native"], tmp_path / "theirs")
    assert 0 < found["dice_per_image"] < 1
    check_alike(found, shared(expected))


def test_a_submission_of_clouds_has_the_scores_of_the_original_size(tmp_path):
    (tmp_path / "raw" / "train_images").mkdir(parents=True)
    rows = []
    for number in range(3):
        grey = smooth(350, 525, number)
        image = np.repeat(grey[..., None], 3, axis=2)
        (tmp_path / "raw" / "train_images" / f"{number}.png").write_bytes(encode_png(image))
        areas = [smooth(350, 525, number + 10) + 0.3 * grey > limit for limit in (100, 150, 200, 400)]
        rows += [(f"{number}.png_{name}", encode_rle(area)) for name, area in zip(CLOUDS, areas, strict=True)]
    with (tmp_path / "raw" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Image_Label", "EncodedPixels"), *rows])
    for name, size in (("small", 175), ("native", None)):
        make_records("clouds", tmp_path / "raw", tmp_path / name, splits=ALL_TEST, size=size)
    small, native = (read_info(str(tmp_path / name)) for name in ("small", "native"))
    config = EvalConfig(original=str(tmp_path / "native"), submission="clouds", pictures=0, distances=False)
    predictor = predictor_of(brightness(small, [90, 120, 150, 300]))
    expected = evaluate(predictor, str(tmp_path / "small"), small, tmp_path / "ours", config, silent_progress)
    submission = tmp_path / "ours" / "submission.csv"
    found = score(submission, tmp_path / "native", native, tmp_path / "theirs", distances=False)
    assert found["dice_per_image/Fish"] > found["dice_per_image"] > 0
    check_alike(found, shared(expected))


def test_slices_are_put_together_to_volumes(tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 1:4] = 1
    keys = [f"scan/{index}" for index in range(4)]
    changes = {"group": "scan", "filename": "scan.nii", "spacing_mm": (1.0, 2.0, 5.0)}
    each = {key: {**changes, "slice_index": index} for index, key in enumerate(keys)}
    info = write_truth(tmp_path / "records", dict.fromkeys(keys, mask), changes_by_key=each)
    # Found where it is, but not in the first slice.
    write_masks(tmp_path / "masks", {key: mask * (key != keys[0]) for key in keys})
    metrics = score(tmp_path / "masks", tmp_path / "records", info, tmp_path / "scores")
    assert (metrics["num_volumes"], metrics["distance_unit"]) == (1, "mm")
    assert metrics["volume_dice"] == pytest.approx(2 * 3 / (4 + 3))
    assert metrics["volume_hausdorff95"] == 5.0

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.csv_tables import per_image_table
from evaluation.evaluator import evaluate
from evaluation.statistics import confusion, exclusive_counts
from evaluation.tally import Judged
from imaging.codec import decode_image, decode_mask, encode_png
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import RecordsInfo, read_info
from records.schema import IGNORE, decode
from records.shards import read_shard
from tests.conftest import make_records, predictor_of, silent_progress

CLASSES = ["background", "cell", "gap"]


def bright_pixels(info: RecordsInfo, threshold: int = 128) -> TrainedModel:
    """A model without weights: class 1 where the first channel is at least `threshold`."""
    inputs = keras.Input([None, None, info.channels])
    logits = keras.layers.Rescaling(1.0, 0.5 - threshold)(inputs[..., :1])
    return TrainedModel(keras.Model(inputs, logits), info.classes, info.channels, info.dtype, info.fingerprint)


def brightest_channel(info: RecordsInfo) -> TrainedModel:
    """A model without weights: the class is the number of the brightest channel."""
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Rescaling(0.1)(inputs)
    return TrainedModel(keras.Model(inputs, logits), info.classes, 3, info.dtype, info.fingerprint)


def judge(trained: TrainedModel, records: Path, info: RecordsInfo, folder: Path, **settings) -> dict:
    config = EvalConfig(**{"split": "test", "batch_size": 3, "pictures": 0, **settings})
    return evaluate(predictor_of(trained, config.threshold or 0.5), str(records), info, folder, config, silent_progress)


def read_split(records: Path, info: RecordsInfo, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns (image, mask) by key, read without TensorFlow."""
    found = {}
    for shard in info.shards(split):
        for data in read_shard(str(records / shard.name)):
            record = decode(data)
            found[record.source_id] = decode_image(record.image), decode_mask(record.mask)
    return found


def dice_of(truth: np.ndarray, found: np.ndarray) -> float:
    known = truth != IGNORE
    true, guess = truth[known] == 1, found[known] == 1
    return 2 * (true & guess).sum() / (true.sum() + guess.sum()) if true.any() or guess.any() else 1.0


@pytest.fixture(scope="module")
def info(nuclei_records) -> RecordsInfo:
    return read_info(str(nuclei_records))


@pytest.fixture(scope="module")
def judged(nuclei_records, info, tmp_path_factory) -> tuple[dict, Path]:
    """The train split judged with two pictures of each kind; read only."""
    folder = tmp_path_factory.mktemp("evaluation") / "eval" / "train"
    return judge(bright_pixels(info), nuclei_records, info, folder, split="train", pictures=2), folder


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory) -> Path:
    """Records of three classes with ignored pixels, each image a noisy picture of its mask; read only."""
    raw = tmp_path_factory.mktemp("raw")
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (raw / name).mkdir()
    for number in range(9):
        mask = generator.integers(0, 3 if number else 1, [8, 8]).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        image = generator.integers(0, 130, [32, 32, 3]).astype(np.uint8)
        image[np.arange(32)[:, None], np.arange(32), mask] += 100
        mask[:, : number * 2] = IGNORE
        (raw / "images" / f"scan{number}.png").write_bytes(encode_png(image))
        (raw / "masks" / f"scan{number}.png").write_bytes(encode_png(mask))
    records = tmp_path_factory.mktemp("records") / "three"
    make_records("folder", raw, records, size=32, classes=CLASSES, splits=Splits(0.0, 0.0, 1.0))
    return records


def test_what_is_written_is_what_is_returned(judged):
    metrics, folder = judged
    files = {"metrics.json", "per_image.csv", "confusion.csv", "calibration.csv"}
    assert {path.name for path in folder.iterdir()} == {*files, "result-image", "examples"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (metrics["num_examples"], metrics["threshold"]) == (14, 0.5)


def test_scores_equal_those_of_the_models_rule_on_the_records(judged, nuclei_records, info):
    metrics, folder = judged
    expected = {
        key: dice_of(mask, image[..., 0] >= 128)
        for key, (image, mask) in read_split(nuclei_records, info, "train").items()
    }
    table = pd.read_csv(folder / "per_image.csv", dtype={"source_id": str}).set_index("source_id")
    assert table["dice"].to_dict() == pytest.approx(expected)
    assert metrics["dice_per_image"] == pytest.approx(np.mean(list(expected.values())))
    assert len(set(expected.values())) > 7


def test_per_image_rows_agree_with_the_metrics(judged):
    metrics, folder = judged
    table = pd.read_csv(folder / "per_image.csv")
    tp, fp, fn = (table[name].sum() for name in ("tp", "fp", "fn"))
    assert metrics["dice_per_image"] == pytest.approx(table["dice"].mean())
    assert metrics["iou_per_image"] == pytest.approx(table["iou"].mean())
    assert metrics["dice_pooled"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert metrics["iou_pooled"] == pytest.approx(tp / (tp + fp + fn))
    assert metrics["precision"] == pytest.approx(tp / (tp + fp))
    assert metrics["recall"] == pytest.approx(tp / (tp + fn))
    assert metrics["pixel_accuracy"] == pytest.approx(1 - (fp + fn) / (14 * 64 * 64))
    np.testing.assert_allclose(table["dice"], 2 * table["tp"] / (2 * table["tp"] + table["fp"] + table["fn"]))


def test_the_confusion_matrix_counts_the_pixels_of_all_images(judged, nuclei_records, info):
    _, folder = judged
    expected = np.zeros([2, 2], int)
    for image, mask in read_split(nuclei_records, info, "train").values():
        found = image[..., 0] >= 128
        for true in (0, 1):
            expected[true] += [(~found & (mask == true)).sum(), (found & (mask == true)).sum()]
    table = pd.read_csv(folder / "confusion.csv", index_col="true")
    assert [*table.index] == [*table.columns] == info.classes
    np.testing.assert_array_equal(table, expected)


def test_best_median_and_worst_are_drawn_in_their_order(judged):
    _, folder = judged
    table = pd.read_csv(folder / "per_image.csv", dtype={"source_id": str})
    ranked = table.sort_values(["dice", "source_id"], ascending=[False, True])["source_id"].tolist()
    expected = {
        "best-01": ranked[0],
        "best-02": ranked[1],
        "median-01": ranked[6],
        "median-02": ranked[7],
        "worst-01": ranked[13],
        "worst-02": ranked[12],
    }
    found = {path.stem[: path.stem.index("-") + 3]: path for path in (folder / "result-image").iterdir()}
    assert found.keys() == expected.keys()
    for name, key in expected.items():
        assert found[name].name.startswith(f"{name}-{key[:40]}")
        assert cv2.imread(str(found[name])).std() > 0


def test_the_images_of_pictures_are_kept_as_they_were_judged(nuclei_records, info, judged):
    _, folder = judged
    names = {path.name for path in (folder / "result-image").iterdir()}
    assert {path.name for path in (folder / "examples").iterdir()} == names and len(names) == 6
    for key, (image, _) in read_split(nuclei_records, info, "train").items():
        for path in (folder / "examples").glob(f"*-{key}.png"):
            np.testing.assert_array_equal(decode_image(path.read_bytes()), image)


def test_pictures_of_an_earlier_evaluation_are_replaced(nuclei_records, info, tmp_path):
    for pictures, expected in ((4, 12), (1, 3), (0, 0)):
        judge(bright_pixels(info), nuclei_records, info, tmp_path, pictures=pictures)
        assert len(list((tmp_path / "result-image").iterdir())) == expected
        assert len(list(tmp_path.glob("examples/*.png"))) == expected


def test_more_pictures_than_images_draws_each_image_once_a_kind(nuclei_records, info, tmp_path):
    judge(bright_pixels(info), nuclei_records, info, tmp_path, pictures=12)
    names = sorted(path.name for path in (tmp_path / "result-image").iterdir())
    assert len(names) == 3 * 5
    for kind in ("best", "median", "worst"):
        assert len({re.sub(r"^\w+-\d+-", "", name) for name in names if name.startswith(kind)}) == 5


def test_the_threshold_decides(nuclei_records, info, tmp_path):
    # The logits are whole numbers and a half: 0.9 lies between those of 2.5 and 1.5.
    strict = judge(bright_pixels(info), nuclei_records, info, tmp_path, threshold=0.9)
    equal = judge(bright_pixels(info, 130), nuclei_records, info, tmp_path)
    loose = judge(bright_pixels(info), nuclei_records, info, tmp_path)
    assert strict["threshold"] == 0.9
    names = ("dice_per_image", "dice_pooled", "precision", "recall")
    assert [strict[name] for name in names] == [equal[name] for name in names] != [loose[name] for name in names]


def test_only_the_wanted_split_is_judged(nuclei_records, info, tmp_path):
    judge(bright_pixels(info), nuclei_records, info, tmp_path, split="val")
    keys = pd.read_csv(tmp_path / "per_image.csv", dtype={"source_id": str})["source_id"]
    assert set(keys) == set(read_split(nuclei_records, info, "val"))
    assert len(keys) == 5


@pytest.mark.parametrize("batch_size", [1, 4, 9, 20])
def test_several_classes_and_ignored_pixels_are_judged_class_by_class(three_classes, tmp_path, batch_size):
    info = read_info(str(three_classes))
    metrics = judge(brightest_channel(info), three_classes, info, tmp_path, batch_size=batch_size)
    table = pd.read_csv(tmp_path / "per_image.csv").set_index("source_id")
    shapes = ["objects_true", "objects_found", "object_f2", "object_map", "hausdorff95", "surface_distance"]
    assert list(table.columns) == ["group", "dice", "iou", *shapes] + [
        f"{name}/{label}" for label in ("cell", "gap") for name in ("dice", "iou", "tp", "fp", "fn", *shapes)
    ]
    for key, (image, mask) in read_split(three_classes, info, "test").items():
        known, found = mask != IGNORE, image.argmax(-1)
        for number, label in ((1, "cell"), (2, "gap")):
            true, guess = (mask == number) & known, (found == number) & known
            counts = [(true & guess).sum(), (guess & ~true).sum(), (true & ~guess).sum()]
            assert [table.loc[key, f"{name}/{label}"] for name in ("tp", "fp", "fn")] == counts
    for name in ("dice", "iou"):
        np.testing.assert_allclose(table[name], (table[f"{name}/cell"] + table[f"{name}/gap"]) / 2)
        assert metrics[f"{name}_per_image"] == pytest.approx(table[name].mean())
        assert metrics[f"{name}_per_image/gap"] == pytest.approx(table[f"{name}/gap"].mean())
    assert 0.5 < metrics["dice_pooled"] < 1


def test_unlabelled_records_give_predictions_and_no_scores(folder_raw, tmp_path):
    make_records("folder", folder_raw, tmp_path / "labelled", size=32, splits=Splits(0.0, 0.0, 1.0))
    make_records("folder", folder_raw, tmp_path / "records", size=32, unlabeled=True)
    labelled, info = (read_info(str(tmp_path / name)) for name in ("labelled", "records"))
    folder = tmp_path / "eval"
    metrics = judge(bright_pixels(info), tmp_path / "records", info, folder, pictures=1)
    assert metrics == {"num_examples": 12, "threshold": 0.5}
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "predictions", "result-image", "examples"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert len(list((folder / "result-image").iterdir())) == 3
    images = read_split(tmp_path / "labelled", labelled, "test")
    found = {path.stem: decode_mask(path.read_bytes()) for path in (folder / "predictions").iterdir()}
    assert found.keys() == images.keys()
    for key, (image, _) in images.items():
        np.testing.assert_array_equal(found[key], image[..., 0] >= 128)


def test_keys_that_look_alike_as_file_names_keep_their_predictions(tmp_path):
    generator = np.random.default_rng(0)
    long = "x" * 60
    for key in ("a/b_c", "a_b/c", f"{long}1", f"{long}2"):
        path = tmp_path / "raw" / "images" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(generator.integers(0, 256, [16, 16, 3]).astype(np.uint8)))
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=16, unlabeled=True)
    info = read_info(str(tmp_path / "records"))
    metrics = judge(bright_pixels(info), tmp_path / "records", info, tmp_path / "eval")
    assert metrics["num_examples"] == 4
    assert len(list((tmp_path / "eval" / "predictions").iterdir())) == 4


def test_a_table_of_one_class_has_no_class_in_its_columns():
    truth, found = np.array([[0, 1, 1, IGNORE]], np.uint8), np.array([[1, 1, 0, 1]], np.uint8)
    counts = exclusive_counts(confusion(truth, found, 2)[None], [1])
    table = per_image_table(Judged(["key"], ["group"], counts, None, None, "px", None, None), ["nucleus"])
    expected = {"source_id": "key", "group": "group", "dice": 0.5, "iou": 1 / 3, "tp": 1, "fp": 1, "fn": 1}
    assert table.to_dict("records") == [expected]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"threshold": 1.0}, "threshold: expected a probability between 0 and 1, or null, found 1.0"),
        ({"pictures": -1}, "pictures: expected at least 0, found -1"),
        ({"workers": -1}, "workers: expected at least 0, or null, found -1"),
        ({"virtual_replicas": 0}, "virtual_replicas: expected at least 1, or null, found 0"),
        ({"virtual_replicas": -1}, "virtual_replicas: expected at least 1, or null, found -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EvalConfig(), **settings)

"""Scores at the raw images' own size: what was predicted for small or cut records, beside the whole truth."""

import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.folder import evaluation_name
from imaging.codec import encode_png
from inference.postprocess import Steps
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import read_info
from tests.conftest import make_records, predictor_of, silent_progress

SIZES = [(64, 96), (48, 48), (33, 80), (50, 20)]
ALL_TEST = Splits(0.0, 0.0, 1.0)


def raw_images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(image, mask) by name: blobs that are brighter than what is around them."""
    generator = np.random.default_rng(0)
    images = {}
    for number, (height, width) in enumerate(SIZES):
        smooth = cv2.GaussianBlur(generator.random((height, width)), (0, 0), 4)
        mask = (smooth > np.quantile(smooth, 0.7)).astype(np.uint8)
        mask[:2, :3] = 255
        image = 60 + 110 * (mask == 1) + generator.integers(0, 20, (height, width))
        images[f"scan{number}"] = np.repeat(image[..., None], 3, -1).astype(np.uint8), mask
    return images


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    for name, (image, mask) in raw_images().items():
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / "raw" / kind).mkdir(parents=True, exist_ok=True)
            (folder / "raw" / kind / f"{name}.png").write_bytes(encode_png(pixels))
    return folder


def records_of(raw, name: str, **settings):
    """(folder, info) of records of these images, all in the test split."""
    folder = raw / name
    if not folder.exists():
        make_records("folder", raw / "raw", folder, classes=["background", "blob"], splits=ALL_TEST, **settings)
    return str(folder), read_info(str(folder))


def soft(info, crop=None) -> TrainedModel:
    """A model without weights: the brighter, the more probable."""
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Rescaling(0.05, -6.0)(inputs[..., :1])
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    return TrainedModel(keras.Model(inputs, logits), **known, crop=crop)


def judge(raw, records, folder, predictor=None, crop=None, **settings):
    path, info = records
    native, _ = records_of(raw, "native", size=None)
    config = EvalConfig(**{"original": native, "batch_size": 3, "pictures": 0, "distances": False, **settings})
    predictor = predictor or predictor_of(soft(info, crop))
    return evaluate(predictor, path, info, folder, config, silent_progress), pd.read_csv(folder / "per_image.csv")


def test_small_records_are_stretched_before_the_threshold_and_scored_on_the_whole_truth(raw, tmp_path):
    records = records_of(raw, "small", size=32)
    metrics, table = judge(raw, records, tmp_path)
    assert metrics["num_examples"] == len(table) == len(SIZES)
    for name, (image, mask) in raw_images().items():
        height, width = mask.shape
        shown = cv2.resize(image, (width, 32), interpolation=cv2.INTER_AREA if height > 32 else cv2.INTER_LINEAR)
        shown = cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA if width > 32 else cv2.INTER_LINEAR)
        logits = 0.05 * shown[..., 0].astype(np.float32) - 6
        probabilities = cv2.resize(1 / (1 + np.exp(-logits)), (width, 32), interpolation=cv2.INTER_LINEAR)
        if height != 32:
            vertical = cv2.INTER_LINEAR
            probabilities = cv2.resize(probabilities, (width, height), interpolation=vertical)
        found, known = probabilities >= 0.5, mask != 255
        row = table.set_index("source_id").loc[name]
        true = mask == 1
        expected = [(found & true).sum(), (found & ~true & known).sum(), (true & ~found).sum()]
        np.testing.assert_allclose(row[["tp", "fp", "fn"]].tolist(), expected, atol=0.02 * mask.size)
        assert row[["tp", "fn"]].sum() == true.sum(), "the truth is that of the raw image"
    assert metrics["dice_per_image"] > 0.7


@pytest.mark.parametrize("settings", [{"tile": True, "size": 24, "tile_overlap": 8}, {"tile": True, "size": 16}])
def test_tiles_give_the_scores_of_the_images_that_they_were_cut_from(raw, tmp_path, settings):
    """A model that looks at single pixels predicts the same in tiles as in whole images."""
    tiles = records_of(raw, f"tiles{settings['size']}", **settings)
    assert tiles[1].splits["test"].num_examples > len(SIZES)
    metrics, table = judge(raw, tiles, tmp_path / "tiles")
    native = records_of(raw, "native", size=None)
    config = EvalConfig(batch_size=2, pictures=0, distances=False)
    whole = evaluate(predictor_of(soft(native[1], crop=16)), *native, tmp_path / "whole", config, silent_progress)
    assert metrics["num_examples"] == len(SIZES)
    for name, value in whole.items():
        if name.startswith(("dice", "iou", "object")):
            assert metrics[name] == pytest.approx(value), name
    other = pd.read_csv(tmp_path / "whole" / "per_image.csv")
    columns = ["source_id", "tp", "fp", "fn"]
    pd.testing.assert_frame_equal(
        table[columns].sort_values("source_id", ignore_index=True),
        other[columns].sort_values("source_id", ignore_index=True),
    )


def test_steps_are_stretched_with_the_image(raw, tmp_path, monkeypatch):
    records = records_of(raw, "small", size=32)
    seen = []
    clean = Steps.clean

    def watch(steps, area):
        seen.append((area.shape, steps))
        return clean(steps, area)

    monkeypatch.setattr(Steps, "clean", watch)
    predictor = predictor_of(soft(records[1]), postprocess={1: Steps(min_size=10)})
    judge(raw, records, tmp_path, predictor)
    assert {shape for shape, _ in seen} == set(SIZES)
    for (height, width), steps in seen:
        assert steps == Steps(min_size=round(10 * height * width / 32**2))


def test_pictures_show_the_raw_image(raw, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("evaluation.judging.draw_comparison", lambda path, *shown: drawn.append(shown))
    tiles = records_of(raw, "tiles24", tile=True, size=24, tile_overlap=8)
    judge(raw, tiles, tmp_path, pictures=4)
    images = raw_images()
    assert len(drawn) == 12
    for image, truth, prediction, *_ in drawn:
        (own,) = [name for name, (pixels, _) in images.items() if pixels.shape == image.shape]
        np.testing.assert_array_equal(image, images[own][0])
        np.testing.assert_array_equal(truth, images[own][1])
        np.testing.assert_array_equal(prediction == 1, image[..., 0] >= 120)


def test_a_submission_and_scores_come_from_one_pass(raw, tmp_path):
    records = records_of(raw, "small", size=32)
    metrics, _ = judge(raw, records, tmp_path, submission="nuclei")
    rows = pd.read_csv(tmp_path / "submission.csv")
    assert set(rows["ImageId"]) == set(raw_images()) and "dice_per_image" in metrics


def test_other_records_are_refused_with_what_to_do(raw, tmp_path):
    small = records_of(raw, "small", size=32)
    for native, message in (
        (small[0], "original: expected records of the raw images' own size, found .*small of size 32; preprocess with"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(raw, small, tmp_path, original=native)
    (tmp_path / "fewer" / "images").mkdir(parents=True)
    (tmp_path / "fewer" / "masks").mkdir(parents=True)
    image, mask = raw_images()["scan1"]
    (tmp_path / "fewer" / "images" / "scan1.png").write_bytes(encode_png(image))
    (tmp_path / "fewer" / "masks" / "scan1.png").write_bytes(encode_png(mask))
    classes = ["background", "blob"]
    make_records("folder", tmp_path / "fewer", tmp_path / "native", classes=classes, splits=ALL_TEST, size=None)
    with pytest.raises(ValueError, match=r"original: expected scan\d in .*native, found no such record; preprocess"):
        judge(raw, small, tmp_path / "eval", original=str(tmp_path / "native"))
    other = predictor_of(dataclasses.replace(soft(small[1]), classes=["background", "ship"]))
    with pytest.raises(ValueError, match=r"original: expected records with classes .*ship.* found .*blob"):
        judge(raw, small, tmp_path / "eval", other)


def test_the_folder_says_what_was_judged(raw):
    _, small = records_of(raw, "small", size=32)
    _, native = records_of(raw, "native", size=None)
    config = EvalConfig(original="NATIVE", tta=True)
    assert evaluation_name(config, small, small.fingerprint) == "test-tta-original"
    assert evaluation_name(EvalConfig(), native, small.fingerprint) == f"test-of-{native.name}-{native.fingerprint[:8]}"


def test_touching_objects_are_split_in_scores_and_rows(tmp_path):
    """Two disks that touch: one object without splitting, two with it, at the records' and at the raw size."""
    rows, columns = np.mgrid[:64, :96]
    mask = np.any([(rows - 32) ** 2 + (columns - centre) ** 2 <= 256 for centre in (30, 60)], axis=0)
    for kind, pixels in (("images", np.where(mask, 200, 40)), ("masks", mask)):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        (tmp_path / "raw" / kind / "disks.png").write_bytes(encode_png(pixels.astype(np.uint8)))
    classes = {"classes": ["background", "blob"], "splits": ALL_TEST}
    make_records("folder", tmp_path / "raw", tmp_path / "small", size=48, **classes)
    make_records("folder", tmp_path / "raw", tmp_path / "native", size=None, **classes)
    info = read_info(str(tmp_path / "small"))
    inputs = keras.Input([None, None, info.channels])
    model = keras.Model(inputs, keras.layers.Rescaling(0.1, -12.0)(inputs[..., :1]))
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    trained = TrainedModel(model, **known)
    for original in (None, str(tmp_path / "native")):
        for split, count in ((0, 1), (6, 2)):
            config = EvalConfig(original=original, submission="nuclei", pictures=0)
            predictor = predictor_of(trained, postprocess={1: Steps(split=split)})
            folder = tmp_path / "eval" / f"{split}{original is None}"
            evaluate(predictor, str(tmp_path / "small"), info, folder, config, silent_progress)
            table = pd.read_csv(folder / "per_image.csv")
            assert table["objects_found"].tolist() == [count] and table["objects_true"].tolist() == [1]
            assert len(pd.read_csv(folder / "submission.csv")) == count


def test_settings_that_do_not_fit_leave_an_earlier_evaluation_alone(raw, tmp_path):
    records = records_of(raw, "small", size=32)
    judge(raw, records, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="found .*small of size 32"):
        judge(raw, records, tmp_path, original=records[0])
    with pytest.raises(ValueError, match="sample: "):
        judge(raw, records, tmp_path, submission="nuclei", sample=str(tmp_path / "none.csv"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before

"""Raw images to records to a trained model to its judgement, in one process."""

import json
import runpy
import shutil
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from imaging.codec import encode_png
from inference.run import check_fits, load_run
from model.config import AugmentConfig, ModelConfig
from records.info import read_info
from tests.conftest import make_records, predictor_of, silent_progress
from training.config import TrainConfig
from training.run import train
from training.run_folder import RunFolder


def write_nuclei_by_hand(raw) -> None:
    """Writes 12 training and 4 validation images of bright discs on a noisy ground, some with none."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for number in range(16):
        split = "train" if number < 12 else "val"
        mask = np.zeros([64, 64], bool)
        for centre_y, centre_x, radius in generator.uniform([0, 0, 4], [64, 64, 10], [number % 6, 3]):
            mask |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        image = generator.normal(60, 15, [64, 64, 3]) + 50 * mask[..., None]
        for name, pixels in (("images", image.clip(0, 255)), ("masks", 255 * mask)):
            (raw / split / name).mkdir(parents=True, exist_ok=True)
            (raw / split / name / f"{number}.png").write_bytes(encode_png(pixels.astype(np.uint8)))


def test_a_few_images_are_learned_by_heart_in_seconds(tmp_path, monkeypatch):
    raw, records, folder = (tmp_path / name for name in ("raw", "records", "run"))
    write_nuclei_by_hand(raw)
    make_records("folder", raw, records, size=64)
    info = read_info(str(records))
    assert {name: split.num_examples for name, split in info.splits.items() if split.num_examples} == {
        "train": 12,
        "val": 4,
    }
    config = TrainConfig(
        epochs=10,
        global_batch_size=2,
        learning_rate=1e-2,
        early_stopping=None,
        model=ModelConfig(depth=2, filters=4, norm="none", dropout=0.0),
        augment=AugmentConfig.none(),
    )
    strategy = tf.distribute.get_strategy()
    run = RunFolder(folder)
    state = train(str(records), info, run, config, strategy, silent_progress, lambda line: None)
    assert state.history[-1]["loss"] < 0.25 * state.history[0]["loss"]

    trained = load_run(run)
    check_fits(trained, info, str(folder), str(records))
    where = run.evaluation("train")
    predictor = predictor_of(trained)
    metrics = evaluate(predictor, str(records), info, where, EvalConfig(split="train", pictures=1), silent_progress)
    assert metrics["num_examples"] == 12
    for name in ("dice_per_image", "dice_nonempty", "dice_pooled"):
        assert metrics[name] > 0.9
        assert metrics[f"baseline_nothing/{name}"] < 0.5
        assert metrics[f"baseline_everything/{name}"] < 0.5
    assert metrics["dice_pooled_ci95"][0] < metrics["dice_pooled"] < metrics["dice_pooled_ci95"][1]
    assert json.loads((where / "metrics.json").read_text()) == metrics
    # The model that was kept is the one whose validation was best.
    val = evaluate(
        predictor,
        str(records),
        info,
        run.evaluation("val"),
        EvalConfig(split="val", pictures=0),
        silent_progress,
    )
    assert val["dice_per_image"] == pytest.approx(state.best_score, abs=1e-5)

    # The command: an ensemble of a run and one of equal weights is the run, and lies beside what it alone has scored.
    twin = shutil.copytree(folder, tmp_path / "twin")
    with zipfile.ZipFile(twin / "model.keras", "a") as file:
        file.comment = b"another file"
    for flags in ([], ["--ensemble", f"[{twin}]"], ["--tta"]):
        monkeypatch.setattr(sys, "argv", ["test.py", str(folder), str(records), "--split=val", "--pictures=1", *flags])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path("test.py", run_name="__main__")
    alone, twice, turned = (
        json.loads((folder / "eval" / name / "metrics.json").read_text()) for name in ("val", "val-ensemble", "val-tta")
    )
    assert twice == alone
    assert turned["dice_pooled"] != alone["dice_pooled"]
    assert all((folder / "eval" / name / "report.html").is_file() for name in ("val", "val-ensemble", "val-tta"))

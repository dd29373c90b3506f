"""Made-up runs with real evaluations: a model without weights, judged on records."""

import json
from pathlib import Path

from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.folder import write_evaluated
from inference.run import TrainedModel
from records.info import RecordsInfo
from tests.conftest import predictor_of, silent_progress


def bright_pixels(info: RecordsInfo) -> TrainedModel:
    """A model without weights: the first class where the first channel is bright, with probabilities in between."""
    inputs = keras.Input([None, None, info.channels])
    logits = keras.layers.Rescaling(0.05, -5.0)(inputs[..., :1])
    logits = keras.layers.Concatenate()([logits] * len(info.classes)) if info.overlapping else logits
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "overlapping")}
    return TrainedModel(keras.Model(inputs, logits), **known, digest="d" * 64)


def judge_run(run: Path, records: Path, info: RecordsInfo, name: str = "test", threshold: float = 0.5) -> Path:
    """Writes RUN/eval/<name>/ as test.py does, of the test split; returns the run."""
    folder = run / "eval" / name
    folder.mkdir(parents=True)
    config = EvalConfig(threshold=threshold, batch_size=4, pictures=1)
    predictor = predictor_of(bright_pixels(info), threshold)
    evaluate(predictor, str(records), info, folder, config, silent_progress)
    write_evaluated(folder, info.name, info.fingerprint, "model.keras", "d" * 64, config, predictor.describe())
    kept = {key: getattr(info, key) for key in ("name", "classes", "overlapping", "fingerprint")}
    settings = {"train": {"input": {"fold": None}}, "records": kept}
    (run / "config.json").write_text(json.dumps(settings))
    return run


def write_choice(run: Path, classes: list[str], best: float = 0.3, digest: str = "d" * 64) -> None:
    """Writes postprocess.json as `evaluation.tune` does, for plain predictions."""
    sweep = [[0.1, 0.2], [0.3, 0.9], [0.5, 0.6]]
    choice = {"model_sha256": digest, "metric": "dice_per_image", "plain": 0.6, "chosen": 0.9}
    choice |= {"classes": {name: {"threshold": best} for name in classes}, "sweeps": dict.fromkeys(classes, sweep)}
    (run / "postprocess.json").write_text(json.dumps({"": choice}))

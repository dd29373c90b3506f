"""The threshold of a gate is chosen on validation."""

import dataclasses
import json
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.gating import choose_threshold, clearing_gains, open_gate, tune_gate
from evaluation.statistics import Counts
from imaging.codec import encode_png
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import RecordsInfo, read_info
from tests.conftest import make_records, predictor_of, silent_progress


def counts_of(*cells: tuple[float, float, float]) -> Counts:
    """Counts of one class, from (tp, fp, fn) of each image or tile."""
    tp, fp, fn = np.array(cells, float).T[..., None]
    return Counts(tp, fp, fn, np.zeros_like(tp), tp, tp)


@pytest.mark.parametrize(
    ("probabilities", "gains", "expected"),
    [
        # The two lowest are worth clearing, the third is not.
        ([0.1, 0.9, 0.2, 0.6], [0.5, -1.0, 0.25, -0.5], 0.4),
        # A loss on the way to a larger gain.
        ([0.1, 0.2, 0.3, 0.8], [-0.25, 0.5, 0.5, -1.0], 0.55),
        # All lose.
        ([0.1, 0.2], [-0.25, -0.5], 0.0),
        # Of equals the most: the second costs nothing, and saves time.
        ([0.1, 0.3, 0.5], [0.5, 0.0, -1.0], 0.4),
        ([0.1, 0.2], [0.0, -0.5], 0.15),
        # But not all, where that gains no more.
        ([0.1, 0.2], [0.0, 0.0], 0.15),
        ([0.2], [0.0], 0.0),
        # Equal probabilities are cleared together, or not at all.
        ([0.25, 0.25, 0.75], [1.0, -0.5, -1.0], 0.5),
        ([0.25, 0.25, 0.75], [0.5, -1.0, -1.0], 0.0),
        # All are cleared, and so would be whatever comes.
        ([0.5, 0.9], [0.5, 0.5], (0.9 + 1.000001) / 2),
        ([1.0], [1.0], 1.0000005),
    ],
)
def test_thresholds_of_hand_made_gains(probabilities, gains, expected):
    found = choose_threshold(np.array(probabilities, np.float64), np.array(gains))
    assert found == pytest.approx(expected, abs=1e-12)


def test_clearing_an_image_gains_its_dice_cleared_less_its_dice_kept():
    counts = counts_of((0, 5, 0), (3, 1, 1), (0, 0, 0), (0, 2, 2))
    # Empty with false alarms: 1 - 0; 0 - 6 / 8; empty and nothing found: 1 - 1; missed either way: 0 - 0.
    gains = clearing_gains(np.array([0.9, 0.1, 0.5, 0.3]), counts, np.arange(4))
    np.testing.assert_allclose(gains, [1, -0.75, 0, 0])


def test_clearing_tiles_changes_the_dice_of_their_image():
    # One image in three tiles; cleared in the order of their probabilities: the second, the first, the third.
    counts = counts_of((0, 4, 0), (1, 0, 1), (3, 0, 0))
    gains = clearing_gains(np.array([0.4, 0.1, 0.8]), counts, np.zeros(3, int))
    # (tp, fp, fn): 4, 4, 1 -> 3, 4, 2 -> 3, 0, 2 -> 0, 0, 5.
    dice = [8 / 13, 6 / 12, 6 / 8, 0]
    np.testing.assert_allclose(gains[[1, 0, 2]], np.diff(dice))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_gains_and_threshold_equal_those_of_trying_all(data):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    number, images, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    cells = generator.integers(0, 4, [3, number, classes]).astype(float)
    counts = Counts(*cells, cells[0], cells[0], cells[0])
    probabilities = (generator.integers(0, 8, number) / 8).astype(np.float32)
    _, image_of = np.unique(generator.integers(0, images, number), return_inverse=True)

    def dice_with(cleared) -> float:
        scores = []
        for image in range(image_of.max() + 1):
            of_image = image_of == image
            tp, fp = (cell[of_image & ~cleared].sum(0) for cell in cells[:2])
            fn = cells[2][of_image].sum(0) + cells[0][of_image & cleared].sum(0)
            scores.append(
                np.mean([2 * t / (2 * t + p + n) if t + p + n else 1 for t, p, n in zip(tp, fp, fn, strict=True)])
            )
        return float(np.mean(scores))

    threshold = choose_threshold(probabilities, clearing_gains(probabilities, counts, image_of))
    limits = [0.0, *sorted(set(probabilities.tolist())), 2.0]
    tried = {(probabilities < limit).sum(): dice_with(probabilities < limit) for limit in limits}
    found = probabilities < threshold
    assert dice_with(found) == pytest.approx(max(tried.values()))
    best = sorted(count for count, dice in tried.items() if dice > max(tried.values()) - 1e-9)
    all_gain_no_more = len(best) > 1 and best[-1] == len(probabilities)
    assert found.sum() == best[-2 if all_gain_no_more else -1]


SIZE = 16


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records, folder and info, of images that are dark, or dark with a red square (the object) or a grey one."""
    folder = tmp_path_factory.mktemp("gating")
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "raw" / name).mkdir(parents=True)
    for number in range(24):
        image = generator.integers(0, 20, [SIZE, SIZE, 3]).astype(np.uint8)
        mask = np.zeros([SIZE, SIZE], np.uint8)
        y, x = generator.integers(0, SIZE - 4, 2)
        if number % 3 == 0:
            image[y : y + 4, x : x + 4, 0], mask[y : y + 4, x : x + 4] = 220, 1
        elif number % 3 == 1:
            image[y : y + 4, x : x + 4] = 220
        (folder / "raw" / "images" / f"{number}.png").write_bytes(encode_png(image))
        (folder / "raw" / "masks" / f"{number}.png").write_bytes(encode_png(mask))
    splits = Splits(0.25, 0.375, 0.375)
    make_records("folder", folder / "raw", folder / "records", size=SIZE, splits=splits)
    return str(folder / "records"), read_info(str(folder / "records"))


def model_of(info: RecordsInfo, task: str, **changes) -> TrainedModel:
    """Without weights. The segmenter takes all that is bright for an object; the gate knows that grey ones are none."""
    inputs = keras.Input([None, None, 3])
    red = inputs[..., :1]
    if task == "segment":
        outputs = keras.layers.Rescaling(1.0, -100.0)(red)
    else:
        difference = keras.layers.Subtract()([red, inputs[..., 1:2]])
        outputs = keras.layers.Rescaling(0.02, -2.0)(keras.layers.GlobalMaxPooling2D(keepdims=True)(difference))
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    return TrainedModel(keras.Model(inputs, outputs), **known, task=task, digest=f"of {task}", **changes)


HOW = (EvalConfig(gate="GATE", pictures=1, batch_size=4), silent_progress)


@pytest.mark.parametrize("crop", [pytest.param(None, marks=pytest.mark.slow), 8])
def test_the_gate_takes_away_the_false_alarms(records, tmp_path, crop):
    folder, info = records
    segmenter, classifier = model_of(info, "segment", crop=crop), model_of(info, "classify", crop=crop)
    plain = predictor_of(segmenter, overlap=0)
    gate, tuned = open_gate(plain, classifier, folder, info, tmp_path / "gate.json", *HOW)
    assert tuned["dice_per_image"] == 1.0 > tuned["dice_per_image_without"]
    assert tuned["num_judged"] == info.splits["val"].num_examples * (4 if crop else 1)
    assert 0 < tuned["num_cleared"] < tuned["num_judged"]
    scores = {}
    for name, used in (("with", gate), ("without", None)):
        scores[name] = evaluate(dataclasses.replace(plain, gate=used), folder, info, tmp_path / name, *HOW)
    assert scores["with"]["dice_per_image"] == 1.0 > scores["without"]["dice_per_image"]
    assert (scores["with"]["gate"], scores["with"]["gate_threshold"]) == ("GATE", tuned["threshold"])
    assert 0 < scores["with"]["num_cleared"] < scores["with"]["num_judged"]
    assert "num_cleared" not in scores["without"]
    tables = {name: pd.read_csv(tmp_path / name / "per_image.csv") for name in scores}
    assert "cleared" not in tables["without"] and ("cleared" in tables["with"]) == (crop is None)
    if crop is None:
        assert tables["with"]["cleared"].sum() == scores["with"]["num_cleared"]
        emptied = (tables["with"][["tp", "fp"]] == 0).all(axis=1)
        assert emptied[tables["with"]["cleared"]].all()
    validated = dataclasses.replace(HOW[0], split="val")
    for used, name in ((gate, "dice_per_image"), (None, "dice_per_image_without")):
        found = evaluate(dataclasses.replace(plain, gate=used), folder, info, tmp_path / "val", validated, *HOW[1:])
        assert found["dice_per_image"] == pytest.approx(tuned[name])


def test_a_threshold_is_found_once_for_the_same_gate_and_model(records, tmp_path, monkeypatch):
    folder, info = records
    segmenter, classifier = model_of(info, "segment"), model_of(info, "classify")
    path, passes = tmp_path / "gate.json", []

    def counting(*arguments):
        passes.append(1)
        return tune_gate(*arguments)

    monkeypatch.setattr("evaluation.gating.tune_gate", counting)

    def opened(segmenter=segmenter, classifier=classifier, info=info, threshold=0.5):
        return open_gate(predictor_of(segmenter, threshold), classifier, folder, info, path, *HOW)[1]

    first = opened()
    stored = json.loads(path.read_text())
    assert stored == first
    assert stored["gate"] == "GATE" and stored["fingerprint"] == info.fingerprint
    assert opened() == first and len(passes) == 1
    # Others hold among their validation what was trained on.
    assert opened(info=dataclasses.replace(info, fingerprint="another")) == first and len(passes) == 1
    retrained = {"fingerprint": "another"}
    for number, change in enumerate(
        (
            {"classifier": dataclasses.replace(classifier, digest="another")},
            {"segmenter": dataclasses.replace(segmenter, digest="another")},
            {"threshold": 0.25},
            {
                "segmenter": dataclasses.replace(segmenter, **retrained),
                "classifier": dataclasses.replace(classifier, **retrained),
                "info": dataclasses.replace(info, **retrained),
            },
        ),
        2,
    ):
        opened(**change)
        assert len(passes) == number
    path.write_text("{")
    assert opened() == first and len(passes) == 6
    opened(threshold=0.25)
    assert len(passes) == 7, "another threshold alone"


@pytest.mark.parametrize("labeled", [False, True])
def test_other_records_take_the_threshold_that_was_found_on_those_of_the_training(records, tmp_path, labeled):
    folder, info = records
    segmenter, classifier = model_of(info, "segment"), model_of(info, "classify")
    others = dataclasses.replace(info, labeled=labeled, fingerprint="others")
    path = tmp_path / "gate.json"
    with pytest.raises(ValueError, match="is not what .* was trained on, found none; run test.py with this --gate on"):
        open_gate(predictor_of(segmenter), classifier, folder, others, path, *HOW)
    assert not path.exists()
    _, tuned = open_gate(predictor_of(segmenter), classifier, folder, info, path, *HOW)
    gate, found = open_gate(predictor_of(segmenter), classifier, folder, others, path, *HOW)
    assert found == tuned and gate.threshold == tuned["threshold"]


def test_a_gate_that_does_not_fit_is_refused_before_anything_is_read(records, tmp_path):
    folder, info = records
    segmenter = model_of(info, "segment")
    with pytest.raises(ValueError, match="gate: expected a run of --task classify, found GATE of --task segment"):
        open_gate(predictor_of(segmenter), segmenter, folder, info, tmp_path / "gate.json", *HOW)
    classifier = model_of(info, "classify", multiple=64)
    with pytest.raises(ValueError, match="GATE needs images whose height and width are multiples of 64"):
        open_gate(predictor_of(segmenter), classifier, folder, info, tmp_path / "gate.json", *HOW)


def test_a_run_that_cannot_be_written_to_costs_no_time(records, tmp_path, monkeypatch):
    folder, info = records
    passes, tasks = [], iter(["segment", "classify"])
    monkeypatch.setattr("training.run_folder.read_config", lambda run: {})
    monkeypatch.setattr("inference.predictor.load_run", lambda run: model_of(info, next(tasks)))
    monkeypatch.setattr("inference.run.load_run", lambda run: model_of(info, next(tasks)))
    monkeypatch.setattr("evaluation.gating.tune_gate", lambda *_: passes.append(1))
    monkeypatch.setattr(sys, "argv", ["test.py", str(tmp_path), folder, "--gate", "GATE"])
    (tmp_path / "eval").write_text("no folder can be made here")
    (tmp_path / "config.json").write_text('{"train": {}, "records": {}}')
    with pytest.raises(OSError):
        runpy.run_path("test.py")["main"]()
    assert not passes

"""A run that goes on on another machine, or on several at once: what must be the same, and what is told."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from inference.run import load_run
from model.trained import trained_policy
from tests.conftest import predictor_of, silent_progress
from tests.training.keyed_records import CONFIG
from tests.training.runs import refuse, start
from training.checkpoints import Checkpoints
from training.compatibility import check_fits
from training.run_folder import RunFolder, read_config, write_config
from training.trainer import build_trainer
from training.workers import Workers

STRATEGY = tf.distribute.get_strategy()
BEGUN = {"precision": "float32", "replicas": 1, "machines": 1}


@pytest.fixture
def sixteen_bits():
    """A machine on which auto is mixed_bfloat16."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def run(records, tmp_path) -> RunFolder:
    """A run that has finished, as far as its settings and its checkpoint tell."""
    run = RunFolder(tmp_path / "run")
    write_config(run, CONFIG, records[1], BEGUN)
    trainer = build_trainer(run, CONFIG, records[1], STRATEGY, [].append)
    trainer.state.finished = True
    trainer.checkpoints.save()
    return run


def rewrite(run: RunFolder, devices: dict | None, **settings) -> None:
    """Writes other settings and devices (None: none) into config.json."""
    content = read_config(run)
    content["train"] |= settings
    content.pop("devices")
    run.config.write_text(json.dumps(content | ({} if devices is None else {"devices": devices})))


def test_a_run_keeps_what_it_began_on(records, tmp_path, monkeypatch):
    monkeypatch.setattr("training.run.build_trainer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        start(records[0], tmp_path, CONFIG, records[1])
    assert read_config(RunFolder(tmp_path))["devices"] == BEGUN


def test_a_run_does_not_go_on_in_another_precision(records, run, sixteen_bits):
    message = (
        r"expected the precision of the run that it holds, float32, found mixed_bfloat16; go on with "
        r"--precision float32, or choose another RUN folder"
    )
    assert CONFIG.precision == "auto"
    refuse(message, records[0], run.path, CONFIG, records[1])


def test_a_run_goes_on_in_its_precision_by_any_word_for_it(records, run):
    named = dataclasses.replace(CONFIG, precision="float32")
    assert start(records[0], run.path, named, records[1])[1][-1].startswith("this run has finished")


@pytest.mark.parametrize(("word", "taken"), [("auto", True), ("mixed_bfloat16", True), ("mixed_float16", False)])
def test_where_only_the_word_for_the_precision_was_kept_it_is_what_counts(
    records, run, sixteen_bits, monkeypatch, word, taken
):
    rewrite(run, None, precision=word)
    monkeypatch.setattr("training.run.build_trainer", lambda *_: 1 / 0)  # the folder was taken
    if taken:
        with pytest.raises(ZeroDivisionError):
            start(records[0], run.path, CONFIG, records[1])
    else:
        refuse("expected the precision .* mixed_float16, found mixed_b", records[0], run.path, CONFIG, records[1])


@pytest.mark.parametrize(
    ("begun", "line"),
    [
        (None, None),
        ({"replicas": 1, "machines": 1}, None),
        (
            {"replicas": 4, "machines": 1},
            "the run was begun on other devices (replicas: 4 there, 1 here); it goes on with other random numbers of "
            "dropout and noise",
        ),
        (
            {"replicas": 8, "machines": 2},
            "the run was begun on other devices (replicas: 8 there, 1 here, machines: 2 there, 1 here); it goes on "
            "with other random numbers of dropout, noise and the order of examples",
        ),
    ],
)
def test_that_a_run_goes_on_on_other_devices_is_told(records, run, begun, line):
    rewrite(run, begun and BEGUN | begun)
    _, told = start(records[0], run.path, CONFIG, records[1])
    assert [each for each in told if "other devices" in each] == ([line] if line else [])


@pytest.mark.parametrize("policy", [pytest.param("mixed_float16", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_a_run_of_16_bits_is_judged_on_a_cpu_in_float32_as_it_was_validated(records, tmp_path, policy):
    config = dataclasses.replace(CONFIG, epochs=1, precision=policy)
    keras.mixed_precision.set_global_policy(policy)
    try:
        state, _ = start(records[0], tmp_path / "run", config, records[1])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    run = RunFolder(tmp_path / "run")
    loaded = load_run(run)
    assert loaded.precision == f"float32: trained in {policy}; no GPU"
    stored = keras.models.load_model(run.model, compile=False)
    assert trained_policy(stored) == policy
    for found, wanted in zip(loaded.model.get_weights(), stored.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    how = (EvalConfig(split="val", pictures=0), silent_progress)
    metrics = evaluate(predictor_of(loaded), str(records[0]), records[1], tmp_path / "eval", *how)
    for name in ("dice_pooled", "dice_nonempty", "iou_pooled"):
        assert metrics[name] == pytest.approx(state.history[0][f"val_{name}"], abs=0.05), name


def test_machines_compare_the_precision_that_auto_chose(records, tmp_path, sixteen_bits, monkeypatch):
    compared = {}

    def compare(_, **mine):
        compared.update(mine)
        raise ValueError("they differ")

    monkeypatch.setattr(Workers, "check_same", compare)
    refuse("they differ", records[0], tmp_path, CONFIG, records[1])
    assert compared["precision"] == "mixed_bfloat16"
    assert compared["seed"] == CONFIG.seed


def test_several_machines_want_images_of_one_size(records):
    folder, info = records
    native = dataclasses.replace(info, height=None, width=None)
    config = dataclasses.replace(CONFIG, input=dataclasses.replace(CONFIG.input, crop=4))
    one, two = (Workers(STRATEGY, 0, count) for count in (1, 2))
    check_fits(str(folder), native, config, one)
    check_fits(str(folder), info, config, two)
    with pytest.raises(
        ValueError, match="images of one size for 2 training machines, .*; train on one machine, or pre"
    ):
        check_fits(str(folder), native, config, two)


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path):
    Checkpoints(tmp_path, weight=tf.Variable(2.0)).save()
    weight = tf.Variable(1.0)
    assert Checkpoints(tmp_path, weight=weight).restore([].append).endswith("ckpt-1")
    assert weight.numpy() == 2
    scaled = Checkpoints(tmp_path, weight=weight, loss_scale=tf.Variable(1.0))
    with pytest.raises(
        ValueError, match="ckpt-1: expected a checkpoint of all that is trained, .*; train into"
    ) as told:
        scaled.restore([].append)
    assert "\n" not in str(told.value)

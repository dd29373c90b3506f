"""What a run may choose: every choice trains, resumes exactly, and saves the model that was validated."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tensorflow.python.framework.config import disable_op_determinism

from model.config import ModelConfig
from model.encoders import ENCODER
from model.labels import Labels
from model.loss_config import LossConfig
from model.metrics import Overlap, count_pixels
from records.info import read_info
from tests.training.keyed_records import CONFIG, opened
from tests.training.runs import interrupt_at, refuse, start, without_timings
from training.config import TrainConfig
from training.optimizer_config import OptimizerConfig, ScheduleConfig
from training.run_folder import RunFolder
from training.step import THRESHOLD

SMALL = ModelConfig(depth=1, filters=2, dropout=0.2)


def with_(**settings) -> TrainConfig:
    return dataclasses.replace(CONFIG, **settings)


CHOICES = {
    "deep supervision, attention": with_(
        model=ModelConfig(depth=3, filters=2, attention=True, deep_supervision=True, norm="group", activation="swish"),
        loss=LossConfig({"focal": 0.5, "lovasz": 1.0}),
    ),
    "u-net++": with_(model=ModelConfig(depth=2, filters=2, decoder="unetpp", deep_supervision=True, dropout=0.1)),
    "ema": with_(model=SMALL, optimizer=OptimizerConfig("adamw", average="ema", ema_decay=0.5, clip_norm=0.1)),
    "swa": with_(model=SMALL, optimizer=OptimizerConfig("sgd", average="swa", swa_start=1, lookahead=True)),
    "accumulation": with_(
        model=SMALL,
        optimizer=OptimizerConfig("lamb", accumulate=2, scale_rate="sqrt"),
        schedule=ScheduleConfig("one_cycle"),
    ),
    "frozen encoder": with_(model=SMALL, freeze_epochs=1, loss=LossConfig(class_weights="balanced")),
    # Three steps an epoch: the second one begins with an accumulation that is half full, of the decoder alone.
    "frozen encoder, accumulation": with_(model=SMALL, freeze_epochs=1, optimizer=OptimizerConfig(accumulate=2)),
    "compiled": with_(model=SMALL, jit_compile=True),
}


@pytest.fixture(scope="module")
def nuclei(nuclei_records):
    """(folder, info) of images of 32x32; read only."""
    return nuclei_records, read_info(str(nuclei_records))


def saved_score(run: RunFolder, records) -> float:
    """Returns the validation Dice of RUN/model.keras."""
    labels = Labels(2)
    model, overlap = keras.models.load_model(run.model, compile=False), Overlap(1)
    with opened(records, run.path.parent / "read") as data:
        for batch in data.validation_batches():
            predicted = labels.classify(labels.probabilities(model(batch["image"], training=False)), THRESHOLD)
            overlap.update_state(count_pixels(labels, batch["mask"], predicted, [1]), batch["weight"])
    return float(overlap.result()["dice_per_image"])


@pytest.fixture
def is_exact(name):
    """Whether threads add in the same order every time, as with --deterministic, which XLA does not know."""
    exact = not CHOICES[name].jit_compile
    if exact:
        tf.config.experimental.enable_op_determinism()
    yield exact
    disable_op_determinism()


_QUICK = {"frozen encoder, accumulation"}  # of all others each takes ten seconds


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHOICES]
)
def test_a_choice_trains_resumes_bit_for_bit_and_saves_what_was_validated(nuclei, tmp_path, name, is_exact):
    folder, info = nuclei
    whole, halted = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halted")
    state, _ = start(folder, whole.path, CHOICES[name], info)
    assert saved_score(whole, nuclei) == pytest.approx(state.best_score, abs=5e-5)  # a pixel
    step = 0 if name == "frozen encoder, accumulation" else 1
    with pytest.raises(KeyboardInterrupt):
        start(folder, halted.path, CHOICES[name], info, progress=interrupt_at(step))
    resumed, told = start(folder, halted.path, CHOICES[name], info)
    assert told[0].startswith(f"going on from epoch 2, step {step} (")
    tolerance = {"rel": 0, "abs": 0} if is_exact else {"rel": 1e-4, "abs": 1e-5}
    for found, wanted in zip(without_timings(resumed.history), without_timings(state.history), strict=True):
        assert found == pytest.approx(wanted, **tolerance)
    expected, found = checkpointed(whole), checkpointed(halted)
    assert expected.keys() == found.keys()
    assert len(expected) > 20
    for variable, value in expected.items():
        assert found[variable] == pytest.approx(value, **tolerance), variable
        assert not is_exact or found[variable].tobytes() == value.tobytes(), variable


def checkpointed(run: RunFolder) -> dict[str, np.ndarray]:
    """Returns all variables of a run's last checkpoint."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run.checkpoints)))
    ending = "/.ATTRIBUTES/VARIABLE_VALUE"
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.endswith(ending)}


def kernels_of(run: RunFolder) -> dict[str, np.ndarray]:
    """Returns the model's kernels in a run's last checkpoint."""
    return {
        name: value
        for name, value in checkpointed(run).items()
        if name.startswith("model/") and "kernel/.ATTRIBUTES" in name
    }


@pytest.mark.slow
def test_a_frozen_encoder_stays_as_it_was_and_then_learns(records, tmp_path):
    kernels = {}
    for name, rate, epochs in (("initial", 1e-30, 1), ("frozen", 1e-3, 1), ("thawed", 1e-3, 2)):
        run = RunFolder(tmp_path / name)
        start(records[0], run.path, with_(model=SMALL, freeze_epochs=1, learning_rate=rate, epochs=epochs), records[1])
        kernels[name] = kernels_of(run)
    still = {name for name, value in kernels["initial"].items() if np.abs(value - kernels["frozen"][name]).max() < 1e-7}
    assert 0 < len(still) < len(kernels["initial"])
    assert all(np.abs(kernels["initial"][name] - kernels["thawed"][name]).max() > 1e-7 for name in still)


def test_class_weights_that_do_not_fit_the_records_are_refused(records, tmp_path):
    config = with_(loss=LossConfig(class_weights=[1.0, 2.0, 3.0]))
    message = "loss.class_weights: expected 2 numbers, one for each class"
    (tmp_path / "run").mkdir()
    refuse(message, records[0], tmp_path / "run", config, records[1])


def test_a_new_run_begins_with_the_weights_of_another(records, uninterrupted, tmp_path):
    source = uninterrupted[0].model
    model = dataclasses.replace(CONFIG.model, weights=str(source))
    _, told = start(records[0], tmp_path / "run", with_(model=model, epochs=1, learning_rate=1e-30), records[1])
    assert any(line.startswith("weights") and str(source) in line for line in told)
    models = [keras.models.load_model(path, compile=False) for path in (tmp_path / "run" / "model.keras", source)]
    found, wanted = (each.get_layer(ENCODER).trainable_weights for each in models)
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)

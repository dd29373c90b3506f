import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from inference.run import load_run
from model.config import ModelConfig
from preprocess.config import Splits
from records.config import InputConfig
from records.info import read_info
from tests.conftest import make_records, predictor_of, silent_progress
from tests.training.events import step_losses
from tests.training.runs import CONFIG, interrupt_at, refuse, start, without_timings
from training.history import write_history
from training.run_folder import RunFolder
from training.state import TrainState


@pytest.fixture(scope="module")
def finished(nuclei_records, tmp_path_factory) -> tuple[RunFolder, TrainState, list[str]]:
    """An uninterrupted run of CONFIG; read only."""
    folder = tmp_path_factory.mktemp("run") / "run"
    state, told = start(nuclei_records, folder)
    return RunFolder(folder), state, told


def test_a_run_leaves_what_it_promises(finished):
    run, state, _ = finished
    assert {path.name for path in run.path.iterdir()} == {
        "config.json",
        "model.keras",
        "checkpoints",
        "history.csv",
        "tensorboard",
        "plots",
    }
    assert (run.plots / "curves.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads(run.config.read_text())
    assert config["train"]["model"] == dataclasses.asdict(CONFIG.model)
    with run.history.open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == state.history
    assert [row["epoch"] for row in state.history] == [1, 2]


def test_the_state_counts_epochs_and_knows_the_best(finished):
    _, state, _ = finished
    scores = [row["val_dice_per_image"] for row in state.history]
    assert (state.epoch, state.step, state.finished) == (2, 0, True)
    assert (state.best_score, state.best_epoch) == (max(scores), int(np.argmax(scores)))


def test_the_epochs_loss_is_the_mean_of_its_steps(finished):
    run, state, _ = finished
    losses = step_losses(run.tensorboard)
    assert list(losses) == [0, 1, 2, 3, 4, 5]
    for epoch, row in enumerate(state.history):
        assert row["loss"] == pytest.approx(np.mean([losses[3 * epoch + step] for step in range(3)]), rel=1e-6)


def test_one_line_tells_about_each_epoch(finished):
    _, state, told = finished
    lines = [line for line in told if not line.startswith("waiting for input")]  # as the machine has time
    assert [line.split()[0] for line in lines] == ["cache", "model", "1/2", "2/2"]
    assert "memory: 14 decoded examples" in lines[0]
    assert "3 steps of 4 an epoch" in lines[1]
    assert f"val loss {state.history[1]['val_loss']:.4f}" in lines[3]


def test_the_models_file_scores_what_the_best_epoch_scored(finished, nuclei_records, tmp_path):
    run, state, _ = finished
    metrics = evaluate(
        predictor_of(load_run(run)),
        str(nuclei_records),
        read_info(str(nuclei_records)),
        tmp_path,
        EvalConfig(split="val", pictures=0),
        silent_progress,
    )
    best = state.history[state.best_epoch]
    for name in ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled"):
        assert metrics[name] == pytest.approx(best[f"val_{name}"], abs=1e-5)


def test_a_finished_run_is_not_trained_again(finished, nuclei_records):
    run, state, _ = finished
    before = run.model.stat().st_mtime_ns
    again, told = start(nuclei_records, run.path)
    assert told[-1] == "this run has finished; a longer one needs another RUN folder"
    assert again.history == state.history
    assert run.model.stat().st_mtime_ns == before


def test_the_same_command_gives_the_same_run(finished, nuclei_records, tmp_path):
    run, state, _ = finished
    again, _ = start(nuclei_records, tmp_path / "run", dataclasses.replace(CONFIG, checkpoint_minutes=5.0))
    losses, expected = (
        list(step_losses(folder).values()) for folder in (tmp_path / "run/tensorboard", run.tensorboard)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert again.best_epoch == state.best_epoch


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_resumed_run_equals_an_uninterrupted_one(finished, nuclei_records, tmp_path, step):
    run, state, _ = finished
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(nuclei_records, folder, progress=interrupt_at(step))
    resumed, told = start(nuclei_records, folder)
    assert told[0].startswith(f"going on from epoch 2, step {step} (")
    losses, expected = step_losses(folder / "tensorboard"), step_losses(run.tensorboard)
    assert losses.keys() == expected.keys()
    # Without op determinism threads may add in another order.
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)
    for found, wanted in zip(without_timings(resumed.history), without_timings(state.history), strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    counters = ("epoch", "step", "best_epoch", "plateau_wait", "plateau_scale", "finished")
    assert [getattr(resumed, name) for name in counters] == [getattr(state, name) for name in counters]


def test_a_size_that_cannot_be_halved_is_refused_with_advice(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path / "records", size=36, splits=Splits(0.6, 0.2, 0.2))
    config = dataclasses.replace(CONFIG, model=ModelConfig(depth=3))
    message = r"multiples of 8 \(--model.depth 3\), found 36x36; preprocess with --size 40, or choose a smaller depth"
    refuse(message, tmp_path / "records", tmp_path / "run", config)


def test_another_datasets_run_is_left_alone(finished, nuclei_records):
    info = dataclasses.replace(read_info(str(nuclei_records)), fingerprint="0" * 64)
    refuse(
        r"holds a run on other records \(nuclei\); choose another RUN folder",
        nuclei_records,
        finished[0].path,
        info=info,
    )


def test_a_run_of_other_settings_is_left_alone_and_the_changes_are_named(finished, nuclei_records):
    config = dataclasses.replace(CONFIG, seed=5, model=dataclasses.replace(CONFIG.model, filters=3))
    message = (
        r"holds a run with other settings \(seed: 0 there, 5 here, model.filters: 2 there, 3 here\); "
        "choose another RUN folder, or repeat its settings"
    )
    refuse(message, nuclei_records, finished[0].path, config)


def test_a_folder_of_other_files_is_left_alone(nuclei_records, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    refuse("expected a new or empty folder, or one of train.py; it holds other files", nuclei_records, tmp_path)


def test_unlabelled_records_are_refused(folder_raw, tmp_path):
    make_records("folder", folder_raw, tmp_path / "records", size=32, unlabeled=True)
    refuse("expected records with masks, found unlabelled ones", tmp_path / "records", tmp_path / "run")


def test_unfinished_records_are_refused(nuclei_records, tmp_path):
    shutil.copytree(nuclei_records, tmp_path / "records")
    (tmp_path / "records" / "info.json").unlink()
    refuse("expected finished records, found no info.json", tmp_path / "records", tmp_path / "run")


def test_records_without_validation_are_refused(nuclei_records, tmp_path):
    info = read_info(str(nuclei_records))
    splits = {name: split for name, split in info.splits.items() if name != "val"}
    message = r"expected a split that has examples \(train, test\), found 'val'"
    refuse(message, nuclei_records, tmp_path / "run", info=dataclasses.replace(info, splits=splits))


def test_a_batch_larger_than_the_split_is_refused(nuclei_records, tmp_path):
    message = "expected at least one batch of 15 in split 'train', found 14 examples; choose a smaller"
    refuse(message, nuclei_records, tmp_path / "run", dataclasses.replace(CONFIG, global_batch_size=15))


def test_a_loss_that_is_not_finite_ends_training_and_names_the_step(nuclei_records, tmp_path):
    # The second step's weights are of the order of the rate: their products are infinite.
    config = dataclasses.replace(CONFIG, learning_rate=1e30, model=ModelConfig(depth=1, filters=2, norm="none"))
    with pytest.raises(FloatingPointError, match=r"the loss of step 1 is (nan|inf); lower --learning_rate"):
        start(nuclei_records, tmp_path / "run", config)
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_history_is_a_table(tmp_path):
    run = RunFolder(tmp_path)
    write_history(run, [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-7}])
    assert run.history.read_text().split() == ["epoch,loss", "1,0.30000000000000004", "2,1e-07"]


def test_a_flipped_bit_in_the_records_ends_training_and_says_what_to_do(nuclei_records, tmp_path):
    records = tmp_path / "records"
    shutil.copytree(nuclei_records, records)
    shard = next(records.glob("*-train.tfrecord-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1  # the file's length stays, so only reading can tell
    shard.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"1 of 14 records damaged: record \d+ \(key .*--overwrite.*--input.skip_damaged"
    ):
        start(records, tmp_path / "run")
    assert not (tmp_path / "run" / "model.keras").exists()


def cut_checkpoints(folder: Path, count: int) -> None:
    """Cuts the newest `count` checkpoints in half, as a disk that was full would."""
    files = sorted((folder / "checkpoints").glob("*.data*"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[-count:]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_checkpoint_costs_no_more_than_its_own_interval(finished, nuclei_records, tmp_path):
    run, state, _ = finished
    shutil.copytree(run.path, tmp_path / "run")
    cut_checkpoints(tmp_path / "run", 1)
    resumed, told = start(nuclei_records, tmp_path / "run")
    assert "is damaged" in told[0]
    assert told[1].startswith("going on from epoch 2, step 3 (")
    for found, wanted in zip(without_timings(resumed.history), without_timings(state.history), strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_a_run_without_a_sound_checkpoint_does_not_begin_anew_unasked(finished, nuclei_records, tmp_path):
    run, _, _ = finished
    shutil.copytree(run.path, tmp_path / "run")
    cut_checkpoints(tmp_path / "run", 2)
    with pytest.raises(ValueError, match="checkpoints: expected a checkpoint that can be read"):
        start(nuclei_records, tmp_path / "run")


def test_a_crop_larger_than_the_images_is_refused(nuclei_records, tmp_path):
    config = dataclasses.replace(CONFIG, input=InputConfig(crop=1024))
    refuse(r"input.crop: expected at most the images' \d+x\d+, found 1024", nuclei_records, tmp_path / "run", config)

"""Precisions side by side: tables, verdicts, and what happens where memory runs out."""

import operator
import signal

import pytest
import tensorflow as tf

from benchmarks.measure import in_own_process
from benchmarks.precision import (
    Trained,
    choose_precisions,
    dice_table,
    dice_verdicts,
    failures,
    measure_speeds,
    speed_table,
    train_once,
)
from benchmarks.steps import Measured, measure_steps, memory_errors
from model.config import AugmentConfig, ModelConfig
from training.config import TrainConfig

TINY = TrainConfig(
    epochs=1,
    global_batch_size=4,
    precision="float32",
    model=ModelConfig(depth=1, filters=2),
    augment=AugmentConfig.none(),
)


def cells(table) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_speeds_are_compared_with_the_first_precision_of_the_same_batch_size():
    speeds = {
        (8, "float32"): (Measured(constant=0.1, records=0.2, waiting=0.05, alone=0.1), 1000.0),
        (8, "mixed_bfloat16"): (Measured(constant=0.1, records=0.1, waiting=0.0, alone=0.1), None),
        (16, "float32"): MemoryError("gone"),
        (16, "mixed_bfloat16"): (Measured(constant=0.1, records=0.1, waiting=0.0, alone=0.1), 1500.0),
    }
    assert cells(speed_table(speeds, "title")) == [
        ["8", "float32", "200.0", "40.0", "1.00", "25%", "1,000"],
        ["8", "mixed_bfloat16", "100.0", "80.0", "2.00", "0%", "-"],
        ["16", "float32", "out of memory", "-", "-", "-", "-"],
        ["16", "mixed_bfloat16", "100.0", "160.0", "-", "0%", "1,500"],
    ]
    assert failures(speeds) == ["16, float32: gone"]


def test_dice_is_compared_with_the_first_precision_of_the_same_seed():
    runs = {
        (0, "float32"): Trained(0.9, 0.8, 60.0),
        (0, "mixed_float16"): Trained(0.91, 0.796, 30.0),
        (1, "float32"): Trained(0.89, 0.81, 61.0),
        (1, "mixed_float16"): FloatingPointError("the loss of step 3 is nan"),
    }
    assert cells(dice_table(runs, "Dice", "title")) == [
        ["0", "float32", "0.9000", "-", "0.8000", "-", "60"],
        ["0", "mixed_float16", "0.9100", "+0.0100", "0.7960", "-0.0040", "30"],
        ["1", "float32", "0.8900", "-", "0.8100", "-", "61"],
        ["1", "mixed_float16", "not finite", "-", "-", "-", "-"],
    ]
    assert dice_verdicts(runs) == []  # half a comparison is none


def test_the_verdict_is_on_the_mean_over_seeds():
    runs = {
        (0, "float32"): Trained(0.9, None, 60.0),
        (0, "mixed_float16"): Trained(0.91, None, 30.0),
        (1, "float32"): Trained(0.89, None, 60.0),
        (1, "mixed_float16"): Trained(0.884, None, 30.0),
    }
    assert dice_verdicts(runs) == [
        "mixed_float16: validation differs by +0.0020 from float32 (mean of 2 seeds), within 0.005."
    ]
    one_seed = {key: run for key, run in runs.items() if key[0] == 1}
    assert dice_verdicts(one_seed) == [
        "mixed_float16: validation differs by -0.0060 from float32 (seed 1), more than 0.005."
    ]


def test_a_machine_without_gpu_compares_nothing_unless_asked(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert choose_precisions() == ["float32"]


def test_another_process_returns_and_raises_what_its_function_does():
    assert in_own_process(operator.add, 2, 3) == 5
    with pytest.raises(ZeroDivisionError):
        in_own_process(operator.truediv, 2, 0)


def test_a_killed_process_is_taken_for_one_that_had_too_little_memory():
    with pytest.raises(MemoryError, match="was killed"):
        in_own_process(signal.raise_signal, signal.SIGKILL)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9]"),
        tf.errors.NotFoundError(None, None, "No algorithm worked!  Error messages: Out of memory while trying to"),
        tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_the_many_words_for_too_little_memory_are_understood(error):
    with pytest.raises(MemoryError), memory_errors():
        raise error


def test_other_errors_of_tensorflow_stay_what_they_are():
    with pytest.raises(tf.errors.ResourceExhaustedError), memory_errors():
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")


def test_steps_on_records_are_timed_and_memory_is_told(nuclei_records):
    measured, _, peak = measure_steps(str(nuclei_records), TINY, 0.01, 1, True)
    assert 0 < measured.waiting < measured.records
    assert peak > 100  # of the host: TensorFlow alone needs more


def test_a_batch_that_the_records_cannot_fill_becomes_a_row(nuclei_records, monkeypatch):
    monkeypatch.setattr("benchmarks.precision.in_own_process", lambda function, *arguments: function(*arguments))
    speeds = measure_speeds(str(nuclei_records), TINY, ["float32"], [500], 0.01, 1)
    assert cells(speed_table(speeds, "title")) == [["500", "float32", "refused", "-", "-", "-", "-"]]
    assert "expected at least one batch of 500" in failures(speeds)[0]


@pytest.mark.slow
def test_a_run_for_its_dice_gives_that_of_validation_and_test(nuclei_records):
    trained = train_once(str(nuclei_records), TINY)
    assert 0 < trained.validation < 1
    assert 0 < trained.test < 1
    assert trained.seconds > 0

import dataclasses
import math

import pytest

from training.config import TrainConfig
from training.schedule import end_epoch, learning_rate
from training.state import TrainState


def rates(config: TrainConfig, epochs: int, steps: int) -> list[float]:
    """Returns the learning rate of every step."""
    return [
        learning_rate(config, TrainState(epoch=epoch, step=step), steps)
        for epoch in range(epochs)
        for step in range(steps)
    ]


def run_epochs(config: TrainConfig, scores: list[float]) -> tuple[TrainState, list[bool]]:
    """Returns the state after epochs of these scores, and which of them were the best so far."""
    state = TrainState()
    better = []
    for score in scores:
        assert not state.finished
        state.step = 7
        better.append(end_epoch(config, state, score))
        assert state.step == 0
    return state, better


def test_a_constant_rate_stays():
    config = TrainConfig(learning_rate=0.3, schedule="constant")
    assert rates(config, 2, 3) == [0.3] * 6


def test_warm_up_rises_linearly_to_the_full_rate():
    config = TrainConfig(learning_rate=0.8, schedule="constant", warmup_epochs=2)
    assert rates(config, 3, 2) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_warm_up_may_take_part_of_an_epoch():
    config = TrainConfig(learning_rate=1.0, schedule="constant", warmup_epochs=0.5)
    assert rates(config, 1, 4) == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_cosine_falls_to_zero_as_computed_by_hand():
    config = TrainConfig(learning_rate=2.0, schedule="cosine", epochs=3)
    # 1 + cos of 0, 30, 60, 90, 120 and 150 degrees.
    root = math.sqrt(3) / 2
    assert rates(config, 3, 2) == pytest.approx([2, 1 + root, 1.5, 1, 0.5, 1 - root])


def test_cosine_begins_behind_the_warm_up():
    config = TrainConfig(learning_rate=1.0, schedule="cosine", epochs=4, warmup_epochs=1)
    root = math.sqrt(3) / 2
    assert rates(config, 4, 2) == pytest.approx(
        [0.5, 1, 1, (1 + root) / 2, 0.75, 0.5, 0.25, (1 - root) / 2],
    )


def test_a_warm_up_of_the_whole_run_is_no_error():
    config = TrainConfig(learning_rate=1.0, schedule="cosine", epochs=2, warmup_epochs=2)
    assert rates(config, 2, 2) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_reductions_scale_the_rate_also_in_warm_up():
    config = TrainConfig(learning_rate=0.4, warmup_epochs=1)
    assert learning_rate(config, TrainState(plateau_scale=0.25), 2) == pytest.approx(0.05)
    assert learning_rate(config, TrainState(plateau_scale=0.25, epoch=1), 2) == pytest.approx(0.1)


def test_plateaus_reduce_the_rate_and_count_anew():
    config = TrainConfig(plateau_patience=2, plateau_factor=0.5, early_stopping=None)
    scores = [0.5, 0.4, 0.5, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1]
    expected = [(1, 0), (1, 1), (0.5, 0), (0.5, 1), (0.5, 0), (0.5, 1), (0.25, 0), (0.25, 1), (0.125, 0)]
    for count, (scale, wait) in enumerate(expected, 1):
        state, _ = run_epochs(config, scores[:count])
        assert (state.plateau_scale, state.plateau_wait) == (scale, wait)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_only_the_plateau_schedule_reduces(schedule):
    state, _ = run_epochs(TrainConfig(schedule=schedule, plateau_patience=1, early_stopping=None), [0.5, 0.4, 0.3])
    assert state.plateau_scale == 1


def test_higher_is_better_and_equal_is_not():
    state, better = run_epochs(TrainConfig(), [0.2, 0.3, 0.3, 0.25, 0.31])
    assert better == [True, True, False, False, True]
    assert (state.best_score, state.best_epoch) == (0.31, 4)


def test_a_score_of_zero_is_better_than_none():
    state, better = run_epochs(TrainConfig(), [0.0])
    assert (better, state.best_score, state.best_epoch) == ([True], 0.0, 0)


def test_early_stopping_waits_so_many_epochs_behind_the_best():
    config = TrainConfig(early_stopping=3, epochs=50)
    state, _ = run_epochs(config, [0.1, 0.5, 0.4, 0.3])
    assert not state.finished
    end_epoch(config, state, 0.2)
    assert state.finished
    assert (state.epoch, state.best_epoch) == (5, 1)


def test_a_better_epoch_starts_the_wait_anew():
    state, _ = run_epochs(TrainConfig(early_stopping=2), [0.1, 0.05, 0.2, 0.15])
    assert not state.finished


def test_training_ends_with_the_last_epoch():
    config = TrainConfig(epochs=2, early_stopping=None)
    state, _ = run_epochs(config, [0.1])
    assert not state.finished
    end_epoch(config, state, 0.2)
    assert state.finished


def test_no_early_stopping_trains_to_the_end():
    state, _ = run_epochs(TrainConfig(epochs=40, early_stopping=None), [0.5] + [0.1] * 38)
    assert not state.finished
    assert state.epoch == 39


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, found 0"),
        ({"global_batch_size": 0}, "global_batch_size: expected at least 1, found 0"),
        ({"plateau_patience": 0}, "plateau_patience: expected at least 1, found 0"),
        ({"early_stopping": 0}, "early_stopping: expected at least 1, or null, found 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0, found 0.0"),
        ({"plateau_factor": 1.0}, "plateau_factor: expected a number between 0 and 1, found 1.0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs, checkpoint_minutes: expected at least 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TrainConfig(), **settings)

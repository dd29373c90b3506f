import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import TrainConfig
from training.optimizer_config import OptimizerConfig, ScheduleConfig
from training.schedule import end_epoch, learning_rate
from training.state import TrainState

NAMES = ["plateau", "cosine", "polynomial", "one_cycle", "exponential", "constant"]
ROOT = math.sqrt(3) / 2


def make_config(name: str, learning_rate: float = 1.0, epochs: int = 50, **schedule) -> TrainConfig:
    return TrainConfig(learning_rate=learning_rate, epochs=epochs, schedule=ScheduleConfig(name, **schedule))


def rates(config: TrainConfig, steps_per_epoch: int, epochs: int | None = None) -> list[float]:
    """Returns the learning rate of every step."""
    steps = (epochs or config.epochs) * steps_per_epoch
    return [learning_rate(config, step, steps_per_epoch, 1.0) for step in range(steps)]


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


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_a_constant_rate_stays(name):
    assert rates(make_config(name, 0.3), 3, 2) == [0.3] * 6


def test_warm_up_rises_linearly_to_the_full_rate():
    config = make_config("constant", 0.8, warmup_epochs=2)
    assert rates(config, 2, 3) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_warm_up_may_take_part_of_an_epoch():
    assert rates(make_config("constant", warmup_epochs=0.5), 4, 1) == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_a_warm_up_that_ends_within_a_step_does_not_exceed_the_full_rate():
    assert rates(make_config("constant", warmup_epochs=0.5), 5, 1) == pytest.approx([0.4, 0.8, 1.0, 1.0, 1.0])


def test_cosine_falls_to_zero_as_computed_by_hand():
    # 1 + cos of 0, 30, 60, 90, 120 and 150 degrees.
    assert rates(make_config("cosine", 2.0, 3), 2) == pytest.approx([2, 1 + ROOT, 1.5, 1, 0.5, 1 - ROOT])


def test_cosine_begins_behind_the_warm_up():
    found = rates(make_config("cosine", 1.0, 4, warmup_epochs=1), 2)
    assert found == pytest.approx([0.5, 1, 1, (1 + ROOT) / 2, 0.75, 0.5, 0.25, (1 - ROOT) / 2])


def test_cosine_may_end_above_zero():
    found = rates(make_config("cosine", 1.0, 2, end=0.2), 2)
    # Half cosines of 0, 45, 90, 135 degrees between 1 and 0.2.
    assert found == pytest.approx([1, 0.6 + 0.4 / math.sqrt(2), 0.6, 0.6 - 0.4 / math.sqrt(2)])


def test_polynomial_as_computed_by_hand():
    assert rates(make_config("polynomial", 2.0, 2, power=1.0), 2) == pytest.approx([2, 1.5, 1, 0.5])
    assert rates(make_config("polynomial", 2.0, 2, power=2.0), 2) == pytest.approx([2, 1.125, 0.5, 0.125])
    found = rates(make_config("polynomial", 1.0, 3, power=1.0, end=0.1, warmup_epochs=1), 2)
    assert found == pytest.approx([0.5, 1, 1, 0.775, 0.55, 0.325])


@pytest.mark.parametrize("name", ["cosine", "polynomial", "one_cycle"])
def test_behind_the_end_the_rate_stays_as_it_ended(name):
    # Damaged records that are left out may shorten the last epoch below what is done of it.
    config = make_config(name, 1.0, 2, end=0.25)
    assert [learning_rate(config, step, 10, 1.0) for step in (20, 21, 25)] == pytest.approx([0.25] * 3)


def test_one_cycle_as_computed_by_hand():
    found = rates(make_config("one_cycle", 1.0, 4, peak=0.5, start=0.2, end=0.0), 2)
    # Up from 0.2 and down to 0, both over half cosines of 0, 45, 90 and 135 degrees.
    rise, fall = 0.4 / math.sqrt(2), 0.5 / math.sqrt(2)
    assert found == pytest.approx([0.2, 0.6 - rise, 0.6, 0.6 + rise, 1.0, 0.5 + fall, 0.5, 0.5 - fall])


def test_one_cycle_peaks_where_it_is_told_to():
    found = rates(make_config("one_cycle", 0.7, 10, peak=0.3), 10)
    assert max(found) == found[30] == 0.7
    assert found[0] == pytest.approx(0.7 * 0.04)


def test_exponential_falls_by_its_rate_every_epoch():
    found = rates(make_config("exponential", 2.0, 3, decay_rate=0.25), 2)
    assert found == pytest.approx([2, 1, 0.5, 0.25, 0.125, 0.0625])
    found = rates(make_config("exponential", 2.0, 2, decay_rate=0.25, warmup_epochs=1), 2)
    assert found == pytest.approx([1, 2, 2, 1])


def test_a_warm_up_of_the_whole_run_is_no_error():
    for name in set(NAMES) - {"one_cycle"}:
        assert rates(make_config(name, 1.0, 2, warmup_epochs=2), 2) == pytest.approx([0.25, 0.5, 0.75, 1.0])


@given(
    name=st.sampled_from(NAMES),
    epochs=st.integers(1, 30),
    steps=st.integers(1, 40),
    warmup=st.floats(0, 40),
    end=st.floats(0, 0.99),
    power=st.floats(0.1, 4),
    peak=st.floats(0.01, 0.99),
)
@settings(max_examples=200, deadline=None)
def test_rates_rise_to_the_full_rate_at_most_and_then_fall(name, epochs, steps, warmup, end, power, peak):
    warmup = 0.0 if name == "one_cycle" else warmup
    read = {"cosine": {"end": end}, "polynomial": {"end": end, "power": power}, "one_cycle": {"end": end, "peak": peak}}
    config = make_config(name, 0.5, epochs, warmup_epochs=warmup, **read.get(name, {}))
    found = rates(config, steps)
    assert all(0 < rate <= 0.5 * (1 + 1e-12) for rate in found)
    top = max(range(len(found)), key=found.__getitem__)
    assert all(one <= two + 1e-12 for one, two in itertools.pairwise(found[: top + 1]))
    assert all(one >= two - 1e-12 for one, two in itertools.pairwise(found[top:]))
    lowest = {"cosine": end, "polynomial": end, "one_cycle": min(end, 0.04)}.get(name, 0)
    if not warmup:
        assert min(found) >= 0.5 * lowest - 1e-12


@given(name=st.sampled_from(sorted(set(NAMES) - {"one_cycle"})), warmup=st.integers(1, 5), steps=st.integers(20, 200))
@settings(max_examples=50, deadline=None)
def test_nothing_jumps_at_the_end_of_the_warm_up(name, warmup, steps):
    config = make_config(name, 1.0, 20, warmup_epochs=float(warmup))
    before, after = (learning_rate(config, warmup * steps + offset, steps, 1.0) for offset in (-1, 0))
    assert (before, after) == (1.0, 1.0)


@pytest.mark.parametrize(("scale_rate", "factor"), [("none", 1), ("linear", 8), ("sqrt", math.sqrt(8))])
def test_rates_grow_with_the_accumulated_batch(scale_rate, factor):
    optimizer = OptimizerConfig(scale_rate=scale_rate, accumulate=4)
    config = dataclasses.replace(make_config("cosine", 0.1, 3), global_batch_size=32, optimizer=optimizer)
    plain = rates(make_config("cosine", 0.1, 3), 2)
    assert rates(config, 2) == pytest.approx([factor * rate for rate in plain])


def test_reductions_scale_the_rate_also_in_warm_up():
    config = make_config("plateau", 0.4, warmup_epochs=1)
    assert learning_rate(config, 0, 2, 0.25) == pytest.approx(0.05)
    assert learning_rate(config, 2, 2, 0.25) == pytest.approx(0.1)


def test_plateaus_reduce_the_rate_and_count_anew():
    config = dataclasses.replace(make_config("plateau", plateau_patience=2, plateau_factor=0.5), early_stopping=None)
    scores = [0.5, 0.4, 0.5, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1]
    expected = [(1, 0), (1, 1), (0.5, 0), (0.5, 1), (0.5, 0), (0.5, 1), (0.25, 0), (0.25, 1), (0.125, 0)]
    for count, (scale, wait) in enumerate(expected, 1):
        state, _ = run_epochs(config, scores[:count])
        assert (state.plateau_scale, state.plateau_wait) == (scale, wait)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"plateau"}))
def test_only_the_plateau_schedule_reduces(name):
    config = dataclasses.replace(make_config(name), epochs=9, early_stopping=None)
    assert run_epochs(config, [0.5] + 7 * [0.4])[0].plateau_scale == 1


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
        ({"early_stopping": 0}, "early_stopping: expected at least 1, or null, found 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0, found 0.0"),
    ],
)
def test_impossible_settings_of_a_run_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TrainConfig(), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"plateau_patience": 0}, "plateau_patience: expected at least 1, found 0"),
        ({"plateau_factor": 1.0}, "plateau_factor: expected a number between 0 and 1, found 1.0"),
        ({"peak": 0.0}, "peak: expected a number between 0 and 1, found 0.0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs: expected at least 0, found -1.0"),
        ({"name": "one_cycle", "warmup_epochs": 1.0}, "warmup_epochs: expected 0 with one_cycle"),
        ({"power": 0.0}, "power: expected more than 0, found 0.0"),
        ({"decay_rate": 1.5}, "decay_rate: expected more than 0, at most 1, found 1.5"),
        ({"start": 0.0}, "start: expected more than 0, at most 1, found 0.0"),
        ({"end": 1.0}, "end: expected 0 to less than 1, found 1.0"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ScheduleConfig(), **settings)

import math

import numpy as np
import pytest
import tensorflow as tf

from model.config import ModelConfig
from training.config import TrainConfig
from training.finder import FinderConfig, find, plot_rates, range_test, smooth


def descent(curvature: float, start: float = 1.0):
    """Returns a step of gradient descent on curvature * x^2 / 2, which diverges at rates above 2 / curvature."""
    x = start

    def step(rate: float) -> float:
        nonlocal x
        loss = curvature * x * x / 2
        x -= rate * curvature * x
        return loss

    return step


def test_rates_grow_exponentially_from_lowest_to_highest():
    seen = []
    range_test(lambda rate: seen.append(rate) or 10.0 - len(seen), FinderConfig(lowest=1e-4, highest=1.0, updates=13))
    np.testing.assert_allclose(seen, np.logspace(-4, 0, 13), rtol=1e-9)


@pytest.mark.parametrize("curvature", [0.1, 1.0, 30.0])
def test_the_test_stops_when_descent_diverges_and_suggests_less(curvature):
    # A floor: a loss of exactly 0 would hide by how much it rises.
    inner = descent(curvature, 1e3)
    found = range_test(lambda rate: inner(rate) + 1, FinderConfig(lowest=1e-6, highest=1e4, updates=400))
    limit = 2 / curvature
    assert limit / 200 < found.suggested < limit / 5
    assert limit < found.rates[-1] < 10 * limit
    assert not found.remarks


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss():
    def step(rate):
        return 1 + (math.log10(rate) + 2) ** 2

    found = range_test(step, FinderConfig(lowest=1e-4, highest=1.0, updates=41))
    assert found.suggested == pytest.approx(1e-3)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 41


def test_negative_losses_are_no_divergence():
    losses = iter([-1.0 - index / 10 for index in range(20)])
    found = range_test(lambda rate: next(losses), FinderConfig(updates=20))
    assert len(found.losses) == 20


def test_a_loss_that_is_not_finite_ends_the_test():
    losses = iter([*np.linspace(3, 1, 15), math.nan, 0.0])
    found = range_test(lambda rate: float(next(losses)), FinderConfig(updates=30))
    assert found.losses == pytest.approx(np.linspace(3, 1, 15))


def test_a_loss_that_falls_to_the_end_asks_for_higher_rates():
    losses = iter(range(100, 0, -1))
    found = range_test(lambda rate: float(next(losses)), FinderConfig(highest=1.0))
    assert found.remarks == ["the loss still fell at 1.0e+00; raise --highest"]


def test_a_loss_that_only_rises_is_an_error():
    losses = iter(np.linspace(1, 2, 100))
    with pytest.raises(ValueError, match=r"did not fall at any rate from 1.0e-07 on; lower --lowest"):
        range_test(lambda rate: float(next(losses)), FinderConfig())


def test_a_loss_that_was_never_finite_is_an_error():
    with pytest.raises(ValueError, match=r"finite for 0 updates only, up to \[\]; lower --lowest"):
        range_test(lambda rate: math.inf, FinderConfig())


def test_smoothing_as_computed_by_hand():
    assert smooth([1, 2, 6, 4, 5], 1) == pytest.approx([1.5, 3, 4, 5, 4.5])
    assert smooth([3.0, 1.0], 5) == [2, 2]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="expected 0 < lowest < highest, found 1.0 and 0.1"):
        FinderConfig(lowest=1.0, highest=0.1)
    for rates in ((math.nan, 1.0), (1e-7, math.inf)):
        with pytest.raises(ValueError, match="expected 0 < lowest < highest, found"):
            FinderConfig(*rates)
    with pytest.raises(ValueError, match="updates: expected at least 10, found 9"):
        FinderConfig(updates=9)


def test_records_give_a_rate_and_a_picture_and_nothing_else(nuclei_records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = TrainConfig(global_batch_size=4, model=ModelConfig(depth=1, filters=4))
    found = find(str(nuclei_records), FinderConfig(lowest=1e-5, updates=30, train=train), lambda line: None)
    assert all(map(math.isfinite, found.losses))
    assert 1e-5 < found.suggested < 1
    assert not list(tmp_path.iterdir())
    plot_rates(found, tmp_path / "plots" / "rates.png")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["rates.png"]


@pytest.mark.slow
def test_rates_are_tried_on_what_is_trained_first(nuclei_records):
    def losses(freeze_epochs):
        train = TrainConfig(
            global_batch_size=4, model=ModelConfig(depth=1, filters=2, dropout=0.0), freeze_epochs=freeze_epochs
        )
        return find(str(nuclei_records), FinderConfig(updates=10, train=train), lambda line: None).losses

    assert losses(1) == losses(3) != losses(0)


@pytest.mark.parametrize("deterministic", [False, True])
def test_rates_are_tried_with_the_kernels_that_training_has(nuclei_records, monkeypatch, deterministic):
    def stop(*_):
        raise RuntimeError(f"deterministic: {enabled}")

    enabled = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: enabled.append(True))
    monkeypatch.setattr("training.devices.choose_strategy", stop)
    train = TrainConfig(deterministic=deterministic)
    with pytest.raises(RuntimeError, match=rf"deterministic: \[{'True' * deterministic}\]"):
        find(str(nuclei_records), FinderConfig(train=train), lambda line: None)

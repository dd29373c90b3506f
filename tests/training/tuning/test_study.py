"""What Optuna makes of trials that have failed."""

import dataclasses

import pytest

from tests.training.tuning.searches import BASE, CONFIG
from training.tuning.space import Space, read_space
from training.tuning.study import Proposal
from training.tuning.trial import Trial


@pytest.fixture
def space(tmp_path) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {low: 1e-5, high: 1e-1, log: true}")
    return read_space(path, BASE)


def test_tpe_proposes_nothing_like_trials_that_failed_late_with_high_scores(space):
    """Those at low rates were given up behind their second epoch, those at high ones failed behind their third."""
    ended = [Trial(number, {"learning_rate": 1e-5 * 1.1**number}, "pruned", [0.3, 0.4]) for number in range(12)]
    ended += [
        Trial(number, {"learning_rate": 1e-2 * 1.1 ** (number - 12)}, "failed", [0.7, 0.8, 0.9], reason="diverged")
        for number in range(12, 24)
    ]
    configs = [dataclasses.replace(CONFIG, seed=seed) for seed in range(10)]
    rates = [Proposal(config, space, ended).settings()["learning_rate"] for config in configs]
    assert max(rates) < 1e-3


def test_a_trial_that_failed_does_not_compete_in_hyperband(space):
    config = dataclasses.replace(CONFIG, pruner="hyperband")
    rates = (1e-4, 2e-4, 3e-4, 4e-4)

    def ended(state: str) -> list[Trial]:
        trials = []
        for number, rate in enumerate(rates):
            proposal = Proposal(config, space, trials)
            proposal.gives_up(0.9)
            trials.append(Trial(number, {"learning_rate": rate}, state, [0.9], notes=proposal.notes))
        return trials

    assert Proposal(config, space, ended("finished")).gives_up(0.5)
    assert not Proposal(config, space, ended("failed")).gives_up(0.5)

"""Optuna's part: it proposes settings and says which trials to give up.

Its study lives in memory and is made anew for every trial, from the files of those that have ended, with a seed from
the trial's number. So a proposal and all judgements of a trial are functions of what stands in files, and a search that
was killed goes on as if it had not been. Optuna's own storages cannot promise that: the pruner of Hyperband stores that
a trial has passed an epoch before it says whether it is given up there, parameters are stored one by one, and a line
that was cut short makes a journal unreadable.
"""

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from training.tuning.config import TuneConfig
from training.tuning.space import Space
from training.tuning.trial import Trial

# A failed trial says where not to look. Optuna leaves its own failed trials out of account, so these are pruned to it:
# without scores, as the worst, for among pruned trials those that came far are the better ones.
_STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.PRUNED}

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Proposal:
    """The trial that comes behind those that have ended, as Optuna sees it.

    Args:
      config: of the search.
      space: what is searched.
      ended: all trials before.
    """

    def __init__(self, config: TuneConfig, space: Space, ended: list[Trial]):
        self._study = open_study(config, space, ended)
        self._trial = self._study.ask({setting.name: setting.distribution for setting in space.settings})
        self._space, self._tried = space, [trial.settings for trial in ended]
        self._random, self._epoch = np.random.default_rng([config.seed, len(ended)]), 0

    def settings(self) -> dict | None:
        """Returns values by name; None where all have been tried.

        They have not been tried before, unless there are too many combinations to be listed.
        """
        proposed = {setting.name: setting.value(self._trial.params[setting.name]) for setting in self._space.settings}
        # Where there are few, the same are proposed again and again, and train to the same result.
        if proposed in self._tried and (combinations := self._space.combinations()) is not None:
            left = [each for each in combinations if each not in self._tried]
            return left[self._random.integers(len(left))] if left else None
        return proposed

    def gives_up(self, score: float) -> bool:
        """Returns whether the trial is to end behind its next epoch, which has this score, if it is not the last."""
        self._epoch += 1
        self._trial.report(score, self._epoch)
        return self._trial.should_prune()

    @property
    def notes(self) -> dict:
        """What the pruner wants to know of the trial later."""
        return self._study.trials[-1].system_attrs


def open_study(config: TuneConfig, space: Space, ended: list[Trial]) -> optuna.Study:
    """Returns a study in memory that holds the trials that have ended."""
    seed = int(np.random.SeedSequence([config.seed, len(ended)]).generate_state(1)[0])
    study = optuna.create_study(
        direction="maximize",
        study_name="search",  # Hyperband's brackets depend on it
        sampler=_sampler(config, seed),
        pruner=_pruner(config, most_epochs(space)),
    )
    distributions = {setting.name: setting.distribution for setting in space.settings}
    for trial in ended:
        scores, notes = ([], {}) if trial.state == "failed" else (trial.scores, trial.notes)
        study.add_trial(
            optuna.trial.create_trial(
                state=_STATES[trial.state],
                value=trial.best[0] if trial.state == "finished" else None,
                params={setting.name: setting.parameter(trial.settings[setting.name]) for setting in space.settings},
                distributions=distributions,
                intermediate_values=dict(enumerate(scores, 1)),
                system_attrs=notes,
            )
        )
    return study


def most_epochs(space: Space) -> int:
    """Returns how many epochs a trial has at most."""
    searched = [setting.extremes for setting in space.settings if setting.name == "epochs"]
    return max(searched[0]) if searched else space.base.epochs


def _sampler(config: TuneConfig, seed: int) -> BaseSampler:
    return TPESampler(seed=seed) if config.sampler == "tpe" else RandomSampler(seed=seed)


def _pruner(config: TuneConfig, epochs: int) -> BasePruner:
    match config.pruner:
        case "median":
            return MedianPruner(n_warmup_steps=config.min_epochs)
        case "hyperband":
            return HyperbandPruner(min_resource=config.min_epochs, max_resource=epochs)
        case "none":
            return NopPruner()

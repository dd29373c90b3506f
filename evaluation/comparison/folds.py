"""Cross-validation: a score's mean over folds, and how sure it is.

The interval is mean ± t · spread / √folds, t the 97.5 % point of Student's distribution with folds - 1 degrees of
freedom. It takes folds for independent. Their models are trained on mostly the same images, so the truth is less sure
than that, and no formula from one cross-validation mends it (Bengio & Grandvalet, No unbiased estimator of the variance
of k-fold cross-validation, JMLR 2004).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from evaluation.comparison.judged import Judged
from evaluation.statistics import bootstrap


@dataclass(frozen=True)
class Fold:
    """A run's score on its fold.

    Attributes:
      run: the name.
      images, groups: how many.
      scores: by name; None where one is 0/0.
      intervals: their 95 % bootstrap intervals over groups; None where there is only one group.
    """

    run: str
    images: int
    groups: int
    scores: dict[str, float | None]
    intervals: dict[str, list[float] | None]


@dataclass(frozen=True)
class Summary:
    """What folds have in common.

    Attributes:
      mean: of the folds.
      spread: their sample standard deviation.
      interval: 95 %, of the mean.
      folds: how many had the score.
    """

    mean: float
    spread: float
    interval: list[float]
    folds: int


def own_split(run: str) -> str:
    """Returns the split that validated a run of cross-validation, such as fold2.

    Raises:
      ValueError: it was not trained with --input.fold.
    """
    try:
        fold = json.loads((Path(run) / "config.json").read_text())["train"]["input"]["fold"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run}: expected a RUN folder with its config.json, found none that can be read") from error
    if fold is None:
        raise ValueError(
            f"{run}: expected a run trained with --input.fold, found one without; choose a --split for all"
        )
    return f"fold{fold}"


def check_folds(runs: list[Judged]) -> bool:
    """Returns whether all runs were judged on the same images; otherwise no two share any.

    Raises:
      ValueError: some images are shared, but not all.
    """
    first = runs[0].images.index
    if all(len(run.images) == len(first) and run.images.index.isin(first).all() for run in runs[1:]):
        return True
    owner: dict[str, str] = {}
    for run in runs:
        for key in run.images.index:
            if key in owner:
                raise ValueError(
                    f"{run.name}: expected images that no other fold holds, found {key}, on which {owner[key]} was "
                    "judged too; name each fold's run once, all of the same records"
                )
            owner[key] = run.name
    return False


def judge_fold(run: Judged, score: str, seed: int) -> Fold:
    """Returns a run's score with its intervals.

    Args:
      run: judged on its fold.
      score: a column of per_image.csv.
      seed: of the bootstrap.
    """
    totals = run.totals(score, ~np.isnan(run.values(score)))
    intervals = bootstrap(totals, run.groups, seed)
    scores = {name: ratio.value() for name, ratio in totals.items()}
    return Fold(run.name, len(run.images), len(np.unique(run.groups)), scores, intervals)


def summarize_folds(values: list[float | None]) -> Summary | None:
    """Returns mean, spread and interval of the folds that have a value; None: fewer than 2 have one."""
    known = np.array([value for value in values if value is not None], np.float64)
    if len(known) < 2:
        return None
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    reach = float(special.stdtrit(len(known) - 1, 0.975)) * spread / len(known) ** 0.5
    return Summary(mean, spread, [mean - reach, mean + reach], len(known))

"""The choice: validation is predicted once, each class searched, and what was found written to RUN."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.config import Progress
from evaluation.examples import check_complete, split_batches
from evaluation.tuning.config import TuneConfig
from evaluation.tuning.plot import draw_sweeps
from evaluation.tuning.scoring import Task, judge_candidates, judge_together, score_counts
from evaluation.tuning.search import Found, search
from evaluation.tuning.spool import THRESHOLDS, keep_images
from evaluation.workers import Calls, Pool, default_workers, worker_pool
from inference.config import PredictConfig
from inference.postprocess import Postprocess, Steps, write_postprocess
from inference.predictor import Predictor
from records.damage import explain_damage
from records.info import RecordsInfo, training_splits
from training.run_folder import RunFolder

_IMAGES_PER_CALL = 8

_OBJECT_THRESHOLDS = THRESHOLDS[4::5]
"""Every twentieth: objects take a hundred times as long to judge as pixels."""


class Choice(NamedTuple):
    """What was chosen for a run.

    Attributes:
      found: the search of each class by its name.
      plain, chosen: score of validation with a threshold of 0.5 and nothing else, and with what was chosen.
      num_examples: images of validation.
      plot: picture of the thresholds.
    """

    found: dict[str, Found]
    plain: float
    chosen: float
    num_examples: int
    plot: Path


def tune(
    predictor: Predictor,
    records: str,
    info: RecordsInfo,
    run: RunFolder,
    config: TuneConfig,
    how: PredictConfig,
    progress: Progress,
) -> Choice:
    """Chooses the steps of a run's classes, and writes RUN/postprocess.json and RUN/plots/thresholds.png.

    Args:
      predictor: of the run.
      records: folder of those that it was trained on.
      info: of the records.
      run: its folder.
      config: settings.
      how: settings of the predictor.
      progress: shows how far it is.

    Raises:
      ValueError: the run does not segment, or was trained on other records.
    """
    trained = predictor.trained
    _check(trained, records, info)
    _, split = training_splits(info, trained.fold)
    classes = trained.scored_classes
    cleans = trained.overlapping or 0 not in classes
    task = Task(config.metric, list(classes), trained.overlapping)
    workers = default_workers() if config.workers is None else config.workers
    with tempfile.TemporaryDirectory(prefix=".tune-", dir=run.path) as folder, worker_pool(workers) as pool:
        paths = _predict(predictor, records, info, split, how.batch_size, Path(folder), progress)
        judge = _Judge(pool, task, paths)
        thresholds = _OBJECT_THRESHOLDS if task.of_objects else THRESHOLDS
        found: dict[str, Found] = {}
        best: Postprocess = {}
        with progress("try", len(classes)) as report:
            for number, name in classes.items():
                # Where a pixel has one of several classes, what one of them gains another loses.
                score = judge.score_beside(number, best) if trained.labels.softmax else judge.score_of(number)
                found[name] = search(score, thresholds, task.of_objects, config.min_gain, cleans)
                best[number] = found[name].best.steps
                report(len(found))
        plain, chosen = judge.together([dict.fromkeys(classes, Steps()), best])
    if chosen <= plain:  # what one class gains, others may lose
        best, chosen = dict.fromkeys(classes, Steps()), plain
        found = {name: each._replace(best=each.plain, taken=[]) for name, each in found.items()}
    content = {
        "model_sha256": trained.digest,
        "fingerprint": trained.fingerprint,
        "split": split,
        "num_examples": len(paths),
        "metric": config.metric,
        "plain": plain,
        "chosen": chosen,
        "classes": {name: dataclasses.asdict(best[number]) for number, name in classes.items()},
        "sweeps": {name: [[t.steps.threshold, t.score] for t in each.sweep] for name, each in found.items()},
    }
    write_postprocess(run.postprocess, how.way, content)
    plot = run.plots / ("-".join(["thresholds", *filter(None, [how.way])]) + ".png")
    draw_sweeps(found, config.metric, plot)
    return Choice(found, plain, chosen, len(paths), plot)


def _check(trained, records: str, info: RecordsInfo) -> None:
    if trained.task != "segment":
        raise ValueError(f"run: expected one that segments, found one of --task {trained.task}; it has one threshold")
    if info.fingerprint != trained.fingerprint:
        raise ValueError(
            f"records: expected those that the run was trained on, whose validation split it has not seen, found "
            f"{records}, which are others"
        )
    for member in trained.others:
        if (member.fingerprint, member.fold) != (trained.fingerprint, trained.fold):
            raise ValueError(
                "ensemble: expected runs on the same records and fold, so that none has trained on what is validated "
                "with, found others; leave them out"
            )


def _predict(
    predictor: Predictor, records: str, info: RecordsInfo, split: str, batch_size: int, folder: Path, progress: Progress
) -> list[Path]:
    """Writes what is predicted for the split into a folder; returns the files of the images."""
    total = info.splits[split].num_examples
    how = {"whole_masks": True, "overlap": predictor.tile_overlap, "details": True}
    files, batches = split_batches(records, info, split, predictor.trained.crop, batch_size, predictor.strategy, **how)
    with progress("predict", total) as report, explain_damage(records, info, files):

        def told():
            done = 0
            for batch in predictor.probabilities(batches):
                yield batch
                done += len(batch["source_id"])
                report(done)

        paths = keep_images(told(), predictor.trained.labels.softmax, folder)
    check_complete(records, info, split, len(paths))
    return paths


class _Judge:
    """What steps score on the images, judged in processes."""

    def __init__(self, pool: Pool, task: Task, paths: Sequence[Path]):
        self._pool, self._task = pool, task
        self._parts = [paths[start : start + _IMAGES_PER_CALL] for start in range(0, len(paths), _IMAGES_PER_CALL)]

    def score_of(self, number: int):
        """Returns the score of a class's steps, as `search` takes it."""

        def score(candidates: Sequence[Steps]) -> list[float]:
            counts = self._map(judge_candidates, number, candidates)
            return [score_counts(self._task.metric, counts[:, [index]]) for index in range(len(candidates))]

        return score

    def score_beside(self, number: int, others: Postprocess):
        """Returns the score of all classes with a class's steps, and those of others, as `search` takes it."""
        return lambda candidates: self.together([{**others, number: steps} for steps in candidates])

    def together(self, choices: Sequence[Postprocess]) -> list[float]:
        """Returns the score of all classes with each of several choices."""
        counts = self._map(judge_together, choices)
        return [score_counts(self._task.metric, counts[:, index]) for index in range(len(choices))]

    def _map(self, function, *arguments) -> np.ndarray:
        calls = Calls(self._pool, max(1, 3 * self._pool.workers))
        for part in self._parts:
            calls.call(function, self._task, part, *arguments)
        return np.stack([counts for result in calls.results() for counts in result])

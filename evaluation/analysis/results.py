"""The evaluations of runs, opened to be looked at side by side."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from evaluation.comparison.folds import judge_fold
from evaluation.comparison.judged import Judged, check_same_images, read_judged, short_names
from evaluation.comparison.pairs import Comparison, compare
from evaluation.folder import CALIBRATION_FILE, METRICS_FILE, PER_IMAGE_FILE
from evaluation.report.files import Evaluation, read_evaluation
from evaluation.report.scores import ScoreRow, score_rows


class Result(NamedTuple):
    """An evaluation of a run that segments.

    Attributes:
      name: of the evaluation's folder, such as test-tta; of several runs with the run before it.
      run: RUN folder.
      files: what the evaluation's files hold.
      judged: scores of each image, by key.
      calibration: content of calibration.csv; None: not measured.
    """

    name: str
    run: Path
    files: Evaluation
    judged: Judged
    calibration: pd.DataFrame | None

    @property
    def digest(self) -> str | None:
        """SHA-256 of the model that was evaluated; None: not known."""
        return self.files.evaluated.get("model", {}).get("sha256")

    @property
    def fold(self) -> int | None:
        """The fold that validated the run; None: the validation split."""
        return self.files.config.get("train", {}).get("input", {}).get("fold")


def read_results(runs: Sequence[str], first: str | None = None) -> list[Result]:
    """Returns the evaluations of runs, those without scores (of unlabelled records) left out.

    Args:
      runs: RUN folders.
      first: name of the first run's evaluation that is to come first; None: test, where there is one.

    Raises:
      ValueError: a run was named twice, has no evaluation, classifies, or lacks the one that is to be first.
    """
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ValueError(f"runs: expected each once, found {' '.join(runs)}; leave out what is there twice")
    results: list[Result] = []
    for run, short in zip(runs, short_names(list(runs)), strict=True):
        names = sorted(path.parent.name for path in Path(run).glob(f"eval/*/{METRICS_FILE}"))
        names = [name for name in names if (Path(run) / "eval" / name / PER_IMAGE_FILE).is_file()]
        if not names:
            raise ValueError(
                f"{run}: expected evaluations with scores in its folder eval, found none; "
                f"run `python test.py {run} RECORDS` first"
            )
        if not results:
            names = _put_first(names, first, run)
        results += [_read(Path(run), name, f"{short}/{name}" if len(runs) > 1 else name) for name in names]
    return results


def describe(results: Sequence[Result]) -> str:
    """Returns a line on each evaluation: its images and its first score, with the 95 % interval."""
    lines = []
    for result in results:
        line = f"{result.name}: {len(result.judged.images):,} images"
        for row in score_rows(result.files.metrics)[:1]:
            line += f", {row.score.label} {_write(row)}"
        lines.append(line)
    return "\n".join(lines)


def score_frame(results: Sequence[Result]) -> pd.DataFrame:
    """Returns a row for each score that any evaluation has, a column for each: value and interval, as text."""
    columns = {
        result.name: {
            row.score.label + f" ({row.unit})" * bool(row.unit): _write(row) for row in score_rows(result.files.metrics)
        }
        for result in results
    }
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    return pd.DataFrame(columns, index=pd.Index(labels, name="score")).fillna("")


def compare_results(results: Sequence[Result], score: str, seed: int = 0) -> tuple[list[Comparison], str]:
    """Returns (every evaluation of the same images against the first, lines that say how many and why not the others).

    Args:
      results: one or more.
      score: a column of per_image.csv.
      seed: of the bootstrap.
    """
    first, *others = [result.judged for result in results]
    comparisons, lines = [], []
    for other in others:
        try:
            comparisons.append(compare(first, check_same_images(first, other), score, seed))
        except ValueError as error:
            lines.append(f"left out: {error}")
    if not others:
        return [], "There is one evaluation alone, and nothing to compare it with."
    compared = f"{len(comparisons)} of {len(others)} others compared with {first.name} on the same images"
    return comparisons, "\n".join([compared, *lines])


def class_frame(result: Result, score: str = "dice", seed: int = 0) -> pd.DataFrame:
    """Returns class, score ("per image", say), value, low and high (of the 95 % interval); empty of one class alone.

    Args:
      result: an evaluation.
      score: column of per_image.csv, without its class.
      seed: of the bootstrap.
    """
    rows = []
    for name in result.files.class_names:
        if f"{score}/{name}" in result.judged.scores:
            fold = judge_fold(result.judged, f"{score}/{name}", seed)
            for label, value in fold.scores.items():
                low, high = fold.intervals[label] or (None, None)
                rows.append((name, label.removeprefix(f"{score}/{name} "), value, low, high))
    table = pd.DataFrame(rows, columns=["class", "score", "value", "low", "high"])
    return table.astype(dict.fromkeys(("value", "low", "high"), "float64"))


def _write(row: ScoreRow) -> str:
    interval = f" ({row.interval[0]:.4f} to {row.interval[1]:.4f})" if row.interval else ""
    return f"{row.value:.4f}{interval}"


def _put_first(names: list[str], first: str | None, run: str) -> list[str]:
    if first is None:
        first = "test" if "test" in names else names[0]
    if first not in names:
        raise ValueError(
            f"{run}: expected an evaluation {first}, found {', '.join(names)}; choose one of these or run test.py"
        )
    return [first, *(name for name in names if name != first)]


def _read(run: Path, name: str, shown: str) -> Result:
    folder = run / "eval" / name
    judged = read_judged(str(folder), name)
    if "probability" in judged.images:
        raise ValueError(
            f"{folder}: expected scores of masks, found answers of a classifier, which this is not for; "
            f"read {folder / 'report.html'}, or compare it with `python -m evaluation.compare`"
        )
    path = folder / CALIBRATION_FILE
    calibration = pd.read_csv(path, dtype={"class": str}, keep_default_na=False) if path.is_file() else None
    return Result(shown, run, read_evaluation(folder), dataclasses.replace(judged, name=shown), calibration)

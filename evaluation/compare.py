"""python -m evaluation.compare RUN RUN ...: which run is better, and how sure is that?"""

from dataclasses import dataclass
from pathlib import Path

import cli


@dataclass(frozen=True)
class CompareConfig:
    """How judged runs are compared."""

    split: str | None = None
    """On which they were judged; null: test, with --folds the one that validated each run."""
    score: str | None = None
    """A column of per_image.csv; null: dice, of classifiers accuracy."""
    folds: bool = False
    """The runs are those of a cross-validation: their mean, not their differences."""
    out: str | None = None
    """Folder for tables (CSV) and a plot; null: the terminal is enough."""
    seed: int = 0
    """Of the bootstrap."""


def main() -> None:
    """Parses the command line, reads the evaluations, compares them, shows what was found."""
    arguments, config = cli.parse(
        CompareConfig,
        {"runs": "RUN folders that test.py has judged, or their eval/SPLIT folders; the first is the measure."},
        "python -m evaluation.compare",
        "Compares judged runs image by image: better, worse, or can't tell? With --folds: the mean over folds.",
        several="runs",
    )
    runs = arguments["runs"]
    if len(runs) < 2:
        raise ValueError(f"runs: expected at least 2, found {len(runs)}; name those to be compared")
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ValueError(f"runs: expected each once, found {' '.join(runs)}; leave out what is there twice")
    (_average if config.folds else _compare)(runs, config)


def _compare(runs: list[str], config: CompareConfig) -> None:
    from evaluation.comparison.judged import check_same_images, default_score, read_judged
    from evaluation.comparison.pairs import compare
    from evaluation.comparison.plot import draw_comparison, save
    from evaluation.comparison.tables import (
        comparison_frame,
        comparison_table,
        count_lines,
        image_frame,
        metrics_frame,
        metrics_table,
        steps_lines,
    )

    split = config.split or "test"
    first, *others = [read_judged(run, split) for run in runs]
    score = config.score or default_score(first)
    for run in (first, *others):
        run.values(score)  # a classifier beside a segmenter: that is what is wrong, not their images
    others = [check_same_images(first, other) for other in others]
    comparisons = [compare(first, other, score, config.seed) for other in others]
    metrics = metrics_frame([first, *others])
    cli.console.print(comparison_table(comparisons, first, f"{score}, split {split}"))
    for line in [*count_lines(comparisons, first.name), *steps_lines([first, *others])]:
        cli.console.print(line)
    cli.console.print(metrics_table(metrics))
    if config.out:
        folder = _make_folder(config.out)
        comparison_frame(comparisons).to_csv(folder / "comparison.csv", index=False)
        image_frame([first, *others], score).to_csv(folder / "images.csv")
        metrics.to_csv(folder / "metrics.csv")
        save(draw_comparison(comparisons, first, score), folder / "comparison.png")
        cli.console.print(f"tables {folder}/*.csv, plot {folder / 'comparison.png'}")


def _average(runs: list[str], config: CompareConfig) -> None:
    from evaluation.comparison.folds import check_folds, judge_fold, own_split
    from evaluation.comparison.judged import default_score, read_judged
    from evaluation.comparison.plot import draw_folds, save
    from evaluation.comparison.tables import fold_metrics_table, folds_frame, folds_table, metrics_frame

    judged = [read_judged(run, config.split or own_split(run)) for run in runs]
    score = config.score or default_score(judged[0])
    same_images = check_folds(judged)
    folds = [judge_fold(run, score, config.seed) for run in judged]
    metrics = metrics_frame(judged)
    title = f"{score}, split {config.split}" if config.split else f"{score}, each run on its own fold"
    cli.console.print(folds_table(folds, title, same_images))
    cli.console.print(fold_metrics_table(metrics))
    if config.out:
        folder = _make_folder(config.out)
        folds_frame(folds).to_csv(folder / "folds.csv", index=False)
        metrics.to_csv(folder / "metrics.csv")
        save(draw_folds(folds, score), folder / "folds.png")
        cli.console.print(f"tables {folder}/*.csv, plot {folder / 'folds.png'}")


def _make_folder(path: str) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    cli.run(main)

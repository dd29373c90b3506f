"""Comparisons in the terminal and as CSV."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.table import Table

from evaluation.comparison.folds import Fold, Summary, summarize_folds
from evaluation.comparison.judged import Judged, short_names
from evaluation.comparison.pairs import FEWEST_GROUPS, Comparison

MEAN = "mean of folds"


def comparison_frame(comparisons: list[Comparison]) -> pd.DataFrame:
    """Returns a row for each run but the first, and each kind of score: values, difference, interval, verdict."""
    rows = []
    for comparison in comparisons:
        counts = {name: getattr(comparison, name) for name in ("groups", "better", "worse", "equal")}
        for pair in comparison.pairs:
            low, high = pair.interval or (None, None)
            rows.append(
                {
                    "run": comparison.run,
                    "score": pair.score,
                    "first": pair.first,
                    "value": pair.value,
                    "difference": pair.difference,
                    "low": low,
                    "high": high,
                    "verdict": pair.verdict,
                    **counts,
                }
            )
    return pd.DataFrame(rows)


def image_frame(runs: list[Judged], score: str) -> pd.DataFrame:
    """Returns a row for each image: its group, its score in each run, and by how much that differs from the first."""
    table = pd.DataFrame({"group": runs[0].groups}, index=runs[0].images.index)
    for run in runs:
        table[run.name] = run.values(score)
    for run in runs[1:]:
        table[f"{run.name} - {runs[0].name}"] = table[run.name] - table[runs[0].name]
    return table


def metrics_frame(runs: list[Judged]) -> pd.DataFrame:
    """Returns the numbers of metrics.json that all runs have: a row for each, a column for each run."""
    names = [name for name in runs[0].metrics if all(_is_number(run.metrics.get(name)) for run in runs)]
    columns = {run.name: [run.metrics[name] for name in names] for run in runs}
    return pd.DataFrame(columns, index=pd.Index(names, name="metric"))


def comparison_table(comparisons: list[Comparison], first: Judged, title: str) -> Table:
    """Returns a table of all runs against the first."""
    name, *names = short_names([first.name, *(each.run for each in comparisons)])
    groups = min(each.groups for each in comparisons)
    caption = f"95 % bootstrap intervals of the difference over {_plural(groups, 'group')}; can't tell: it holds 0"
    if groups < FEWEST_GROUPS:
        caption += f", or there are fewer than {FEWEST_GROUPS} groups"
    table = _table(f"{title}: {_plural(len(first.images), 'image')}, against {name}", caption)
    for heading in ("run", "score"):
        table.add_column(heading)
    for heading in ("first", "value", "difference", "95 % interval"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    table.add_column("better / worse / equal on", justify="right")
    for run, each in zip(names, comparisons, strict=True):
        for pair in each.pairs:
            is_mean = pair is each.pairs[0]
            table.add_row(
                run if is_mean else "",
                pair.score + " (less is better)" * each.lower_is_better,
                _number(pair.first),
                _number(pair.value),
                _number(pair.difference, "+"),
                _interval(pair.interval, "+"),
                pair.verdict,
                f"{each.better} / {each.worse} / {each.equal}" if is_mean else "",
            )
    return table


def metrics_table(metrics: pd.DataFrame) -> Table:
    """Returns a table of what `metrics_frame` lists, without single classes, thresholds and constant baselines."""
    table = _table("metrics.json of all, side by side", None)
    table.add_column("metric")
    for name in short_names(list(metrics)):
        table.add_column(name, justify="right")
    for name, values in metrics.iterrows():
        if "/" not in name and "@" not in name:
            table.add_row(name, *(f"{value:.0f}" if name.startswith("num_") else _number(value) for value in values))
    return table


def folds_frame(folds: list[Fold]) -> pd.DataFrame:
    """Returns a row for each fold and score, and for each score one with the mean, whose interval is that of folds."""
    rows = []
    for name in folds[0].scores:
        for fold in folds:
            low, high = fold.intervals[name] or (None, None)
            rows.append((fold.run, name, fold.images, fold.groups, fold.scores[name], None, low, high))
        if summary := summarize_folds([fold.scores[name] for fold in folds]):
            images, groups = sum(fold.images for fold in folds), sum(fold.groups for fold in folds)
            rows.append((MEAN, name, images, groups, summary.mean, summary.spread, *summary.interval))
    return pd.DataFrame(rows, columns=["run", "score", "images", "groups", "value", "spread", "low", "high"])


def folds_table(folds: list[Fold], title: str, same_images: bool) -> Table:
    """Returns a table of folds, and their mean; same_images: all were judged on the same, not each on its own."""
    caption = (
        f"folds: 95 % bootstrap intervals over groups. Their mean: mean ± t · spread / √{len(folds)}, t of Student's "
        f"distribution with {len(folds) - 1} degrees of freedom. The folds' models share most training images, so the "
        f"mean is less sure than that; {_plural(len(folds), 'fold')} tell{'s' * (len(folds) == 1)} little."
    )
    if same_images:
        caption += " All were judged on the same images: how another choice of these would score, the mean's interval "
        caption += "does not say."
    table = _table(title, caption)
    table.add_column("run")
    table.add_column("images", justify="right")
    for name in folds[0].scores:
        table.add_column(name, justify="right")
        table.add_column("95 % interval", justify="right")
    for run, fold in zip(short_names([fold.run for fold in folds]), folds, strict=True):
        cells = [(_number(fold.scores[name]), _interval(fold.intervals[name])) for name in fold.scores]
        table.add_row(run, str(fold.images), *(text for pair in cells for text in pair))
    table.add_section()
    summaries = [summarize_folds([fold.scores[name] for fold in folds]) for name in folds[0].scores]
    table.add_row(MEAN, "", *_pairs(summaries, lambda each: (_number(each.mean), _interval(each.interval))))
    table.add_row("spread", "", *_pairs(summaries, lambda each: (_number(each.spread), "")))
    return table


def fold_metrics_table(metrics: pd.DataFrame) -> Table:
    """Returns a table of the mean over folds of each metric that all have, with its interval and spread."""
    table = _table("metrics.json of the folds", None)
    table.add_column("metric")
    for heading in (MEAN, "95 % interval", "spread", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, values in metrics.iterrows():
        if "/" not in name and "@" not in name and not name.startswith(("num_", "threshold")):
            each = summarize_folds(values.tolist())
            numbers = _number(each.spread), _number(values.min()), _number(values.max())
            table.add_row(name, _number(each.mean), _interval(each.interval), *numbers)
    return table


def _table(title: str, caption: str | None) -> Table:
    return Table(title=title, caption=caption, title_justify="left", caption_justify="left")


def _pairs(summaries: Sequence[Summary | None], cells) -> list[str]:
    return [text for each in summaries for text in (cells(each) if each else ("", ""))]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _interval(bounds: list[float] | None, sign: str = "") -> str:
    return f"{bounds[0]:{sign}.4f} – {bounds[1]:{sign}.4f}" if bounds else ""


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)

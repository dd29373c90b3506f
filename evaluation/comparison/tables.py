"""Comparisons in the terminal and as CSV."""

import numpy as np
import pandas as pd
from rich.table import Table

from evaluation.comparison.folds import Fold, summarize_folds
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
    return pd.DataFrame(columns, index=pd.Index(names, name="metric"), dtype=object)  # counts stay whole


def comparison_table(comparisons: list[Comparison], first: Judged, title: str) -> Table:
    """Returns a table of all runs against the first."""
    name, *names = short_names([first.name, *(each.run for each in comparisons)])
    groups = min(each.groups for each in comparisons)
    caption = f"differences from {name}, with 95 % bootstrap intervals over {_plural(groups, 'group')}\n"
    caption += "less is better; " * comparisons[0].lower_is_better + "can't tell: the interval holds 0"
    if groups < FEWEST_GROUPS:
        caption += f", or there are fewer than {FEWEST_GROUPS} groups"
    table = _table(f"{title}: {_plural(len(first.images), 'image')}", caption)
    table.add_column("run", overflow="fold")
    for heading in ("value", "difference", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for kind, measure in enumerate(comparisons[0].pairs):
        table.add_section()
        table.add_row(measure.score)
        table.add_row(f"  {name}", _number(measure.first))
        for run, each in zip(names, comparisons, strict=True):
            pair = each.pairs[kind]
            difference = _number(pair.difference, "+"), _interval(pair.interval, "+")
            table.add_row(f"  {run}", _number(pair.value), *difference, pair.verdict)
    return table


def count_lines(comparisons: list[Comparison], first: str) -> list[str]:
    """Returns for each run a line that says on how many images it is better than the first."""
    name, *names = short_names([first, *(each.run for each in comparisons)])
    lines = []
    for run, each in zip(names, comparisons, strict=True):
        images = each.better + each.worse + each.equal
        line = f"{run}  better than {name} on {each.better:,} of {_plural(images, 'image')}, worse on {each.worse:,}, "
        missing = f"; not measured in both on {len(each.differences) - images:,}"
        lines.append(f"{line}equal on {each.equal:,}" + missing * (images < len(each.differences)))
    return lines


def steps_lines(runs: list[Judged]) -> list[str]:
    """Returns how each run's masks were made, where that is not the same: a part of the difference may come from it."""
    if len({run.steps for run in runs}) == 1:
        return []
    names = short_names([run.name for run in runs])
    return [f"{name}  masks: {run.steps or 'not known how'}" for name, run in zip(names, runs, strict=True)]


def metrics_table(metrics: pd.DataFrame) -> Table:
    """Returns a table of what `metrics_frame` lists, without single classes, thresholds and constant baselines."""
    table = _table("metrics.json of all, side by side", None)
    table.add_column("metric")
    for name in short_names(list(metrics)):
        table.add_column(name, justify="right")
    for name, values in metrics.iterrows():
        if "/" not in name and "@" not in name:
            table.add_row(name, *(_number(value) for value in values))
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
        "folds: 95 % bootstrap intervals over groups\n"
        f"mean: ± t · spread / √{len(folds)}, t of Student's distribution with {len(folds) - 1} degrees of freedom\n"
        f"The folds' models share training images, so the mean is less sure than that; {len(folds)} folds tell little."
    )
    if same_images:
        caption += "\nAll were judged on the same images: how other images would score, the mean's interval leaves out."
    table = _table(title, caption)
    table.add_column("run", overflow="fold")
    for heading in ("images", "value", "95 % interval", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    names = short_names([fold.run for fold in folds])
    for kind in folds[0].scores:
        table.add_section()
        table.add_row(kind)
        for name, fold in zip(names, folds, strict=True):
            value, interval = fold.scores[kind], fold.intervals[kind]
            table.add_row(f"  {name}", str(fold.images), _number(value), _interval(interval))
        if each := summarize_folds([fold.scores[kind] for fold in folds]):
            table.add_row(f"  {MEAN}", "", _number(each.mean), _interval(each.interval), _number(each.spread))
    return table


def fold_metrics_table(metrics: pd.DataFrame) -> Table:
    """Returns a table of the mean over folds of each metric that all have, with its interval and spread."""
    table = _table("metrics.json of the folds", None)
    table.add_column("metric")
    for heading in ("mean", "95 % interval", "spread", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in metrics.iterrows():
        if "/" not in name and "@" not in name and not name.startswith(("num_", "threshold")):
            each = summarize_folds(values.tolist())
            numbers = _number(each.spread), _number(values.min()), _number(values.max())
            table.add_row(name, _number(each.mean), _interval(each.interval), *numbers)
    return table


def _table(title: str, caption: str | None) -> Table:
    return Table(title=title, caption=caption, title_justify="left", caption_justify="left")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _interval(bounds: list[float] | None, sign: str = "") -> str:
    return f"{bounds[0]:{sign}.4f} to {bounds[1]:{sign}.4f}" if bounds else ""


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:{sign}.4f}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)

"""Plots of scores: of evaluations side by side, of their images, and of what the images are like."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from evaluation.analysis.facts import MEASURES, unit_of
from evaluation.analysis.results import Result, class_frame
from evaluation.comparison.pairs import Comparison
from evaluation.comparison.plot import draw_comparison
from evaluation.exploration.canvas import MUTED, PALE, TEXT, Colour, class_colour, label_axis, make_figure, note
from evaluation.exploration.dataset import Dataset
from evaluation.pictures import INVENTED, MISSED
from evaluation.report.scores import score_rows

MOST_RESULTS = 8
"""So many evaluations are drawn side by side."""

_ORDER = (4, 0, 2, 6, 1, 5, 7, 9)
_COLUMNS = 4
_MOST_PARTS = 20
_WORST = 12


def result_colour(number: int) -> Colour:
    """Returns the RGB colour (0 to 1) of the number-th evaluation."""
    return class_colour(_ORDER[number % MOST_RESULTS])


def add_result_legend(figure: Figure, results: Sequence[Result]) -> None:
    """Says above the axes which colour is which evaluation, where there are several."""
    if len(results) > 1:
        handles = [
            Line2D([], [], color=result_colour(number), linewidth=2.5, label=result.name)
            for number, result in enumerate(results)
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=9, labelcolor=TEXT)


def draw_scores(results: Sequence[Result]) -> Figure:
    """Draws the scores between 0 and 1 of all evaluations with their intervals, and what constant predictions score."""
    results = results[:MOST_RESULTS]
    labels = list(dict.fromkeys(row.score.label for result in results for row in _shares(result)))
    if not labels:
        return note("There are no scores: of these images no pixel's class is known.")
    figure, axes = make_figure(1, 1, 0.8 + len(labels) * (0.2 + 0.11 * len(results)))
    axis, step = axes[0, 0], 0.7 / len(results)
    for number, result in enumerate(results):
        colour = result_colour(number)
        for row in _shares(result):
            place = labels.index(row.score.label) + step * (number - (len(results) - 1) / 2)
            if row.interval:
                axis.plot(row.interval, [place, place], color=colour, linewidth=2, alpha=0.6, solid_capstyle="round")
            axis.plot(row.value, place, "o", color=colour, markersize=5)
            if number == 0:
                known = [value for value in row.baselines if value is not None]
                axis.plot(known, [place] * len(known), "|", color=MUTED, markersize=9)
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(axis="y", colors=TEXT)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlim(-0.01, 1.01)
    axis.grid(axis="x", color=PALE, linewidth=0.6)
    axis.spines["left"].set_visible(False)
    label_axis(axis, "Scores with their 95 % intervals; ticks: predicting nothing, or everything")
    add_result_legend(figure, results)
    return figure


def draw_differences(comparisons: Sequence[Comparison], first: Result, score: str) -> Figure:
    """Draws every other evaluation of the same images against the first, see `evaluation.comparison.plot`."""
    if not comparisons:
        return note(f"There is no other evaluation that has {score} of the same images.")
    return draw_comparison(list(comparisons), first.judged, score)


def draw_images(results: Sequence[Result], score: str) -> Figure:
    """Draws for each evaluation the share of its images up to each score: the further right, the better."""
    results = [result for result in results[:MOST_RESULTS] if score in result.judged.scores]
    if not results:
        return note(f"No evaluation has {score} of each image.")
    figure, axes = make_figure(1, 1, 3.4)
    for number, result in enumerate(results):
        values = np.sort(result.judged.values(score)[~np.isnan(result.judged.values(score))])
        if len(values):
            heights = np.arange(1, len(values) + 1) / len(values)
            axes[0, 0].step(values, heights, where="post", color=result_colour(number), linewidth=1.6)
    axes[0, 0].yaxis.set_major_formatter(FuncFormatter(_percent))
    axes[0, 0].grid(color=PALE, linewidth=0.6)
    axes[0, 0].set_ylim(0, 1.02)
    label_axis(axes[0, 0], f"Images whose {score} is at most …", f"{score} of an image", "share of images")
    add_result_legend(figure, results)
    return figure


def draw_errors(result: Result) -> Figure:
    """Draws in how many images how many of the wrong pixels lie, and how many the worst miss and invent."""
    wrong = error_frame(result)
    if not wrong["wrong"].sum():
        return note("No pixel is wrong.")
    figure, axes = make_figure(1, 2, 3.6, width_ratios=[1, 1.2])
    left, right = axes[0]
    shares = np.cumsum(wrong["wrong"]) / wrong["wrong"].sum()
    images = np.arange(1, len(wrong) + 1)
    half = int(np.searchsorted(shares, 0.5)) + 1
    left.plot([0, *images], [0, *shares], color=result_colour(0), linewidth=1.6)
    left.plot([0, len(wrong)], [0, 1], color=PALE, linewidth=1)
    left.plot(half, shares.iloc[half - 1], "o", color=result_colour(0), markersize=6)
    left.yaxis.set_major_formatter(FuncFormatter(_percent))
    left.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    many = f"{half} image{'s' * (half != 1)} of {len(wrong)}"
    label_axis(left, f"Half of all wrong pixels: in {many}", "images, most wrong pixels first", "of all wrong pixels")
    worst = wrong.head(_WORST)
    for kind, ink, start in (("missed", MISSED, 0), ("invented", INVENTED, worst["missed"])):
        right.barh(range(len(worst)), worst[kind], left=start, color=np.array(ink) / 255, height=0.7, label=kind)
    right.set_yticks(range(len(worst)), [short_key(key) for key in worst.index], fontsize=8)
    right.set_ylim(max(len(worst), 6) - 0.5, -0.5)
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9, labelcolor=TEXT)
    label_axis(right, "Where they are most", "wrong pixels")
    return figure


def error_frame(result: Result) -> pd.DataFrame:
    """Returns by key the pixels that were missed, invented and both together (wrong), most wrong ones first.

    With several classes a pixel that was given to another class is missed in one and invented in the other.
    """
    files = result.files
    missed, invented = (files.pixels(kind).to_numpy() for kind in ("fn", "fp"))
    table = pd.DataFrame({"missed": missed, "invented": invented}, index=files.images["source_id"].to_numpy())
    return table.assign(wrong=table.sum(axis=1)).sort_values("wrong", ascending=False, kind="stable")


def draw_relations(facts: pd.DataFrame, relations: pd.DataFrame, score: str, dataset: Dataset) -> Figure:
    """Draws the score of each image against each measure, the strongest correlation first.

    Args:
      facts: as `facts.read_facts` returns it.
      relations: as `relations.relate` returns it for that score.
      score: a column of both.
      dataset: the records.
    """
    if relations.empty:
        return note(f"Nothing is known of the images, or {score} is the same for all.")
    rows = -(-len(relations) // _COLUMNS)
    figure, axes = make_figure(rows, _COLUMNS, 0.3 + 2.5 * rows, sharey=True)
    for axis in axes.flat[len(relations) :]:
        axis.set_axis_off()
    for number, (axis, row) in enumerate(zip(axes.flat, relations.itertuples(), strict=False)):
        known = facts[[row.Index, score]].dropna()
        measure = MEASURES[row.Index]
        colour = MUTED if row.verdict == "can't tell" else result_colour(0)
        axis.scatter(known[row.Index], known[score], s=12, color=colour, alpha=0.55, linewidths=0)
        middles = bin_medians(known[row.Index].to_numpy(float), known[score].to_numpy(float))
        axis.plot(*zip(*middles, strict=True), color=TEXT, linewidth=1.4)
        if measure.log and known[row.Index].min() > 0:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            wide = known[row.Index].max() / known[row.Index].min() > 20
            axis.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
            axis.xaxis.set_minor_locator(NullLocator())
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=row.Index == "objects"))
        axis.grid(color=PALE, linewidth=0.6)
        title = f"{measure.label[0].upper()}{measure.label[1:]}\n{row.correlation:+.2f}"
        title += "" if np.isnan(row.low) else f" ({row.low:+.2f} to {row.high:+.2f})"
        label_axis(axis, title, unit_of(row.Index, dataset), score if number % _COLUMNS == 0 else None)
    return figure


def bin_medians(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Returns the median (x, y) of up to six bins of equally many points, of at least four each."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, max(1, min(6, len(x) // 4)))
    return [(float(np.median(x[part])), float(np.median(y[part]))) for part in bins]


def draw_parts(facts: pd.DataFrame, by: str, score: str, training: pd.Series | None = None) -> Figure:
    """Draws the score of each image, a row for each part of the images, the worst mean first.

    Args:
      facts: as `facts.read_facts` returns it.
      by: column that tells the parts, such as group or size.
      score: a column of per_image.csv.
      training: number of training examples by part, to be named beside it; None: of no use.
    """
    known = facts[[by, score]].dropna()
    parts = known.groupby(by)[score].agg(["size", "mean"])
    if known.empty:
        return note("None of the images is among these records.")
    if len(parts) == len(known):
        return note(f"Each image is a {by} of its own.")
    if len(parts) == 1:
        return note(f"All images have the same {by}: {parts.index[0]}.")
    shown = parts.sort_values("mean", kind="stable").head(_MOST_PARTS)
    figure, axes = make_figure(1, 1, 0.9 + 0.3 * len(shown))
    names = []
    for row, (part, size, mean) in enumerate(shown.itertuples()):
        values = np.sort(known.loc[known[by] == part, score])
        axes[0, 0].scatter(values, row + _spread(len(values)), s=14, color=result_colour(0), alpha=0.5, linewidths=0)
        axes[0, 0].plot([mean, mean], [row - 0.34, row + 0.34], color=TEXT, linewidth=1.8)
        name = f"{shorten(str(part), 24)}: {size}"
        names.append(name if training is None else f"{name}, trained on {training.get(part, 0):,}")
    axes[0, 0].set_yticks(range(len(shown)), names)
    axes[0, 0].tick_params(axis="y", colors=TEXT)
    axes[0, 0].set_ylim(len(shown) - 0.4, -0.6)
    axes[0, 0].grid(axis="x", color=PALE, linewidth=0.6)
    axes[0, 0].spines["left"].set_visible(False)
    worst = f"the worst {len(shown)} of {len(parts)}; " if len(parts) > len(shown) else ""
    label_axis(axes[0, 0], f"{score} of each image by {by} ({worst}lines: means)", f"{score} of an image")
    return figure


def draw_classes(result: Result, seed: int = 0) -> Figure:
    """Draws Dice of each class with its interval and, where it is known, to which class the pixels of each went."""
    table, confusion = class_frame(result, seed=seed), result.files.confusion
    if table.empty:
        return note("One class is scored: there is none to compare it with.")
    names = list(dict.fromkeys(table["class"]))
    figure, axes = make_figure(1, 1 + (confusion is not None), 1.4 + 0.42 * len(names))
    for name, kind, value, low, high in table.itertuples(index=False):
        per_image = kind == "per image"
        place, colour = names.index(name) + (-0.14 if per_image else 0.14), class_colour(names.index(name))
        axes[0, 0].plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        face = colour if per_image else "white"
        axes[0, 0].plot(value, place, "o", color=colour, markerfacecolor=face, markersize=6)
    axes[0, 0].set_yticks(range(len(names)), [shorten(name, 20) for name in names])
    axes[0, 0].tick_params(axis="y", colors=TEXT)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    axes[0, 0].grid(axis="x", color=PALE, linewidth=0.6)
    label_axis(axes[0, 0], "Dice of each class, 95 % intervals", "● per image   ○ all pixels together")
    if confusion is not None:
        _draw_confusion(axes[0, 1], confusion)
    return figure


def shorten(text: str, length: int) -> str:
    """Returns a text of at most so many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def short_key(key: str) -> str:
    """Returns a key of at most 17 characters: keys often differ at their ends alone."""
    return key if len(key) <= 17 else f"{key[:8]}…{key[-8:]}"


def _draw_confusion(axis: Axes, confusion: pd.DataFrame) -> None:
    shares = confusion.to_numpy(float) / np.maximum(1, confusion.to_numpy(float).sum(1, keepdims=True))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else TEXT
        axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_yticks(range(len(confusion)), [shorten(name, 14) for name in confusion.index], fontsize=8)
    axis.set_xticks(range(len(shares[0])), [shorten(name, 12) for name in confusion], fontsize=8, rotation=30)
    label_axis(axis, "Of the pixels of each class …", "… were predicted to be", "true class")


def _shares(result: Result):
    return [row for row in score_rows(result.files.metrics) if row.score.is_share]


def _spread(count: int) -> np.ndarray:
    """Returns how far from its row each of so many dots is drawn: three rows of them, so that neighbours part."""
    return (np.arange(count) % 3 - 1) * 0.16


def _percent(share: float, _: int | None = None) -> str:
    return f"{share:.0%}"

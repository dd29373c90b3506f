"""Pictures of comparisons: differences with their intervals, and folds around their mean."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.comparison.folds import Fold, summarize_folds
from evaluation.comparison.judged import Judged, short_names
from evaluation.comparison.pairs import Comparison
from evaluation.exploration.canvas import MUTED, PALE, TEXT, label_axis, make_figure

_COLOURS = {"better": "#0f766e", "worse": "#c2410c", "equal": "#6b7280", "can't tell": "#6b7280"}
_MEAN_COLOUR = "#2563eb"
_MOST_DOTS = 1500
_BINS = 120


def draw_comparison(comparisons: list[Comparison], first: Judged, score: str) -> Figure:
    """Draws a row for each run against the first: the mean difference with its interval, and that of each image."""
    name, *names = short_names([first.name, *(each.run for each in comparisons)])
    figure, axes = make_figure(
        1, 2, 1.3 + 0.95 * len(comparisons), sharey=True, gridspec_kw={"width_ratios": [1, 1.25]}
    )
    left, right = axes[0]
    for row, each in enumerate(comparisons):
        for kind, pair in enumerate(each.pairs):
            place = row + 0.26 * (kind - (len(each.pairs) - 1) / 2)
            _draw_interval(left, place, pair.difference, pair.interval, _COLOURS[pair.verdict], kind == 0)
        _draw_images(right, row, each)
    better = "left" if comparisons[0].lower_is_better else "right"
    kinds = " · ".join(f"{mark} {pair.score}" for mark, pair in zip("●○", comparisons[0].pairs, strict=False))
    label_axis(left, f"Difference from {name}, 95 % interval", f"{kinds} · better: to the {better}")
    label_axis(right, "Of each image", f"{score} less that of {name}")
    left.set_yticks(range(len(names)), names)
    left.tick_params(axis="y", colors=TEXT)
    left.set_ylim(len(names) - 0.45, -0.55)
    for axis in (left, right):
        axis.axvline(0, color=TEXT, linewidth=0.8, zorder=1)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", color=PALE, linewidth=0.6)
        axis.spines["left"].set_visible(False)
        _hold_zero(axis)
    return figure


def draw_folds(folds: list[Fold], score: str) -> Figure:
    """Draws a row for each fold, and below them their mean with its interval, a column for each kind of score."""
    kinds = list(folds[0].scores)
    figure, axes = make_figure(1, len(kinds), 1.5 + 0.34 * len(folds), sharey=True)
    last = len(folds) + 0.3
    for axis, kind in zip(axes[0], kinds, strict=True):
        for row, fold in enumerate(folds):
            if fold.scores[kind] is not None:
                _draw_interval(axis, row, fold.scores[kind], fold.intervals[kind], MUTED, True)
        summary = summarize_folds([fold.scores[kind] for fold in folds])
        if summary:
            low, high = summary.interval
            axis.axvspan(low, high, color=_MEAN_COLOUR, alpha=0.08, linewidth=0)
            axis.axvline(summary.mean, color=_MEAN_COLOUR, linewidth=0.8, alpha=0.6)
            _draw_interval(axis, last, summary.mean, summary.interval, _MEAN_COLOUR, True)
            label_axis(axis, f"{kind}\n{summary.mean:.4f} ({low:.4f} to {high:.4f}), spread {summary.spread:.4f}")
        axis.grid(axis="x", color=PALE, linewidth=0.6)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel(score, fontsize=9, color=MUTED)
    axes[0, 0].set_yticks([*range(len(folds)), last], [*short_names([fold.run for fold in folds]), "mean"])
    axes[0, 0].tick_params(axis="y", colors=TEXT)
    axes[0, 0].set_ylim(last + 0.6, -0.6)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    temporary = path.with_suffix(".tmp.png")
    try:
        figure.savefig(temporary, dpi=130)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _draw_interval(
    axis: Axes, row: float, value: float | None, bounds: list[float] | None, colour: str, filled: bool
) -> None:
    """Draws a dot with its interval, where there are any."""
    if bounds:
        axis.plot(bounds, [row, row], color=colour, linewidth=2.2, solid_capstyle="round", zorder=2)
    if value is not None:
        face = colour if filled else "white"
        axis.plot(value, row, "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.6, zorder=3)


def _draw_images(axis: Axes, row: int, comparison: Comparison) -> None:
    """Draws a dot for the difference of each image (of many: of images evenly spread over their ranks), as a swarm."""
    values = np.sort(comparison.differences[~np.isnan(comparison.differences)])
    if len(values) > _MOST_DOTS:
        values = values[np.linspace(0, len(values) - 1, _MOST_DOTS).round().astype(int)]
    gains = -values if comparison.lower_is_better else values
    colours = np.where(gains > 0, _COLOURS["better"], np.where(gains < 0, _COLOURS["worse"], _COLOURS["can't tell"]))
    axis.scatter(values, row + _swarm(values), s=9, c=colours, alpha=0.55, linewidths=0, zorder=2)
    axis.annotate(
        f"better on {comparison.better:,}, worse on {comparison.worse:,}, equal on {comparison.equal:,}",
        (0.995, row - 0.45),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="center",
        fontsize=8,
        color=MUTED,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},  # over the line at 0
    )


def _swarm(values: np.ndarray) -> np.ndarray:
    """Returns how far from its row each of sorted values is drawn, so that equal ones lie beside each other."""
    span = np.ptp(values) or 1.0
    bins = np.floor((values - values[0]) / span * _BINS).astype(int)
    rank, counts = np.arange(len(values)) - np.searchsorted(bins, bins), np.bincount(bins)
    # Empty images on which both are right are often the most: they must not flatten the others.
    telling = np.bincount(bins[values != 0], minlength=len(counts)).max()
    steps = np.minimum(min(0.06, 0.6 / max(1, telling)), 0.6 / np.maximum(1, counts))
    return (rank - (counts[bins] - 1) / 2) * steps[bins]


def _hold_zero(axis: Axes) -> None:
    """Widens an axis so that no difference looks like one, too."""
    low, high = axis.get_xlim()
    margin = 0.06 * (high - low)
    axis.set_xlim(min(low, -margin), max(high, margin))

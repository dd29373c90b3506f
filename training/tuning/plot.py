"""Parallel coordinates: an upright axis for each searched setting, a line across them for each trial."""

import math
import textwrap
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from training.tuning.space import Setting, Space
from training.tuning.trial import Trial, best_trial

_COLOURS = ListedColormap(plt.get_cmap("YlGnBu")(np.linspace(0.3, 1, 256)))  # its lightest would vanish on white
_PRUNED, _FAILED, _INK = "#c3c7cf", "#f0a7a0", "#374151"
_CHARACTER = 0.068
"""Inches of a character of the labels, and some air."""
_WRAP = 18
"""Characters of a line of a label."""
_MOST_LABELS = 8
"""Of the values of a range, where there is an end of them."""


def plot_trials(space: Space, trials: list[Trial], path: Path) -> None:
    """Draws all trials: colour and last axis are the score of those that have finished; the best lies on top."""
    axes = [_Axis(setting) for setting in space.settings]
    places = np.concatenate([[0], np.cumsum([axis.width for axis in axes])])
    figure = plt.figure(figsize=(places[-1] + 1.9, 4.8))
    axis = figure.add_axes((0.35 / (places[-1] + 1.9), 0.1, 1 - 1.35 / (places[-1] + 1.9), 0.75))
    axis.set_xlim(-0.2, places[-1] + 0.15)
    axis.set_ylim(-0.04, 1.04)
    axis.axis("off")
    best = best_trial(trials)
    scores = [trial.best[0] for trial in trials if trial.state == "finished"]
    low, high = _limits(scores)
    for trial in sorted(trials, key=lambda trial: _rank(trial, best)):
        heights = [each.height(trial.settings[each.setting.name]) for each in axes]
        if trial.state == "finished":
            share = (trial.best[0] - low) / (high - low)
            style = {"color": _COLOURS(share), "linewidth": 3.2 if trial is best else 1.4}
            _draw_line(axis, places, [*heights, share], alpha=1 if trial is best else 0.85, **style)
        else:
            style = {"color": _FAILED, "linestyle": ":"} if trial.state == "failed" else {"color": _PRUNED}
            _draw_line(axis, places[:-1], heights, linewidth=0.8, **style)
    for place, each in zip(places, axes, strict=False):
        _draw_axis(axis, place, each)
    if scores:
        _draw_scores(axis, places[-1], low, high, f"validation\n{space.base.monitored[1]}")
    _draw_legend(figure, trials, best)
    temporary = path.with_suffix(".tmp.png")
    try:
        figure.savefig(temporary, dpi=110)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        plt.close(figure)


class _Axis:
    """Where on its axis a setting's value lies, and how the axis is labelled."""

    def __init__(self, setting: Setting):
        self.setting = setting
        if setting.choices:
            labels = list(setting.choices)
            self._heights = {name: (index + 0.5) / len(labels) for index, name in enumerate(labels)}
            self.ticks = [(height, _wrap(name.replace('"', ""))) for name, height in self._heights.items()]
        else:
            distribution = setting.distribution
            self._scale = math.log10 if distribution.log else float
            self._low, self._high = self._scale(distribution.low), self._scale(distribution.high)
            self.ticks = [(self.height(value), f"{value:.4g}") for value in self._numbers()]
        self.title = _break_name(setting.name)
        lines = [line for _, text in self.ticks for line in text.split("\n")]
        longest = max(*map(len, lines), 1.1 * max(map(len, self.title.split("\n"))))
        self.width = max(1.25, 0.4 + _CHARACTER * longest)

    def height(self, value) -> float:
        """Returns where a value lies, from 0 to 1."""
        if self.setting.choices:
            return self._heights[self.setting.parameter(value)]
        return (self._scale(value) - self._low) / (self._high - self._low)

    def _numbers(self) -> list[float]:
        """Returns the values that are labelled."""
        low, high = self.setting.distribution.low, self.setting.distribution.high
        if self.setting.count is not None and self.setting.count <= _MOST_LABELS:
            return self.setting.values()
        if self.setting.distribution.log:
            found = LogLocator(subs=(1,) if high / low > 1e3 else (1, 3)).tick_values(low, high)
        else:
            found = MaxNLocator(5, integer=isinstance(low, int)).tick_values(low, high)
        inside = [value for value in found if low <= value <= high]
        return inside if len(inside) > 1 else [low, high]


def _rank(trial: Trial, best: Trial | None) -> tuple:
    """Returns what trials are drawn by: the last lies on top."""
    return trial is best, ("failed", "pruned", "finished").index(trial.state), trial.best or (0, 0)


def _limits(scores: list[float]) -> tuple[float, float]:
    if not scores:
        return 0.0, 1.0
    low, high = min(scores), max(scores)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _draw_line(axis, places, heights, **style) -> None:
    """Draws a trial: level at the axes, so that lines which meet there can be told apart between them."""
    along = np.linspace(0, 1, 30)
    ease = along * along * (3 - 2 * along)
    for (left, right), (start, end) in zip(pairwise(places), pairwise(heights), strict=True):
        axis.plot(left + (right - left) * along, start + (end - start) * ease, **style)
    size = 1.5 + 1.5 * style["linewidth"]
    axis.plot(places, heights, "o", color=style["color"], markersize=size, markeredgewidth=0)


def _draw_axis(axis, place: float, each: _Axis) -> None:
    axis.plot([place, place], [0, 1], color=_INK, linewidth=1, zorder=3)
    for height, text in each.ticks:
        axis.plot([place - 0.04, place], [height, height], color=_INK, linewidth=1, zorder=3)
        axis.annotate(
            text,
            (place, height),
            xytext=(4, 4 if each.setting.choices else 0),  # lines that meet in a choice leave it level
            textcoords="offset points",
            va="bottom" if each.setting.choices else "center",
            fontsize=8,
            color=_INK,
            linespacing=0.95,
            parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.8},  # over the lines
            zorder=4,
        )
    axis.annotate(
        each.title, (place, 1), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, color=_INK
    )


def _draw_scores(axis, place: float, low: float, high: float, title: str) -> None:
    """Draws the last axis, which is the colour bar too."""
    shares = np.linspace(0, 1, 256)[:, None]
    axis.imshow(shares, extent=(place, place + 0.12, 0, 1), origin="lower", aspect="auto", cmap=_COLOURS, zorder=3)
    inside = [value for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high]
    digits = max(2, 1 - math.floor(math.log10(high - low)))
    for value in inside if len(inside) > 1 else (low, high):
        place_of = (place + 0.12, (value - low) / (high - low))
        words = f"{value:.{digits}f}"
        axis.annotate(words, place_of, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_INK)
    axis.annotate(
        title, (place + 0.06, 1), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, color=_INK
    )


def _draw_legend(figure, trials: list[Trial], best: Trial | None) -> None:
    ends = [trial.state for trial in trials]
    entries = []
    if best:
        entries.append((f"best: trial {best.number}, {best.best[0]:.4f}", {"color": _COLOURS(1.0), "linewidth": 3.2}))
    for state, style in (
        ("finished", {"color": _COLOURS(0.5), "linewidth": 1.4}),
        ("pruned", {"color": _PRUNED, "linewidth": 0.8}),
        ("failed", {"color": _FAILED, "linewidth": 0.8, "linestyle": ":"}),
    ):
        if state in ends:
            entries.append((f"{ends.count(state)} {state}", style))
    lines = [Line2D([], [], **style) for _, style in entries]
    words = [words for words, _ in entries]
    figure.legend(
        lines, words, loc="lower center", ncols=len(lines), frameon=False, fontsize=8, labelcolor=_INK, handlelength=1.8
    )


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WRAP, max_lines=3, placeholder=" …"))


def _break_name(name: str) -> str:
    """Returns a setting's name in lines: its group, and what is left in one or two."""
    group, _, last = name.rpartition(".")
    lines = [last]
    if len(last) > _WRAP and "_" in last:
        breaks = [place + 1 for place, character in enumerate(last) if character == "_"]
        middle = min(breaks, key=lambda place: abs(place - len(last) / 2))
        lines = [last[:middle], last[middle:]]
    return "\n".join([f"{group}.", *lines] if group else lines)

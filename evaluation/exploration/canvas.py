"""How figures look: one style, one colour for each split and class.

Figures are made without pyplot, so that a notebook shows each once, and nothing is left open.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from imaging.painting import PALETTE

Colour = tuple[float, float, float]

TEXT, MUTED, PALE = "#1f2937", "#6b7280", "#e5e7eb"
WIDTH, DPI = 9.6, 96

_SPLIT_COLOURS = {"train": 4, "val": 5, "test": 2}
_FOLD_COLOURS = (4, 5, 1, 6, 0, 3)


def split_colour(split: str) -> Colour:
    """Returns the RGB colour (0 to 1) of a split or a fold."""
    if split in _SPLIT_COLOURS:
        return class_colour(_SPLIT_COLOURS[split])
    return class_colour(_FOLD_COLOURS[int(split.removeprefix("fold")) % len(_FOLD_COLOURS)])


def class_colour(number: int) -> Colour:
    """Returns the RGB colour (0 to 1) of the number-th class that is not the background, as result pictures have it."""
    red, green, blue = (value / 255 for value in PALETTE[number % len(PALETTE)])
    return red, green, blue


def make_figure(rows: int, columns: int, height: float, **settings) -> tuple[Figure, np.ndarray]:
    """Returns (figure, its axes [rows, columns]) as wide as a notebook.

    Args:
      rows, columns: of axes.
      height: inches.
      settings: further arguments of `Figure.subplots`.
    """
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(PALE)
        axis.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
        axis.set_axisbelow(True)
    return figure, axes


def note(text: str) -> Figure:
    """Returns a figure of one line of text, where there is nothing to draw."""
    figure, axes = make_figure(1, 1, 0.5)
    axes[0, 0].set_axis_off()  # a notebook shows no figure without axes
    axes[0, 0].text(0, 0.5, text, va="center", fontsize=10, color=MUTED)
    return figure


def label_axis(axis: Axes, title: str, x: str | None = None, y: str | None = None) -> None:
    """Gives an axis its title and labels."""
    axis.set_title(title, loc="left", fontsize=10.5, color=TEXT)
    if x:
        axis.set_xlabel(x, fontsize=9, color=MUTED)
    if y:
        axis.set_ylabel(y, fontsize=9, color=MUTED)


def draw_bars(
    axis: Axes, names: list[str], values: Sequence[float], labels: list[str], colours: list[Colour] | str, rows: int
) -> None:
    """Draws horizontal bars from the top down, each with its label behind it instead of a value axis.

    Args:
      axis: to draw on.
      names, values, labels, colours: of the bars.
      rows: as many bars fill the axis, so that bars of neighbouring axes are equally thick.
    """
    bars = axis.barh(range(len(names)), values, color=colours, height=0.68)
    axis.bar_label(bars, labels=labels, padding=4, fontsize=9, color=MUTED)
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks([])
    axis.set_xlim(0, 1.3 * max([*values, 1e-9]))
    axis.set_ylim(rows - 0.5, -0.5)
    axis.spines[["bottom", "left"]].set_visible(False)
    axis.tick_params(axis="y", colors=TEXT)


def add_split_legend(figure: Figure, splits: list[str]) -> None:
    """Says above the axes which colour is which split."""
    handles = [Patch(color=split_colour(split), label=split) for split in splits]
    figure.legend(handles=handles, loc="outside upper right", ncols=8, frameon=False, fontsize=9, labelcolor=TEXT)

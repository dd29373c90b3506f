"""Plots of counts, sizes, classes and groups, and of the splits side by side."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from evaluation.exploration.canvas import (
    MUTED,
    PALE,
    TEXT,
    add_split_legend,
    class_colour,
    draw_bars,
    label_axis,
    make_figure,
    note,
    split_colour,
)
from evaluation.exploration.comparison import COUNTS, MEASURES, bin_label, count_bin, known_measures
from evaluation.exploration.dataset import Dataset
from evaluation.exploration.measures import brightness_unit
from evaluation.exploration.tables import class_table, left_out_table, size_table, split_table

_MOST_GROUPS = 60
_MOST_REASONS = 8
_MOST_SIZES = 8


def draw_splits(dataset: Dataset) -> Figure:
    """Draws the examples of each split and, where there are any, what was left out and why."""
    splits, out = split_table(dataset), left_out_table(dataset).head(_MOST_REASONS)
    rows = max(len(splits), len(out), 3)
    figure, axes = make_figure(1, 2 if len(out) else 1, 0.6 + 0.32 * rows)
    labels = [f"{row.examples:,}  ({row.share:.0%})" for row in splits.itertuples()]
    colours = [split_colour(split) for split in splits.index]
    draw_bars(axes[0, 0], list(splits.index), splits["examples"].tolist(), labels, colours, rows)
    label_axis(axes[0, 0], "Examples by split")
    if len(out):
        names = [f"{row.status}: {_shorten(row.reason, 38)}" for row in out.itertuples()]
        draw_bars(axes[0, 1], names, out["items"].tolist(), [f"{number:,}" for number in out["items"]], MUTED, rows)
        label_axis(axes[0, 1], "Left out")
    return figure


def draw_sizes(dataset: Dataset) -> Figure:
    """Draws the commonest sizes of the raw images, and all of them by width and height.

    The area of a dot is the number of images of that size.
    """
    sizes = size_table(dataset)
    if sizes.empty:
        return note("No image could be read: there are no sizes.")
    if len(sizes) == 1:
        return note("All {images:,} raw images are {height} × {width} pixels (height × width).".format(**sizes.loc[0]))
    figure, axes = make_figure(1, 2, 3.6)
    most = sizes.head(_MOST_SIZES + (len(sizes) == _MOST_SIZES + 1))
    names = [f"{row.height:,} × {row.width:,}" for row in most.itertuples()]
    values = most["images"].tolist()
    if len(sizes) > len(most):
        names.append(f"{len(sizes) - len(most):,} other sizes")
        values.append(int(sizes["images"].sum() - sum(values)))
    labels = [f"{value:,}" for value in values]
    draw_bars(axes[0, 0], names, values, labels, class_colour(4), _MOST_SIZES + 1)
    label_axis(axes[0, 0], "Height × width of the raw images")
    _draw_size_dots(axes[0, 1], sizes, dataset)
    return figure


def draw_objects(dataset: Dataset, facts: pd.DataFrame, objects: pd.DataFrame) -> Figure:
    """Draws how many objects examples have, and how large they are.

    Args:
      dataset: to look at.
      facts: as `measures.example_facts` returns it.
      objects: as `measures.measure_examples` returns it.
    """
    measure = "objects" if facts["objects"].notna().any() else "areas"
    counts = facts[measure].dropna().to_numpy()
    if not len(counts):
        return note("The number of objects is not known, and there are no records to count them in.")
    figure, axes = make_figure(1, 1 + (not objects.empty), 3.4, width_ratios=[1, 1.2][: 1 + (not objects.empty)])
    _draw_share(axes[0, 0], counts, measure, class_colour(4))
    median = np.median(counts)
    label_axis(axes[0, 0], f"{_first_upper(MEASURES[measure])}: median {median:g}", "number", "share of examples")
    if not objects.empty:
        is_object = dataset.info.instances and not dataset.info.overlapping
        _draw_diameters(axes[0, 1], objects, "objects" if is_object else "connected areas")
    return figure


def draw_classes(dataset: Dataset) -> Figure:
    """Draws each class's share of the pixels and of the examples, by split."""
    if dataset.info is None or not dataset.info.labeled:
        return note("No class is known here: the folder holds only a plan, or records without masks.")
    table = class_table(dataset.info)
    held = table[table["examples"] > 0]["class"]
    classes = [name for name in dataset.info.classes if name in set(held)]
    absent = len(dataset.info.classes) - len(classes)
    figure, axes = make_figure(1, 2, 1.0 + len(classes) * (0.16 + 0.13 * len(dataset.splits)), sharey=True)
    whole = "the sum over all classes" if dataset.info.overlapping else "the labelled pixels"
    for axis, column, title in zip(
        axes[0],
        ("pixels", "examples"),
        (f"Share of {whole}", "Share of examples" + f" ({absent} classes in none)" * (absent > 0)),
        strict=True,
    ):
        height = 0.8 / len(dataset.splits)
        for number, split in enumerate(dataset.splits):
            shares = table[table["split"] == split].set_index("class")[column].reindex(classes)
            rows = np.arange(len(classes)) + (number - (len(dataset.splits) - 1) / 2) * height
            bars = axis.barh(rows, shares, height=0.9 * height, color=split_colour(split))
            axis.bar_label(bars, [_percent(share) for share in shares], padding=3, fontsize=8, color=MUTED)
        axis.set_yticks(range(len(classes)), classes)
        axis.tick_params(axis="y", colors=TEXT)
        axis.set_xlim(0, 1.15 * table[column].max())
        axis.set_xticks([])
        axis.spines[["bottom", "left"]].set_visible(False)
        label_axis(axis, title)
    axes[0, 0].set_ylim(len(classes) - 0.5, -0.5)
    add_split_legend(figure, dataset.splits)
    return figure


def draw_measures(dataset: Dataset, facts: pd.DataFrame) -> Figure:
    """Draws the distribution of each known measure in each split: columns are measures, rows splits."""
    measures = known_measures(facts)
    if not measures:
        return note("Nothing that differs between the examples is known yet.")
    unit = brightness_unit(dataset.info)
    units = {"foreground": "share", "brightness": unit, "contrast": unit}
    figure, axes = make_figure(len(dataset.splits), len(measures), 0.7 + 1.0 * len(dataset.splits), sharex="col")
    for column, measure in enumerate(measures):
        values = facts[measure].dropna()
        edges = np.linspace(values.min(), values.max(), 25)
        for row, split in enumerate(dataset.splits):
            axis = axes[row, column]
            part = values[facts.loc[values.index, "split"] == split].to_numpy()
            if measure in COUNTS:
                _draw_share(axis, part, measure, split_colour(split), int(count_bin(values).max()))
            elif len(part):
                axis.hist(part, edges, weights=np.full(len(part), 1 / len(part)), color=split_colour(split), alpha=0.85)
            axis.set_yticks([])
            if measure not in COUNTS:
                axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.spines["left"].set_visible(False)
            if len(part) and measure not in COUNTS:
                axis.axvline(np.median(part), color=TEXT, linewidth=1)
            if column == 0:
                axis.set_ylabel(f"{split}\n{len(part):,}", rotation=0, ha="right", va="center", color=TEXT, fontsize=9)
        label_axis(axes[0, column], _first_upper(MEASURES[measure]))
        axes[-1, column].set_xlabel(units.get(measure, "number"), fontsize=9, color=MUTED)
    return figure


def draw_groups(dataset: Dataset) -> Figure:
    """Draws the number of examples of the largest groups, in the colours of their splits."""
    groups = dataset.examples.groupby(["group", "split"]).size().sort_values(ascending=False, kind="stable")
    if groups.max() == 1:
        return note("Every example is a group of its own.")
    shown = groups.head(_MOST_GROUPS)
    figure, axes = make_figure(1, 1, 2.8)
    splits = shown.index.get_level_values("split")
    axes[0, 0].set_xlim(-0.6, max(len(shown), 10) - 0.4)
    axes[0, 0].bar(range(len(shown)), shown, color=[split_colour(split) for split in splits], width=0.8)
    axes[0, 0].yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].grid(axis="y", color=PALE, linewidth=0.6)
    names = [_shorten(name, 14) for name in shown.index.get_level_values("group")]
    axes[0, 0].set_xticks(range(len(shown)) if len(shown) <= 12 else [], names if len(shown) <= 12 else [])
    title = (
        f"The largest {len(shown)} of {len(groups):,} groups" if len(groups) > len(shown) else f"{len(groups)} groups"
    )
    label_axis(axes[0, 0], title, "group", "examples")
    add_split_legend(figure, [split for split in dataset.splits if split in set(splits)])
    return figure


def _draw_size_dots(axis: Axes, sizes: pd.DataFrame, dataset: Dataset) -> None:
    share = sizes["images"] / sizes["images"].max()
    axis.scatter(sizes["width"], sizes["height"], 500 * share + 10, color=class_colour(4), alpha=0.5, linewidths=0)
    reach = 1.2 * max(sizes["height"].max(), sizes["width"].max())
    axis.plot([0, reach], [0, reach], color=PALE, linewidth=1, zorder=0)
    axis.text(0.98 * reach, 0.93 * reach, "square", ha="right", va="top", fontsize=9, color=MUTED)
    if dataset.info and dataset.info.height and not dataset.info.config.get("tile"):
        place = (dataset.info.width, dataset.info.height)
        axis.plot(*place, "x", color=class_colour(0), markersize=8, markeredgewidth=2)
        axis.annotate("stored", place, (10, -14), textcoords="offset points", fontsize=9, color=class_colour(0))
    axis.set(xlim=(0, reach), ylim=(0, reach), aspect="equal")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.grid(color=PALE, linewidth=0.6)
    label_axis(axis, "All sizes", "width (pixels)", "height (pixels)")


def _draw_share(axis: Axes, counts: np.ndarray, measure: str, colour, last: int | None = None) -> None:
    """Draws the share of examples in each bin of counts."""
    bins = count_bin(counts)
    last = int(bins.max()) if last is None else last
    axis.bar(
        range(last + 1),
        np.bincount(bins, minlength=last + 1) / max(1, len(counts)),
        color=colour,
        width=0.88,
        alpha=0.85,
    )
    axis.set_xticks(range(last + 1), [bin_label(number) for number in range(last + 1)], fontsize=8, rotation=45)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))


def _draw_diameters(axis: Axes, objects: pd.DataFrame, name: str) -> None:
    """Draws the diameters of all objects or, where there are several classes, a box for each."""
    classes = objects["class"].value_counts().index.tolist()
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", color=PALE, linewidth=0.6)
    if len(classes) == 1:
        values = objects["diameter"]
        edges = np.geomspace(values.min() * 0.99, values.max() * 1.01, 40)
        axis.hist(values, edges, color=class_colour(0), alpha=0.85)
        axis.axvline(values.median(), color=TEXT, linewidth=1)
        title = f"Diameter of {len(objects):,} {name}: median {values.median():.0f} pixels"
        label_axis(axis, title, "diameter of a circle of equal area (stored pixels)", "number")
        return
    axis.boxplot(
        [objects.loc[objects["class"] == name, "diameter"] for name in classes],
        vert=False,
        widths=0.6,
        sym="",
        patch_artist=True,
        boxprops={"facecolor": PALE, "edgecolor": MUTED},
        medianprops={"color": class_colour(0), "linewidth": 1.6},
        whiskerprops={"color": MUTED},
        capprops={"color": MUTED},
    )
    axis.set_yticks(range(1, len(classes) + 1), classes)
    axis.tick_params(axis="y", colors=TEXT)
    axis.invert_yaxis()
    label_axis(axis, f"Diameter of {name} by class", "diameter of a circle of equal area (stored pixels)")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _first_upper(text: str) -> str:
    return text[0].upper() + text[1:]

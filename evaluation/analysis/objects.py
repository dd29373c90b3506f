"""Plots of objects: how well they fit, and how many are found of those that there are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluation.analysis.plots import MOST_RESULTS, add_result_legend, result_colour
from evaluation.analysis.results import Result
from evaluation.exploration.canvas import MUTED, PALE, label_axis, make_figure, note

_PREFIX = "object_f1@"


def draw_objects(results: Sequence[Result]) -> Figure:
    """Draws F1 of the objects by the IoU from which they match, and how many are found beside how many there are."""
    results = results[:MOST_RESULTS]
    counted = [one for one in results if "objects_true" in object_frame(one)]
    if not counted:
        return note("Objects were not judged: run test.py without --objects false.")
    figure, axes = make_figure(1, 2, 3.6)
    left, right = axes[0]
    for number, result in enumerate(results):
        scores = {name: value for name, value in result.files.metrics.items() if name.startswith(_PREFIX)}
        curve = sorted(
            (float(name.removeprefix(_PREFIX)), value)
            for name, value in scores.items()
            if value is not None and "/" not in name
        )
        if curve:
            left.plot(*zip(*curve, strict=True), "o-", color=result_colour(number), linewidth=1.5, markersize=3.5)
    left.set_ylim(0, 1)
    label_axis(left, "F1 of objects", "IoU from which a prediction counts as found", "F1")
    table = object_frame(counted[0])
    true, found = table["objects_true"].to_numpy(float), table["objects_found"].to_numpy(float)
    right.scatter(true, found, s=14, color=result_colour(results.index(counted[0])), alpha=0.55, linewidths=0)
    reach = 1.25 * max(1.0, true.max(), found.max())
    right.plot([0, reach], [0, reach], color=MUTED, linewidth=0.8, linestyle=":")
    for set_scale, set_limit, axis in (
        (right.set_xscale, right.set_xlim, right.xaxis),
        (right.set_yscale, right.set_ylim, right.yaxis),
    ):
        set_scale("symlog", linthresh=1)
        set_limit(-0.2, reach)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    fewer = int((found < true).sum())
    label_axis(right, f"Objects: too few in {fewer}, too many in {(found > true).sum()} of {len(table)} images")
    label_axis(right, right.get_title(loc="left"), "objects that there are", "objects found")
    for axis in (left, right):
        axis.grid(color=PALE, linewidth=0.6)
    add_result_legend(figure, results)
    return figure


def object_frame(result: Result) -> pd.DataFrame:
    """Returns objects_true and objects_found of each image, all classes together; no columns where not judged."""
    images, columns = result.judged.images, {}
    for name in ("objects_true", "objects_found"):
        parts = [column for column in images if column.partition("/")[0] == name]
        whole = [column for column in parts if column == name] or parts
        if whole:
            columns[name] = images[whole].sum(axis=1).astype(np.int64)
    return pd.DataFrame(columns, index=images.index)

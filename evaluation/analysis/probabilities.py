"""Plots of what becomes of probabilities: which threshold is best, and whether they can be believed."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from evaluation.analysis.plots import MOST_RESULTS, add_result_legend, result_colour, shorten
from evaluation.analysis.results import Result
from evaluation.exploration.canvas import MUTED, PALE, label_axis, make_figure, note

_MOST_CLASSES = 4


def draw_thresholds(results: Sequence[Result]) -> Figure:
    """Draws what `python -m evaluation.tune` scored on validation with each threshold, an axis for each class.

    Of each evaluation whose run was tuned for its way to predict and has the same weights since.
    """
    chosen = {}
    for number, result in enumerate(results[:MOST_RESULTS]):
        choice = read_choice(result)
        if choice:
            # Evaluations that differ in their images alone share a choice: it is drawn once.
            chosen.setdefault((result.run, choice["model_sha256"]), (number, choice))
    if not chosen:
        return note("No threshold was tried on validation: python -m evaluation.tune RUN RECORDS does it.")
    names = list(dict.fromkeys(name for _, choice in chosen.values() for name in choice["sweeps"]))[:_MOST_CLASSES]
    figure, axes = make_figure(1, len(names), 3.2)
    for axis, name in zip(axes[0], names, strict=True):
        title = []
        for number, choice in chosen.values():
            if name not in choice["sweeps"]:
                continue
            thresholds, scores = zip(*choice["sweeps"][name], strict=True)
            axis.plot(thresholds, scores, color=result_colour(number), linewidth=1.6)
            best = choice["classes"][name]["threshold"]
            axis.plot(best, np.interp(best, thresholds, scores), "o", color=result_colour(number), markersize=6)
            title.append(f"{best:g} ({choice['metric']})")
        axis.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
        axis.set_xlim(0, 1)
        axis.grid(color=PALE, linewidth=0.6)
        said = ", ".join(dict.fromkeys(title))
        label_axis(axis, f"{shorten(name, 18)}: chosen {said}", "threshold", "score of validation")
    add_result_legend(figure, _legend(results, [number for number, _ in chosen.values()]))
    return figure


def draw_calibration(results: Sequence[Result]) -> Figure:
    """Draws for each class how many of the pixels with a probability are of it, and how many have that probability.

    The error is the expected calibration error. On the diagonal probabilities can be believed; below it the model is
    too sure, above it too timid.
    """
    known = {number: one for number, one in enumerate(results[:MOST_RESULTS]) if one.calibration is not None}
    if not known:
        return note("Calibration was not measured: run test.py again, without a gate.")
    names = list(dict.fromkeys(name for result in known.values() for name in result.calibration["class"]))
    names = names[:_MOST_CLASSES]
    figure, axes = make_figure(2, len(names), 4.4, height_ratios=[3, 1], sharex=True)
    for column, name in enumerate(names):
        upper, lower = axes[:, column]
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
        errors = []
        for number, result in known.items():
            bins = result.calibration[result.calibration["class"] == name]
            colour, shares = result_colour(number), bins["pixels"] / bins["pixels"].sum()
            upper.plot(bins["probability"], bins["true"], "o-", color=colour, linewidth=1.4, markersize=4)
            lower.plot(bins["probability"], shares, "o-", color=colour, linewidth=1.4, markersize=3)
            errors.append(float((shares * (bins["probability"] - bins["true"]).abs()).sum()))
        lower.set_yscale("log")
        lower.set_ylim(top=2)
        lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        lower.yaxis.set_minor_locator(NullLocator())
        upper.xaxis.set_major_locator(MaxNLocator(5))
        for axis in (upper, lower):
            axis.grid(color=PALE, linewidth=0.6)
        error = ", ".join(f"{error:.3f}" for error in errors)
        label_axis(upper, f"{shorten(name, 14)}: error {error}", None, None if column else "share that is true")
        label_axis(lower, "", "predicted probability", None if column else "of all pixels")
    add_result_legend(figure, _legend(results, list(known)))
    return figure


def describe_calibration(result: Result) -> str:
    """Returns in a line for each class whether its probabilities are too high or too low, and where most so.

    Only bins with at least a thousandth of the pixels are looked at, and differences of more than 0.05 told.
    """
    if result.calibration is None:
        return "Calibration was not measured."
    lines = []
    for name, bins in result.calibration.groupby("class", sort=False):
        many = bins[bins["pixels"] >= bins["pixels"].sum() / 1000]
        row = many.loc[(many["probability"] - many["true"]).abs().idxmax()]
        if abs(row["probability"] - row["true"]) <= 0.05:
            lines.append(f"{name}: probabilities can be believed")
            continue
        kind = "too high" if row["probability"] > row["true"] else "too low"
        share = row["pixels"] / bins["pixels"].sum()
        lines.append(
            f"{name}: {kind} where the model says {row['probability']:.2f}, {row['true']:.2f} is right "
            f"({share:.1%} of the pixels)"
        )
    return "\n".join(lines)


def read_choice(result: Result) -> dict[str, Any] | None:
    """Returns what was chosen on validation for an evaluation's way to predict; None: nothing, or for other weights.

    Raises:
      ValueError: postprocess.json is damaged.
    """
    path = result.run / "postprocess.json"
    if not path.is_file():
        return None
    try:
        choices = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and run `python -m evaluation.tune` again") from error
    same = [choice for choice in choices.values() if choice.get("model_sha256") == result.digest]
    return same[0] if same and "sweeps" in same[0] else None


def _legend(results: Sequence[Result], numbers: Sequence[int]) -> list[Result]:
    """Returns the results for a legend of those numbers: none where only one is drawn."""
    return list(results[:MOST_RESULTS]) if len(numbers) > 1 else []

"""A picture of thresholds and what they score."""

from pathlib import Path

from evaluation.comparison.plot import save
from evaluation.exploration.canvas import MUTED, PALE, class_colour, label_axis, make_figure
from evaluation.tuning.search import Found

_COLUMNS = 3


def draw_sweeps(found: dict[str, Found], metric: str, path: Path) -> None:
    """Draws the score of every threshold, an axis for each class; 0.5 and what was chosen are marked.

    Args:
      found: the search of each class by its name.
      metric: the score.
      path: PNG that is written.
    """
    path.parent.mkdir(exist_ok=True)
    rows, columns = -(-len(found) // _COLUMNS), min(_COLUMNS, len(found))
    figure, axes = make_figure(rows, columns, 0.6 + 2.7 * rows, sharex=True)
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for number, (axis, (name, each)) in enumerate(zip(axes.flat, found.items(), strict=False)):
        colour = class_colour(number)
        axis.plot([trial.steps.threshold for trial in each.sweep], [trial.score for trial in each.sweep], color=colour)
        axis.axvline(0.5, color=PALE, linewidth=1, zorder=0)
        threshold, score = each.best.steps.threshold, each.best.score
        axis.plot(threshold, score, "o", color=colour, markersize=7)
        beyond = " with its steps" if each.best.steps != type(each.best.steps)(threshold) else ""
        label_axis(axis, f"{name}: {score:.4f} at {threshold:g}{beyond}", "threshold", metric)
        axis.grid(axis="y", color=PALE, linewidth=0.6)
        axis.tick_params(colors=MUTED)
        axis.set_xlim(0, 1)
    save(figure, path)

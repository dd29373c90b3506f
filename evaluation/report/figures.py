"""The charts of a page, each with the line above it."""

from typing import NamedTuple

from markupsafe import Markup

from evaluation.report.charts import Curve, curves, histogram, scatter
from evaluation.report.files import Evaluation
from evaluation.score_names import SCORES


class Figure(NamedTuple):
    """A chart, its name within the page, and what it shows."""

    name: str
    caption: str
    chart: Markup


class BestEpoch(NamedTuple):
    """The epoch whose model was kept, the score of validation that decided it, and its value."""

    epoch: int
    score: str
    value: float


def score_figures(evaluation: Evaluation) -> list[Figure]:
    """Returns the charts of scores whose data there are."""
    figures = []
    if "dice" in evaluation.images:
        figures += [_distribution(evaluation), *_against_size(evaluation)]
    lines = []
    for name, ink in (("object_f1", "side"), ("object_f2", "main")):
        found = {key: value for key, value in evaluation.metrics.items() if key.startswith(f"{name}@")}
        known = sorted((float(key.partition("@")[2]), value) for key, value in found.items() if value is not None)
        if len(known) > 1:
            lines.append(Curve(SCORES[name].label.split()[0], ink, *zip(*known, strict=True)))
    if lines:
        chart = curves(lines, "IoU from which objects match", "score of objects", share=True)
        figures.append(Figure("thresholds", "How well a prediction must fit to count as found", chart))
    return figures


def _distribution(evaluation: Evaluation) -> Figure:
    dice, interval = evaluation.images["dice"], evaluation.metrics.get("dice_per_image_ci95")
    caption = "Images by their Dice" + ("; the band is the 95 % interval of the mean" if interval else "")
    return Figure("distribution", caption, histogram(dice, dice.mean(), interval, "Dice of an image"))


def _against_size(evaluation: Evaluation) -> list[Figure]:
    images = evaluation.images
    sizes = [
        ("size", evaluation.pixels("tp") + evaluation.pixels("fn"), "how much there is", "true pixels of an image")
    ]
    if "objects_true" in images:
        sizes.append(("objects", images["objects_true"], "how many objects there are", "true objects of an image"))
    figures = []
    for name, size, what, label in sizes:
        there = size > 0
        if there.sum() > 1:
            caption = f"Dice against {what} to find; the line joins medians"
            if not there.all():
                caption += f"; {(~there).sum():,} images with nothing to find are not shown"
            chart = scatter(size[there], images["dice"][there], images["source_id"][there], label, "Dice of an image")
            figures.append(Figure(name, caption, chart))
    return figures


def best_epoch(evaluation: Evaluation) -> BestEpoch | None:
    """Returns the best epoch by validation F1 or, without one, Dice per image; None where it is not known."""
    history = evaluation.history
    for score in ("f1", "dice_per_image"):
        name = f"val_{score}"
        if history is not None and name in history and history[name].notna().any():
            best = history[name].idxmax()
            return BestEpoch(int(history["epoch"][best]), score, float(history[name][best]))
    return None


def learning_figures(evaluation: Evaluation) -> list[Figure]:
    """Returns the learning curves: loss, and the score that decided which epoch is best."""
    history, best = evaluation.history, best_epoch(evaluation)
    if best is None:
        return []
    figures = []
    for name, label in (("loss", "loss"), (best.score, SCORES[best.score].label)):
        lines = [
            Curve("training", "side", history["epoch"], history[name]),
            Curve("validation", "main", history["epoch"], history[f"val_{name}"]),
        ]
        words = f"best, epoch {best.epoch}: {best.value:.3f}"
        mark = (best.epoch, best.value, words) if name == best.score else None
        chart = curves(lines, "epoch", label, mark, share=name == best.score)
        figures.append(Figure(f"learning-{name}", f"Learning curve: {label}", chart))
    return figures

"""Scores for the terminal."""

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from evaluation.folder import METRICS_FILE, PER_IMAGE_FILE, PICTURES_FOLDER, PREDICTIONS_FOLDER, SUBMISSION_FILE
from evaluation.score_names import score_label
from inference.config import PredictConfig
from inference.postprocess import chosen_ways

SEEN = "{} was trained on these images: the scores do not tell what new ones would get"
"""What there is to say where the first of all rules is broken; with the names of runs."""

_SECTIONS = (
    (
        *("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled"),
        *("precision", "recall", "pixel_accuracy", "calibration_error"),
    ),
    ("object_precision", "object_recall", "object_f1", "object_f2", "object_map", "object_f1@0.50"),
    ("hausdorff95", "surface_distance"),
    ("volume_dice", "volume_iou", "volume_hausdorff95", "volume_surface_distance"),
)
"""Scores by their kind; see `SCORES`."""


def score_table(metrics: dict, title: str) -> Table:
    """Returns a table of metrics.json's scores, their intervals and what predicting nothing, or everything, scores.

    Kinds of scores that were not judged are left out.
    """
    table = Table(
        title=f"{title}: {metrics['num_examples']} images",
        caption="\n".join(_notes(metrics)),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("score")
    for heading in ("value", "95 % interval", "nothing", "everything"):
        table.add_column(heading, justify="right")
    for names in _SECTIONS:
        for name in names:
            if name in metrics:
                label = score_label(name, metrics.get("distance_unit", "px"))
                baselines = [
                    _number(metrics.get(f"baseline_{constant}/{name}")) for constant in ("nothing", "everything")
                ]
                table.add_row(label, _number(metrics[name]), _interval(metrics, name), *baselines)
        table.add_section()
    for key, value in metrics.items():
        if key.startswith("dice_per_image/"):
            table.add_row(f"Dice per image, {key.partition('/')[2]}", _number(value), "", "", "")
    return table


def _notes(metrics: dict) -> list[str]:
    notes = ["nothing, everything: what predicting no pixel, or every pixel, would score"]
    if "object_f2" in metrics:
        notes.append("objects: means over IoU above 0.5, 0.55 ... 0.95")
    if metrics.get("num_without_distance"):
        notes.append(
            f"distances: of {metrics['num_distances']}; {metrics['num_without_distance']} more have none, because only "
            "truth or only prediction is empty"
        )
    return notes


def classification_table(metrics: dict, title: str) -> Table:
    """Returns a table of a classifier's scores and answers."""
    table = Table(
        title=f"{title}: {metrics['num_judged']} answers",
        caption=f"from probability {metrics['threshold']} on there is an object; "
        f"right: {metrics['tp']} with, {metrics['tn']} without; wrong: {metrics['fp']} false alarms, "
        f"{metrics['fn']} misses",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("score")
    for heading in ("value", "95 % interval"):
        table.add_column(heading, justify="right")
    for name in ("accuracy", "precision", "recall", "f1", "average_precision"):
        table.add_row(score_label(name), _number(metrics[name]), _interval(metrics, name))
    return table


def steps_line(steps: dict[str, dict], chosen: bool, path: Path, config: PredictConfig) -> str:
    """Returns in a line what makes masks of probabilities, and where that is from.

    Args:
      steps: of the classes by name, as `Predictor.describe` returns them.
      chosen: whether they are from `path`.
      path: postprocess.json of its RUN folder.
      config: settings.
    """
    what = describe_classes(steps)
    if config.threshold is not None:
        return f"{what}, as --threshold says"
    if chosen:
        return f"{what}, chosen on validation ({path})"
    ways = chosen_ways(path)
    if config.way in ways:
        return f"{what}; what {path} holds is of other weights: run python -m evaluation.tune again"
    if ways:
        others = ", ".join(way or "plain predictions" for way in ways)
        return (
            f"{what}; steps were chosen for {others}, not for {config.way or 'plain predictions'}: the two do not "
            "compare before python -m evaluation.tune has chosen for both"
        )
    return f"{what}; python -m evaluation.tune chooses better on validation"


def describe_classes(steps: dict[str, dict]) -> str:
    """Returns the steps of all classes, by name, in words: once where they are the same."""
    each = {name: describe_steps(of_class) for name, of_class in steps.items()}
    if len(set(each.values())) == 1:
        return next(iter(each.values()))
    return "; ".join(f"{name}: {words}" for name, words in each.items())


def describe_steps(steps: dict) -> str:
    """Returns the steps of a class in words, from what `Predictor.describe` has of it."""
    said = [f"threshold {steps['threshold']:g}"]
    said += [f"{name} {steps[name]} px" for name in ("opening", "closing") if steps[name]]
    said += ["holes filled"] * steps["fill_holes"]
    said += [f"parts from {steps['min_size']} px on"] * (steps["min_size"] > 1)
    said += ["the largest part"] * steps["largest"]
    said += [f"objects split from {steps['split']} px on"] * (steps["split"] > 0)
    return ", ".join(said)


def segmenter_summary(
    metrics: dict, folder: Path, labeled: bool, title: str, gated: str | None, to_submit: bool
) -> Iterator[Table | str]:
    """Yields what is to be shown of judged masks: scores, and where everything lies.

    Args:
      metrics: of metrics.json.
      folder: of the evaluation.
      labeled: whether the records are; else there are predictions alone.
      title: what was judged.
      gated: line of `gate_line`; None: there was no gate.
      to_submit: whether there is a submission file.
    """
    if labeled:
        yield score_table(metrics, title)
    if gated:
        yield f"gate      {gated}"
    if labeled:
        yield f"scores    {folder / METRICS_FILE}"
    else:
        yield f"the records are unlabelled: {metrics['num_examples']} predictions, no scores"
        yield f"masks     {folder / PREDICTIONS_FOLDER} (of the records' size, values as in the records)"
    if to_submit:
        yield f"to submit {folder / SUBMISSION_FILE}"
    yield f"pictures  {folder / PICTURES_FOLDER}"


def classifier_summary(metrics: dict, folder: Path, labeled: bool, title: str) -> Iterator[Table | str]:
    """Yields what is to be shown of judged answers, as `segmenter_summary` does of masks."""
    if labeled:
        yield classification_table(metrics, title)
        yield f"scores    {folder / METRICS_FILE}"
        if any((folder / PICTURES_FOLDER).iterdir()):
            yield f"mistakes  {folder / PICTURES_FOLDER}: the surest ones"
    else:
        yield f"the records are unlabelled: {metrics['num_judged']} probabilities, no scores"
    yield f"answers   {folder / PER_IMAGE_FILE}"


def gate_line(metrics: dict, tuned: dict, unit: str) -> str:
    """Returns what a gate did to the images, and on validation to the score, in a line."""
    return (
        f"cleared {metrics['num_cleared']} of {metrics['num_judged']} {unit} below probability "
        f"{tuned['threshold']:.4g}; Dice per image of validation {tuned['dice_per_image']:.4f} with the gate, "
        f"{tuned['dice_per_image_without']:.4f} without"
    )


def _interval(metrics: dict, name: str) -> str:
    bounds = metrics.get(f"{name}_ci95")
    return f"{bounds[0]:.4f} – {bounds[1]:.4f}" if bounds else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

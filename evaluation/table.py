"""Scores for the terminal."""

from rich.table import Table

_ROWS = {
    "dice_per_image": "Dice per image",
    "dice_nonempty": "Dice, non-empty images",
    "dice_pooled": "Dice, all pixels pooled",
    "iou_per_image": "IoU per image",
    "iou_nonempty": "IoU, non-empty images",
    "iou_pooled": "IoU, all pixels pooled",
    "precision": "precision",
    "recall": "recall",
    "pixel_accuracy": "pixel accuracy",
}

_OBJECT_ROWS = {
    "object_precision": "objects, precision",
    "object_recall": "objects, recall",
    "object_f1": "objects, F1",
    "object_f2": "objects, F2",
    "object_map": "objects, mean AP",
    "object_f1@0.50": "objects, F1, IoU 0.5",
}

_DISTANCE_ROWS = {
    "hausdorff95": "Hausdorff 95 %",
    "surface_distance": "surface distance",
}

_VOLUME_ROWS = {
    "volume_dice": "Dice per volume",
    "volume_iou": "IoU per volume",
    "volume_hausdorff95": "volumes, Hausdorff 95 %",
    "volume_surface_distance": "volumes, surface distance",
}


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
    for rows in (_ROWS, _OBJECT_ROWS, _DISTANCE_ROWS, _VOLUME_ROWS):
        for name, label in rows.items():
            if name in metrics:
                unit = f" ({metrics['distance_unit']})" if name.endswith(tuple(_DISTANCE_ROWS)) else ""
                baselines = [
                    _number(metrics.get(f"baseline_{constant}/{name}")) for constant in ("nothing", "everything")
                ]
                table.add_row(label + unit, _number(metrics[name]), _interval(metrics, name), *baselines)
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
        table.add_row(_ROWS.get(name, name.replace("_", " ")), _number(metrics[name]), _interval(metrics, name))
    return table


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

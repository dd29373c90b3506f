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


def score_table(metrics: dict, title: str) -> Table:
    """Returns a table of metrics.json's scores, their intervals and what predicting nothing, or everything, scores."""
    table = Table(
        title=f"{title}: {metrics['num_examples']} images",
        caption="nothing, everything: what predicting no pixel, or every pixel, would score",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("score")
    for heading in ("value", "95 % interval", "nothing", "everything"):
        table.add_column(heading, justify="right")
    for name, label in _ROWS.items():
        baselines = [_number(metrics.get(f"baseline_{constant}/{name}")) for constant in ("nothing", "everything")]
        table.add_row(label, _number(metrics[name]), _interval(metrics, name), *baselines)
    for key, value in metrics.items():
        if key.startswith("dice_per_image/"):
            table.add_row(f"Dice per image, {key.partition('/')[2]}", _number(value), "", "", "")
    return table


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

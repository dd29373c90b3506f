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
        bounds = metrics[f"{name}_ci95"]
        interval = f"{bounds[0]:.4f} – {bounds[1]:.4f}" if bounds else ""
        baselines = [_number(metrics.get(f"baseline_{constant}/{name}")) for constant in ("nothing", "everything")]
        table.add_row(label, _number(metrics[name]), interval, *baselines)
    for key, value in metrics.items():
        if key.startswith("dice_per_image/"):
            table.add_row(f"Dice per image, {key.partition('/')[2]}", _number(value), "", "", "")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

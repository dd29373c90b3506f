"""Learning curves."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from training.task import Task

TRAIN_COLOUR, VAL_COLOUR = "#9ca3af", "#2563eb"


def plot_history(history: list[dict[str, float]], task: Task, folder: Path) -> None:
    """Writes curves.png: loss, the score that decides which epoch is best, and learning rate by epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    monitored = task.monitored
    epochs = [row["epoch"] for row in history]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axis, name, title in ((axes[0], "loss", "Loss"), (axes[1], monitored.removeprefix("val_"), task.title)):
        axis.plot(epochs, [row[name] for row in history], color=TRAIN_COLOUR, label="train")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], color=VAL_COLOUR, label="val")
        axis.set_title(title, loc="left")
        axis.legend(frameon=False)
    best = max(history, key=lambda row: row[monitored])
    axes[1].plot(best["epoch"], best[monitored], "o", color=VAL_COLOUR)
    axes[1].annotate(
        f"best {best[monitored]:.3f}",
        (best["epoch"], best[monitored]),
        textcoords="offset points",
        xytext=(0, -16),
        ha="right",
        color=VAL_COLOUR,
        bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 1},  # over the curves
    )
    axes[2].plot(epochs, [row["learning_rate"] for row in history], color=VAL_COLOUR)
    axes[2].set_title("Learning rate", loc="left")
    axes[2].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.xaxis.get_major_locator().set_params(integer=True)
    temporary = folder / "curves.tmp.png"
    try:
        figure.savefig(temporary, dpi=120)
        temporary.replace(folder / "curves.png")
    finally:
        temporary.unlink(missing_ok=True)
        plt.close(figure)

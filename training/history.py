"""History: a row of numbers for each finished epoch, in a file and in words."""

import csv
import io

from training.run_folder import RunFolder, write_text
from training.task import Task


def write_history(run: RunFolder, history: list[dict[str, float]]) -> None:
    """Writes history.csv, a row per epoch."""
    text = io.StringIO()
    table = csv.DictWriter(text, history[0])
    table.writeheader()
    table.writerows(history)
    write_text(run.history, text.getvalue())


def describe_epoch(task: Task, row: dict[str, float], better: bool, epochs: int, seconds: float | None) -> str:
    """Returns an epoch in a line.

    Args:
      task: says which scores are shown.
      row: of the history.
      better: whether it is the best so far.
      epochs: of the run, at most.
      seconds: that the epoch took, with validation; None where it was not run in one go.
    """
    left = "" if seconds is None else f"  {_duration((epochs - row['epoch']) * seconds)} left"
    return (
        f"{row['epoch']:>4}/{epochs}  loss {row['loss']:.4f}  {task.describe_scores(row)}  |  "
        f"val loss {row['val_loss']:.4f}  {task.describe_scores(row, 'val_')}  |  "
        f"lr {row['learning_rate']:.2e}  {row['images_per_second']:.1f} images/s  "
        f"waiting for input {row['input_wait']:.0%}{left}{'  best' if better else ''}"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

"""From predicted masks to the files of an evaluation: scores, tables, pictures of the best and the worst."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from evaluation.calibration import calibration_table
from evaluation.config import ScoreConfig
from evaluation.csv_tables import per_group_table, per_image_table
from evaluation.folder import (
    CALIBRATION_FILE,
    EXAMPLES_FOLDER,
    PER_GROUP_FILE,
    PER_IMAGE_FILE,
    PICTURES_FOLDER,
    write_confusion,
)
from evaluation.pictures import draw_comparison, file_name
from evaluation.scores import Scores, summarize_all
from evaluation.tally import Tally
from evaluation.workers import default_workers, worker_pool
from imaging.codec import encode_png
from records.info import RecordsInfo, scored_classes

_FEW = 100
"""So many images are judged sooner in this process than others have started."""


class Shown(NamedTuple):
    """An image as it is drawn: stored pixels [height, width, channels], masks [height, width] or, of truth, None."""

    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray


def judge(batches: Iterable[dict], info: RecordsInfo, folder: Path, total: int, config: ScoreConfig) -> Scores:
    """Returns the scores of labelled images, and writes per_image.csv, per_group.csv, confusion.csv, calibration.csv.

    Objects and boundaries are judged beside what makes the batches.

    Args:
      batches: as `Tally.add` takes them.
      info: of the records that truth is from.
      folder: where files go.
      total: number of images, about.
      config: settings.
    """
    classes = [info.classes[number] for number in scored_classes(info.classes, info.overlapping)]
    with worker_pool(_count_workers(config, total)) as pool:
        tally = Tally(info.classes, info.overlapping, config, pool)
        for batch in batches:
            tally.add(batch)
        judged = tally.finish()
    per_image_table(judged, classes).to_csv(folder / PER_IMAGE_FILE, index=False)
    groups = per_group_table(judged, classes)
    if groups is not None:
        groups.to_csv(folder / PER_GROUP_FILE, index=False)
    write_confusion(folder, judged.confusion, info.classes)
    if judged.calibration is not None:
        calibration_table(judged.calibration, classes).to_csv(folder / CALIBRATION_FILE, index=False)
    return {"num_examples": len(judged.keys), **summarize_all(judged, classes, config.seed)}


def _count_workers(config: ScoreConfig, total: int) -> int:
    if config.workers is not None:
        return config.workers
    return default_workers() if total > _FEW and (config.objects or config.distances) else 0


def rank_images(folder: Path, pictures: int) -> dict[str, tuple[str, float]]:
    """Returns (key, Dice) of the best, the median and the worst images, by a name such as best-01."""
    table = pd.read_csv(folder / PER_IMAGE_FILE, dtype={"source_id": str}, keep_default_na=False, na_values=[""])
    ranked = table.sort_values(["dice", "source_id"], ascending=[False, True])
    rows = list(zip(ranked["source_id"], ranked["dice"], strict=True))
    count = min(pictures, len(rows))
    middle = (len(rows) - count) // 2
    groups = {"best": rows[:count], "median": rows[middle : middle + count], "worst": rows[::-1][:count]}
    return {f"{name}-{index + 1:02d}": row for name, rows in groups.items() for index, row in enumerate(rows)}


def draw_images(
    folder: Path,
    chosen: dict[str, tuple[str, float | None]],
    show: Callable[[str], Shown],
    classes: dict[int, str],
    overlapping: bool,
    window: tuple[float, float] | None = None,
    keep: bool = False,
) -> None:
    """Draws images with their masks into result-image/.

    Args:
      folder: of the evaluation.
      chosen: key and Dice by name of the picture; without Dice there is no truth.
      show: from a key to what is drawn.
      classes: names of the classes to show, by index or bit.
      overlapping: whether masks are bit fields.
      window: the stored values to show as black and white.
      keep: whether the images themselves go into examples/, under the same names.
    """
    examples = folder / EXAMPLES_FOLDER
    if keep and chosen:
        examples.mkdir(exist_ok=True)
    for name, (key, dice) in chosen.items():
        image, truth, prediction = show(key)
        rank = name.replace("-0", " ").replace("-", " ")
        title = key[:40] if dice is None else f"{rank}: Dice {dice:.3f}   {key[:40]}"
        path = folder / PICTURES_FOLDER / f"{name}-{file_name(key)}.png"
        if keep:
            (examples / path.name).write_bytes(encode_png(image))
        draw_comparison(path, image, truth, prediction, classes, title, overlapping, window)

"""Pictures: of the images with the lowest scores, and of what in training looks most like them."""

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from evaluation.analysis.plots import short_key
from evaluation.analysis.results import Result
from evaluation.exploration.canvas import MUTED, TEXT, make_figure, note
from evaluation.exploration.dataset import Dataset, read_examples
from evaluation.exploration.gallery import Panel, Window, annotated_areas, draw_panels, paint_annotation, shrink
from imaging.painting import display_image

_PAIRS = 2


def draw_worst(result: Result, count: int = 2, kind: str = "worst") -> Figure:
    """Draws pictures that test.py has made: image, truth, prediction and their difference in a row.

    Args:
      result: an evaluation.
      count: of pictures, at most.
      kind: worst, median or best.
    """
    paths = [path for path in result.files.pictures if re.match(rf"{kind}-\d+-", path.name)][:count]
    if not paths:
        return note("There are no pictures: run test.py without --pictures 0.")
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    heights = [picture.shape[0] / picture.shape[1] for picture in pictures]
    figure, axes = make_figure(len(paths), 1, 9.6 * sum(heights), height_ratios=heights)
    for axis, picture in zip(axes.flat, pictures, strict=True):
        axis.set_axis_off()
        axis.imshow(picture, interpolation="antialiased")
    return figure


def draw_nearest(facts: pd.DataFrame, score: str, dataset: Dataset, window: Window = None) -> Figure:
    """Draws the images with the lowest scores, each beside the training image most like it in brightness and contrast.

    Both with their truth.

    Args:
      facts: as `facts.read_facts` returns it.
      score: a column of both.
      dataset: the records.
      window: values (HU) to show as black and white, where the pixels are HU.
    """
    known = facts.dropna(subset=["nearest", score]).sort_values(score, kind="stable").head(_PAIRS)
    if known.empty:
        return note("What the model was trained on is not known here: these are other records, or were not indexed.")
    panels: list[Panel | None] = []
    for key, row in known.iterrows():
        judged, nearest = read_examples(dataset, [key, row["nearest"]])
        title = f"{score} {row[score]:.3f}\n{short_key(key)}"
        panels.append(Panel(_paint(judged, dataset, window), title, TEXT))
        title = f"in training ({row['alike']:.1%} are like it)\n{short_key(row['nearest'])}"
        panels.append(Panel(_paint(nearest, dataset, window), title, MUTED))
    return draw_panels(panels)


def _paint(example, dataset: Dataset, window: Window) -> np.ndarray:
    """Returns the picture of an example with its annotation, uint8 RGB."""
    info, small = dataset.info, shrink(example)
    shown = info.stored_window(window) if info.intensity["unit"] == "HU" else None
    return paint_annotation(display_image(small.image, shown), small, *annotated_areas(small, info), info)

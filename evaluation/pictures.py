"""Pictures of predictions: image, truth, prediction and their difference side by side."""

import hashlib
import re
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from records.schema import IGNORE

# Okabe and Ito's colours, which colour-blind people can tell apart.
AGREED, MISSED, INVENTED = (0, 158, 115), (230, 159, 0), (204, 60, 140)
# The first is seen on dark, white and stained backgrounds alike; most datasets have one class.
PALETTE = ((255, 80, 20), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (230, 159, 0), (204, 121, 167))


def display_image(image: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3] to look at: the image stretched between its 0.5 and 99.5 percentiles.

    Args:
      image: [height, width, 1 or 3], any integer dtype.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    stretched = (image.astype(float) - low) / max(high - low, 1) * 255
    grey = stretched.clip(0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey


def paint(image: np.ndarray, areas: list[tuple[np.ndarray, tuple[int, int, int]]], opacity: float = 0.55) -> np.ndarray:
    """Returns a copy of uint8 RGB [height, width, 3] with each area (bool [height, width]) in its colour."""
    painted = image.astype(float)
    for area, colour in areas:
        painted[area] = (1 - opacity) * painted[area] + opacity * np.array(colour)
    return painted.astype(np.uint8)


def draw_comparison(
    path: Path, image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray, classes: list[int], title: str
) -> None:
    """Writes a PNG with image, truth, prediction and difference; without truth, image and prediction.

    Args:
      path: of the PNG.
      image: stored pixels [height, width, channels].
      truth, prediction: uint8 [height, width], class indices; 255 in truth = ignore.
      classes: the classes to show.
      title: above the picture.
    """
    shown = display_image(image)
    panels = [("image", shown)]
    if truth is not None:
        panels.append(("truth", _paint_classes(shown, truth, classes)))
    panels.append(("prediction", _paint_classes(shown, prediction, classes)))
    if truth is not None:
        panels.append(("difference", _paint_difference(shown, truth, prediction, classes)))
    height, width = shown.shape[:2]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 3.2 * height / width + 0.75), layout="constrained"
    )
    for axis, (name, panel) in zip(axes, panels, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(name, fontsize=10, color="#4b5563")
        axis.set_axis_off()
    if truth is not None:
        handles = [
            Patch(color=np.array(colour) / 255, label=label)
            for colour, label in ((AGREED, "agreed"), (MISSED, "missed"), (INVENTED, "invented"))
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def file_name(key: str) -> str:
    """Returns a key as part of a file name: letters, digits, dot, dash and underscore, at most 72.

    A key that has to be changed gets a hash, so that different keys have different names.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", key).strip(".")
    if name == key and 0 < len(name) <= 72:
        return name
    return f"{name[:60]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _paint_classes(image: np.ndarray, mask: np.ndarray, classes: list[int]) -> np.ndarray:
    areas = [(mask == number, PALETTE[index % len(PALETTE)]) for index, number in enumerate(classes)]
    outlines = [(area & ~_eroded(area), colour) for area, colour in areas]
    return paint(paint(image, areas, opacity=0.3), outlines, opacity=1.0)


def _eroded(area: np.ndarray) -> np.ndarray:
    return cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _paint_difference(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, classes: list[int]) -> np.ndarray:
    """Paints what agrees, what was missed, and what was invented (a wrong class counts as invented)."""
    valid = truth != IGNORE
    true, found = np.isin(truth, classes) & valid, np.isin(prediction, classes) & valid
    agreed = true & (truth == prediction)
    return paint(
        (image * 0.5).astype(np.uint8),
        [(agreed, AGREED), (true & ~found, MISSED), (found & ~agreed, INVENTED)],
        opacity=0.75,
    )

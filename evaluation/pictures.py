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

from records.schema import class_areas, known_pixels

# Okabe and Ito's colours, which colour-blind people can tell apart.
AGREED, MISSED, INVENTED = (0, 158, 115), (230, 159, 0), (204, 60, 140)
# The first is seen on dark, white and stained backgrounds alike; most datasets have one class.
PALETTE = (
    *((255, 80, 20), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (230, 159, 0), (204, 121, 167)),
    # From the eighth class on, as different from those and each other as can be.
    *((130, 60, 200), (140, 200, 30), (150, 75, 0), (0, 210, 190), (230, 0, 90), (30, 30, 110), (255, 160, 190)),
    *((20, 90, 60), (190, 170, 255), (100, 110, 40), (90, 20, 30), (250, 200, 150), (128, 128, 128)),
)


def display_image(image: np.ndarray, window: tuple[float, float] | None = None) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3] to look at: the image stretched from one value to another.

    Args:
      image: [height, width, 1 or 3], any integer dtype.
      window: the values that become black and white; None: the image's 0.5 and 99.5 percentiles.
    """
    if window is None:
        low, high = np.percentile(image, [0.5, 99.5])
        high = max(high, low + 1)
    else:
        low, high = window
    stretched = (image.astype(float) - low) / (high - low) * 255
    grey = stretched.clip(0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey


def paint(image: np.ndarray, areas: list[tuple[np.ndarray, tuple[int, int, int]]], opacity: float = 0.55) -> np.ndarray:
    """Returns a copy of uint8 RGB [height, width, 3] with each area (bool [height, width]) in its colour."""
    painted = image.astype(float)
    for area, colour in areas:
        painted[area] = (1 - opacity) * painted[area] + opacity * np.array(colour)
    return painted.astype(np.uint8)


def draw_comparison(
    path: Path,
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    classes: dict[int, str],
    title: str,
    overlapping: bool = False,
    window: tuple[float, float] | None = None,
) -> None:
    """Writes a PNG with image, truth, prediction and difference; without truth, image and prediction.

    Args:
      path: of the PNG.
      image: stored pixels [height, width, channels].
      truth, prediction: [height, width], uint8 class indices or, if overlapping, uint16 bit fields; truth may hold
        ignored pixels.
      classes: names of the classes to show, by index or bit.
      title: above the picture.
      overlapping: whether masks are bit fields.
      window: the stored values to show as black and white, as in `display_image`.
    """
    shown = display_image(image, window)
    found = class_areas(prediction, list(classes), overlapping)
    panels, present = [("image", shown), ("prediction", _paint_classes(shown, found))], found.any((1, 2))
    if truth is not None:
        true = class_areas(truth, list(classes), overlapping)
        known = known_pixels(truth, overlapping)
        panels.insert(1, ("truth", _paint_classes(shown, true)))
        panels.append(("difference", _paint_difference(shown, true, found & known)))
        present |= true.any((1, 2))
    height, width = shown.shape[:2]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 3.2 * height / width + 0.75), layout="constrained"
    )
    for axis, (name, panel) in zip(axes, panels, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(name, fontsize=10, color="#4b5563")
        axis.set_axis_off()
    if len(classes) > 1 and present.any():
        names = [(_colour(index), name) for index, name in enumerate(classes.values()) if present[index]]
        _add_legend(figure, names, "outside lower left")
    if truth is not None:
        wrong = "invented" if len(classes) == 1 else "invented, or of another class"
        kinds = [(AGREED, "agreed"), (MISSED, "missed"), (INVENTED, wrong)]
        _add_legend(figure, kinds, "outside lower right" if len(classes) > 1 else "outside lower center")
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


def _colour(index: int) -> tuple[int, int, int]:
    return PALETTE[index % len(PALETTE)]


def _add_legend(figure, entries: list[tuple[tuple[int, int, int], str]], place: str) -> None:
    handles = [Patch(color=np.array(colour) / 255, label=label) for colour, label in entries]
    figure.legend(handles=handles, loc=place, ncols=min(4, len(handles)), frameon=False, fontsize=9)


def _paint_classes(image: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Paints each class (bool [classes, height, width]) as a tint, and its outline over all tints."""
    # The smallest come last: the outline of what lies within another stays whole.
    order = sorted(range(len(areas)), key=lambda index: -areas[index].sum())
    tints = [(areas[index], _colour(index)) for index in order]
    outlines = [(area & ~_eroded(area), colour) for area, colour in tints]
    return paint(paint(image, tints, opacity=0.3), outlines, opacity=1.0)


def _eroded(area: np.ndarray) -> np.ndarray:
    return cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _paint_difference(image: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Paints pixels whose classes agree, that lack a class (missed), and that have a wrong one (invented, even so).

    Args:
      image: uint8 RGB [height, width, 3].
      true, found: bool [classes, height, width].
    """
    invented = (found & ~true).any(0)
    missed = (true & ~found).any(0) & ~invented
    agreed = true.any(0) & ~missed & ~invented
    return paint(
        (image * 0.5).astype(np.uint8), [(agreed, AGREED), (missed, MISSED), (invented, INVENTED)], opacity=0.75
    )

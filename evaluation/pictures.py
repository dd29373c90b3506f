"""Pictures of predictions: image, truth, prediction and their difference side by side."""

import hashlib
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from imaging.painting import colour, display_image, paint, paint_classes
from records.schema import class_areas, known_pixels

# Okabe and Ito's colours, which colour-blind people can tell apart.
AGREED, MISSED, INVENTED = (0, 158, 115), (230, 159, 0), (204, 60, 140)


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
    panels, present = [("image", shown), ("prediction", paint_classes(shown, found))], found.any((1, 2))
    if truth is not None:
        true = class_areas(truth, list(classes), overlapping)
        known = known_pixels(truth, overlapping)
        panels.insert(1, ("truth", paint_classes(shown, true)))
        panels.append(("difference", _paint_difference(shown, true, found & known)))
        present |= true.any((1, 2))
    figure = _arrange(panels, title)
    if len(classes) > 1 and present.any():
        names = [(colour(index), name) for index, name in enumerate(classes.values()) if present[index]]
        _add_legend(figure, names, "outside lower left")
    if truth is not None:
        wrong = "invented" if len(classes) == 1 else "invented, or of another class"
        kinds = [(AGREED, "agreed"), (MISSED, "missed"), (INVENTED, wrong)]
        _add_legend(figure, kinds, "outside lower right" if len(classes) > 1 else "outside lower center")
    _save(figure, path)


def draw_truth(
    path: Path,
    image: np.ndarray,
    truth: np.ndarray,
    classes: dict[int, str],
    title: str,
    overlapping: bool = False,
    window: tuple[float, float] | None = None,
) -> None:
    """Writes a PNG with image and truth side by side. Arguments as those of `draw_comparison`."""
    shown = display_image(image, window)
    true = class_areas(truth, list(classes), overlapping)
    _save(_arrange([("image", shown), ("truth", paint_classes(shown, true))], title), path)


def _arrange(panels: list[tuple[str, np.ndarray]], title: str):
    """Returns a figure of named pictures, uint8 RGB of one shape, side by side."""
    height, width = panels[0][1].shape[:2]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 3.2 * height / width + 0.75), layout="constrained"
    )
    for axis, (name, panel) in zip(axes, panels, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(name, fontsize=10, color="#4b5563")
        axis.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _save(figure, path: Path) -> None:
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


def _add_legend(figure, entries: list[tuple[tuple[int, int, int], str]], place: str) -> None:
    handles = [Patch(color=np.array(colour) / 255, label=label) for colour, label in entries]
    figure.legend(handles=handles, loc=place, ncols=min(4, len(handles)), frameon=False, fontsize=9)


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

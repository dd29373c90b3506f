"""Images and masks as people see them: stretched, and painted in colours that can be told apart."""

import cv2
import numpy as np

# Okabe and Ito's colours, which colour-blind people can tell apart.
# The first is seen on dark, white and stained backgrounds alike; most datasets have one class.
PALETTE = (
    *((255, 80, 20), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (230, 159, 0), (204, 121, 167)),
    # From the eighth class on, as different from those and each other as can be.
    *((130, 60, 200), (140, 200, 30), (150, 75, 0), (0, 210, 190), (230, 0, 90), (30, 30, 110), (255, 160, 190)),
    *((20, 90, 60), (190, 170, 255), (100, 110, 40), (90, 20, 30), (250, 200, 150), (128, 128, 128)),
)


def colour(index: int) -> tuple[int, int, int]:
    """Returns the colour of a class."""
    return PALETTE[index % len(PALETTE)]


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


def paint_classes(image: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3]: each class (bool [classes, height, width]) a tint, outlines over all."""
    # The smallest come last: the outline of what lies within another stays whole.
    order = sorted(range(len(areas)), key=lambda index: -areas[index].sum())
    tints = [(areas[index], colour(index)) for index in order]
    outlines = [(area & ~_eroded(area), tint) for area, tint in tints]
    return paint(paint(image, tints, opacity=0.3), outlines, opacity=1.0)


def _eroded(area: np.ndarray) -> np.ndarray:
    return cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0

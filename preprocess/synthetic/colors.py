"""Streets with masks in colours, as CamVid has them: the layout folder with --folder.colors class_dict.csv."""

from pathlib import Path

import cv2
import numpy as np

from imaging.codec import encode_png
from preprocess.synthetic.config import SyntheticConfig
from preprocess.synthetic.texture import smooth_noise

_HEIGHT, _WIDTH = 120, 160
# Colour in the mask, and in the image.
_CLASSES = {
    "Sky": ((128, 128, 128), (150, 190, 225)),
    "Building": ((128, 0, 0), (150, 120, 100)),
    "Road": ((128, 64, 128), (95, 95, 100)),
    "Tree": ((128, 128, 0), (50, 110, 50)),
    "Car": ((64, 0, 128), (180, 40, 45)),
    "Void": ((0, 0, 0), (20, 20, 22)),
}


def make_street(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a street and its mask: uint8 RGB [120, 160, 3] both, the mask in the colours of class_dict.csv."""
    names = list(_CLASSES)
    labels = np.full((_HEIGHT, _WIDTH), names.index("Sky"), np.uint8)
    horizon = int(generator.integers(45, 65))
    for _ in range(generator.integers(2, 6)):
        x, roof = int(generator.integers(0, _WIDTH)), int(generator.integers(10, horizon - 10))
        width = int(generator.integers(20, 50))
        cv2.rectangle(labels, (x, roof), (x + width, horizon), names.index("Building"), -1)
    labels[horizon:] = names.index("Road")
    for _ in range(generator.integers(1, 5)):
        centre = (int(generator.integers(0, _WIDTH)), horizon - int(generator.integers(0, 15)))
        cv2.circle(labels, centre, int(generator.integers(8, 18)), names.index("Tree"), -1)
    for _ in range(generator.integers(1, 4)):
        x, y = int(generator.integers(0, _WIDTH - 30)), int(generator.integers(horizon, _HEIGHT - 25))
        cv2.rectangle(labels, (x, y), (x + int(generator.integers(14, 30)), y + 12), names.index("Car"), -1)
    labels[-int(generator.integers(4, 10)) :] = names.index("Void")  # the car that holds the camera
    shades = np.array([shade for _, shade in _CLASSES.values()], np.float32)
    image = shades[labels] * generator.uniform(0.75, 1.1)
    image += 7 * smooth_noise(generator, _HEIGHT, _WIDTH, 2)[:, :, np.newaxis]
    colors = np.array([color for color, _ in _CLASSES.values()], np.uint8)
    return image.clip(0, 255).astype(np.uint8), colors[labels]


def write_colors(folder: Path, config: SyntheticConfig) -> None:
    """Writes images/*.png, masks/*.png in colours, and class_dict.csv, which names them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(config.images):
        image, mask = make_street(np.random.default_rng([config.seed, number]))
        (folder / f"images/street{number:04d}.png").write_bytes(encode_png(image))
        (folder / f"masks/street{number:04d}.png").write_bytes(encode_png(mask))
    lines = ["name,r,g,b", *(",".join(map(str, (name, *color))) for name, (color, _) in _CLASSES.items())]
    (folder / "class_dict.csv").write_text("\n".join(lines) + "\n")

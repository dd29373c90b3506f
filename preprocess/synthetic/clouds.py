"""Four patterns of clouds over the ocean, in the layout of Understanding Clouds from Satellite Images."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np

from imaging.codec import encode_jpeg
from imaging.rle import encode_rle
from preprocess.synthetic.config import SyntheticConfig
from preprocess.synthetic.texture import blend, smooth_noise

_HEIGHT, _WIDTH = 350, 525
# Grain in pixels along x and y: bones of a fish, blossoms, stones, sugar.
_GRAIN = {"Fish": (14, 2), "Flower": (9, 9), "Gravel": (4, 4), "Sugar": (1.2, 1.2)}


def make_sky(generator: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns an ocean with 1 to 4 patterns of clouds, which may overlap, and a mask for each class.

    Returns:
      image: uint8 RGB [350, 525, 3]. masks: uint8 [350, 525] in {0, 1} by class, zero where there is none.
    """
    haze = 5 * smooth_noise(generator, _HEIGHT, _WIDTH, 30)
    image = np.array((25, 45, 70), np.float32) + haze[:, :, np.newaxis]
    order = generator.permutation(list(_GRAIN))
    shown = set(order[: generator.integers(1, 5)])
    masks = {}
    for name, grain in _GRAIN.items():
        masks[name] = np.zeros((_HEIGHT, _WIDTH), np.uint8)
        if name not in shown:
            continue
        for _ in range(generator.integers(1, 3)):
            axes = generator.integers((60, 45), (140, 100))
            centre = generator.integers((40, 40), (_WIDTH - 40, _HEIGHT - 40))
            turned = generator.uniform(-30, 30)
            cv2.ellipse(masks[name], centre.tolist(), axes.tolist(), turned, 0, 360, 1, -1)
        clumps = smooth_noise(generator, _HEIGHT, _WIDTH, *grain).clip(0, 1.5) / 1.5
        soft = cv2.GaussianBlur(masks[name].astype(np.float32), (0, 0), 4)
        image = blend(image, (235, 238, 240), soft * (0.15 + 0.8 * clumps))
    return image.clip(0, 255).astype(np.uint8), masks


def write_clouds(folder: Path, config: SyntheticConfig) -> None:
    """Writes train_images/, train.csv, test_images/ and sample_submission.csv, as Kaggle has them.

    Images have the size of the competition's submissions, a sixteenth of its images' pixels.
    """
    written = _write_images(folder / "train_images", config.images, [config.seed, 0])
    _write_csv(
        folder / "train.csv",
        [(f"{image}_{name}", encode_rle(mask)) for image, masks in written for name, mask in masks.items()],
    )
    tests = _write_images(folder / "test_images", max(2, config.images // 8), [config.seed, 1])
    _write_csv(folder / "sample_submission.csv", [(f"{image}_{name}", "1 1") for image, _ in tests for name in _GRAIN])


def _write_images(folder: Path, count: int, seed: list[int]) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Writes so many images; returns the name and the masks of each, by name."""
    folder.mkdir(parents=True)
    written = []
    for number in range(count):
        image, masks = make_sky(np.random.default_rng([*seed, number]))
        name = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:7] + ".jpg"
        (folder / name).write_bytes(encode_jpeg(image, 90))
        written.append((name, masks))
    return sorted(written, key=lambda image: image[0])


def _write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("Image_Label", "EncodedPixels"), *rows])

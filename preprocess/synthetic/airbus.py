"""Ships at sea, in the layout of Airbus Ship Detection."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np

from imaging.codec import encode_jpeg
from imaging.rle import encode_rle
from preprocess.synthetic.config import SyntheticConfig
from preprocess.synthetic.texture import blend, smooth_noise

_SIZE = 768
_SHARE_EMPTY = 0.6
_CSV_HEADER = ("ImageId", "EncodedPixels")


def make_sea(generator: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns a sea with clouds and ships, often with none, and a mask per ship.

    Returns:
      image: uint8 RGB [768, 768, 3]. masks: uint8 [768, 768] in {0, 1} each, none overlapping.
    """
    water = np.array(generator.uniform((10, 40, 60), (30, 75, 95)), np.float32)
    waves = smooth_noise(generator, _SIZE, _SIZE, 3, sigma_y=1.5)
    image = water + 6 * waves[:, :, np.newaxis]
    if generator.random() < 0.4:
        # Faint and wide, where ships are bright and small.
        cover = smooth_noise(generator, _SIZE // 16, _SIZE // 16, 4)
        image = blend(image, (190, 195, 200), 0.5 * cv2.resize(cover, (_SIZE, _SIZE)).clip(0, 1))
    masks: list[np.ndarray] = []
    taken = np.zeros((_SIZE, _SIZE), np.uint8)
    wanted = 0 if generator.random() < _SHARE_EMPTY else 1 + int(generator.geometric(0.4))
    for _ in range(wanted):
        ship = _ship(generator)
        if not (taken & ship).any():
            taken |= ship
            masks.append(ship)
            image = blend(
                image, (generator.uniform(190, 240),) * 3, cv2.GaussianBlur(ship.astype(np.float32), (3, 3), 0)
            )
    return image.clip(0, 255).astype(np.uint8), masks


def write_airbus(folder: Path, config: SyntheticConfig) -> None:
    """Writes train_v2/, train_ship_segmentations_v2.csv, test_v2/ and sample_submission_v2.csv, as Kaggle has them."""
    rows = []
    for name, masks in _write_images(folder / "train_v2", config.images, [config.seed, 0]):
        rows += [(name, encode_rle(mask)) for mask in masks] or [(name, "")]
    _write_csv(folder / "train_ship_segmentations_v2.csv", rows)
    tests = _write_images(folder / "test_v2", max(2, config.images // 8), [config.seed, 1])
    _write_csv(folder / "sample_submission_v2.csv", [(name, "1 2") for name, _ in tests])


def _ship(generator: np.random.Generator) -> np.ndarray:
    """Returns the mask of a hull with a pointed bow."""
    length = generator.uniform(24, 90)
    beam = length * generator.uniform(0.18, 0.3)
    outline = np.array([(-0.5, -0.5), (0.3, -0.5), (0.5, 0), (0.3, 0.5), (-0.5, 0.5)]) * (length, beam)
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    place = generator.uniform(60, _SIZE - 60, 2)
    mask = np.zeros((_SIZE, _SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline @ turn.T + place).astype(np.int32)], 1)
    return mask


def _write_images(folder: Path, count: int, seed: list[int]) -> list[tuple[str, list[np.ndarray]]]:
    """Writes so many images; returns the name and the masks of each, by name."""
    folder.mkdir(parents=True)
    written = []
    for number in range(count):
        image, masks = make_sea(np.random.default_rng([*seed, number]))
        name = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:9] + ".jpg"
        (folder / name).write_bytes(encode_jpeg(image, 90))
        written.append((name, masks))
    return sorted(written, key=lambda image: image[0])


def _write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_CSV_HEADER, *rows])

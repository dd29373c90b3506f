"""Blobs such as nuclei, one mask per blob, in the layouts nuclei and folder."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from imaging.codec import encode_png
from preprocess.synthetic.config import SyntheticConfig

_SIZES = ((128, 128), (128, 160), (160, 128), (192, 192))
# Background and object colours (RGB) that microscopes give: fluorescence, two stains, phase contrast.
_LOOKS = (
    ((10, 10, 14), (150, 150, 155)),
    ((6, 12, 24), (70, 110, 220)),
    ((225, 205, 225), (105, 60, 140)),
    ((150, 150, 148), (215, 215, 210)),
)


def make_scene(generator: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns an image of blobs, some touching, on a textured background, and a mask per blob.

    Returns:
      image: uint8 RGB [height, width, 3]. masks: uint8 [height, width] in {0, 255} each, none overlapping.
    """
    height, width = _SIZES[generator.integers(len(_SIZES))]
    background, foreground = _LOOKS[generator.integers(len(_LOOKS))]
    contrast = generator.uniform(0.5, 1.0)
    radius = generator.uniform(5, 12)
    taken = np.zeros((height, width), np.uint8)
    shade = np.zeros((height, width), np.float32)
    masks: list[np.ndarray] = []
    place = None
    for _ in range(generator.integers(4, 24)):
        axes = radius * generator.uniform(0.7, 1.4, 2)
        if place is not None and generator.random() < 0.3:
            # Beside the last one, so that they touch.
            angle = generator.uniform(0, 2 * np.pi)
            place = place + 1.7 * radius * np.array([np.cos(angle), np.sin(angle)])
        else:
            place = generator.uniform([0, 0], [width, height])
        blob = np.zeros((height, width), np.uint8)
        centre = tuple(int(value) for value in place)
        cv2.ellipse(blob, centre, tuple(int(a) for a in axes), generator.uniform(0, 180), 0, 360, 255, -1)
        blob[taken > 0] = 0
        if np.count_nonzero(blob) < 12:
            continue
        taken |= blob
        shade = np.maximum(shade, blob / 255 * np.float32(generator.uniform(0.55, 1.0)))
        masks.append(blob)
    soft = cv2.GaussianBlur(shade, (0, 0), 1.2) * contrast
    texture = cv2.GaussianBlur(generator.normal(size=(height, width)).astype(np.float32), (0, 0), 6)
    grain = generator.normal(size=(height, width, 1)).astype(np.float32)
    low, high = np.array(background, np.float32), np.array(foreground, np.float32)
    image = low + soft[..., None] * (high - low) + 40 * texture[..., None] + 3 * grain
    return image.clip(0, 255).astype(np.uint8), masks


def write_nuclei(folder: Path, config: SyntheticConfig) -> None:
    """Writes `<id>/images/<id>.png` and `<id>/masks/*.png`, as the 2018 Data Science Bowl has them."""
    for number in range(config.images):
        image, masks = make_scene(np.random.default_rng([config.seed, number]))
        key = hashlib.sha256(f"{config.seed}/{number}".encode()).hexdigest()
        for name in ("images", "masks"):
            (folder / key / name).mkdir(parents=True)
        # Kaggle's images have an alpha channel.
        alpha = np.full(image.shape[:2], 255, np.uint8)
        done, data = cv2.imencode(".png", np.dstack([image[:, :, ::-1], alpha]))
        assert done
        (folder / key / "images" / f"{key}.png").write_bytes(data.tobytes())
        for index, mask in enumerate(masks):
            name = hashlib.sha256(f"{key}/{index}".encode()).hexdigest()
            (folder / key / "masks" / f"{name}.png").write_bytes(encode_png(mask))


def write_folder(folder: Path, config: SyntheticConfig) -> None:
    """Writes images/*.png and masks/*.png, binary masks of the same stem."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(config.images):
        image, masks = make_scene(np.random.default_rng([config.seed, number]))
        stem = f"scene{number:04d}.png"
        (folder / "images" / stem).write_bytes(encode_png(image))
        union = np.zeros(image.shape[:2], np.uint8)
        for mask in masks:
            union |= mask
        (folder / "masks" / stem).write_bytes(encode_png(union))

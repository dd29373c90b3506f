"""Discs, boxes and triangles, with crowds of dots, in the layout of COCO."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from imaging.codec import encode_png
from preprocess.sources.segmentation import decode_segmentation
from preprocess.synthetic.config import SyntheticConfig
from preprocess.synthetic.texture import smooth_noise

_SIZES = ((128, 160), (160, 128), (144, 144))
# As in COCO, the numbers of categories have gaps.
_CATEGORIES = {"disc": 1, "box": 3, "triangle": 7}
_COLORS = {"disc": (205, 90, 80), "box": (90, 185, 100), "triangle": (95, 120, 215)}


def make_shapes(generator: np.random.Generator) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Returns an image of shapes, the smaller on top, and what COCO's annotations say of them.

    Returns:
      image: uint8 RGB [height, width, 3]. objects: of each, "category_id", "iscrowd", "area", "bbox" and
      "segmentation": polygons for boxes and triangles, run-length code for discs, compressed or not.
    """
    height, width = _SIZES[generator.integers(len(_SIZES))]
    grey = 60 + 12 * smooth_noise(generator, height, width, 5)
    image = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    kinds = generator.choice(list(_CATEGORIES), generator.integers(2, 8)).tolist()
    shapes = [(kind, *_shape(generator, kind, height, width), 0) for kind in kinds]
    if generator.random() < 0.25:
        crowd = _crowd(generator, height, width)
        shapes.append(("disc", crowd, _run_lengths(crowd), 1))
    # The crowd first, then the large ones, so that small ones are seen whole.
    shapes.sort(key=lambda shape: (-shape[3], -int(shape[1].sum())))
    objects = []
    for kind, mask, segmentation, is_crowd in shapes:
        shade = np.array(_COLORS[kind], np.float32) * generator.uniform(0.8, 1.1)
        image[mask > 0] = shade
        entry = {"category_id": _CATEGORIES[kind], "iscrowd": is_crowd, "segmentation": segmentation}
        objects.append(entry | {"area": int(mask.sum()), "bbox": list(map(int, cv2.boundingRect(mask)))})
    image += 4 * generator.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).astype(np.uint8), objects


def write_coco(folder: Path, config: SyntheticConfig) -> None:
    """Writes images/*.png and annotations/instances.json."""
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for number in range(config.images):
        image, objects = make_shapes(np.random.default_rng([config.seed, number]))
        name = f"{number:012d}.png"
        (folder / "images" / name).write_bytes(encode_png(image))
        images.append({"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
        annotations += [{"image_id": number, **entry} for entry in objects]
    content = {
        "images": images,
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": name} for name, number in _CATEGORIES.items()],
    }
    (folder / "annotations/instances.json").write_text(json.dumps(content))


def _shape(generator: np.random.Generator, kind: str, height: int, width: int) -> tuple[np.ndarray, Any]:
    """Returns the mask of one shape, uint8 [height, width] in {0, 1}, and its segmentation."""
    centre = generator.uniform((16, 16), (width - 16, height - 16))
    radius = generator.uniform(8, 24)
    if kind == "disc":
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, np.rint(centre).astype(int).tolist(), int(radius), 1, -1)
        return mask, _compressed(mask) if generator.random() < 0.5 else _run_lengths(mask)
    corners = {"box": 4, "triangle": 3}[kind]
    angles = generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    polygon = points.clip(0, (width, height)).round(2).ravel().tolist()
    return decode_segmentation([polygon], height, width), [polygon]


def _crowd(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns many dots close together: uint8 [height, width] in {0, 1}."""
    mask = np.zeros((height, width), np.uint8)
    corner = generator.integers((8, 8), (width - 48, height - 48))
    for _ in range(25):
        cv2.circle(mask, (corner + generator.integers(0, 40, 2)).tolist(), 2, 1, -1)
    return mask


def _compressed(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff([0, *edges, pixels.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if pixels[0] else counts}

"""Pictures of result-image/ inside the page."""

import base64
import io
import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from evaluation.pictures import file_name
from evaluation.report.files import Evaluation

_BUDGET_BYTES = 3_000_000
_WIDTHS = (1280, 960, 720, 480, 320)

_KINDS = {"worst": "The worst", "median": "The median", "best": "The best"}


class Picture(NamedTuple):
    """A picture with what stands below it; `uri` holds its bytes, width and height are in pixels."""

    caption: str
    uri: str
    width: int
    height: int


def galleries(evaluation: Evaluation) -> dict[str, list[Picture]]:
    """Returns the pictures by heading: the worst, the median, the best; others under their own names."""
    captions = _captions(evaluation)
    found: dict[str, list[Picture]] = {heading: [] for heading in _KINDS.values()}
    for path in evaluation.pictures:
        named = re.fullmatch(r"(.+?)-\d+-(.+)", path.stem)
        if named is None:
            continue  # not of an evaluation
        kind, key = named.groups()
        uri, width, height = _shrink(path, _BUDGET_BYTES // len(evaluation.pictures))
        heading = _KINDS.get(kind, kind.replace("-", " ").capitalize())
        found.setdefault(heading, []).append(Picture(captions.get(key, key), uri, width, height))
    return {heading: pictures for heading, pictures in found.items() if pictures}


def _captions(evaluation: Evaluation) -> dict[str, str]:
    """Returns the key and Dice of an image by the part of the file's name that stands for the key."""
    images = evaluation.images
    if "dice" not in images:
        return {}
    cleared = images["cleared"] if "cleared" in images else [False] * len(images)
    return {
        file_name(key): f"{key}: Dice {dice:.3f}" + (", cleared by the gate" if empty else "")
        for key, dice, empty in zip(images["source_id"], images["dice"], cleared, strict=True)
    }


def _shrink(path: Path, budget: int) -> tuple[str, int, int]:
    """Returns (a data URI of at most `budget` base64 bytes or of the smallest width, width, height)."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    for width in _WIDTHS:
        scale = min(1, width / picture.width)
        size = round(picture.width * scale), max(1, round(picture.height * scale))
        buffer = io.BytesIO()
        picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "WEBP", quality=80, method=4)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        if len(encoded) <= budget:
            break
    return f"data:image/webp;base64,{encoded}", *size

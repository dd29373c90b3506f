"""Raw files of a test, and what a layout finds in them."""

import zipfile
from pathlib import Path

import numpy as np

from imaging.codec import encode_png
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles

CONFIG = PreprocessConfig()


def write(root, files):
    """Writes files given as bytes, text or pixels."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data if isinstance(data, bytes) else encode_png(data))
    return RawFiles(str(root))


def zipped(root, path):
    """Returns the files of a directory as those of a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(Path(root).rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(root))
    return RawFiles(str(path))


def blank(height=4, width=6):
    return np.zeros((height, width), np.uint8)


def items(source, files, config=CONFIG):
    return sorted(source.find_items(files, config), key=lambda item: item.key)


def only(source, files, config=CONFIG):
    (item,) = source.find_items(files, config)
    return item


def plain_rle(code, height, width):
    """Decodes a run-length code pixel by pixel: column by column, from 1."""
    mask = [[0] * width for _ in range(height)]
    numbers = [int(word) for word in code.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % height][pixel // height] = 1
    return np.array(mask, np.uint8)

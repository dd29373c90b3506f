"""Items that are one image file, as in most layouts."""

import hashlib

from imaging.codec import decode_image, examine_image
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.item import Item, RawImage


def examine_image_file(files: RawFiles, item: Item, config: PreprocessConfig) -> list[dict]:
    """Returns one dict: image_bytes, sha256, and what `examine_image` tells.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        data = files.read(item.image)
        facts = examine_image(data)._asdict()
    except ValueError as error:
        raise ValueError(f"{item.image}: {error}") from error
    return [facts | {"image_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}]


def read_image_file(files: RawFiles, item: Item) -> RawImage:
    """Returns the pixels of the item's image file.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        data = files.read(item.image)
        return RawImage(decode_image(data), hashlib.sha256(data).hexdigest(), data)
    except ValueError as error:
        raise ValueError(f"{item.image}: {error}") from error

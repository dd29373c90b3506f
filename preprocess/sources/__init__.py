"""Raw layouts: how to find, look at and read the images and masks of each. See docs/development.md."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import airbus, clouds, coco, ct, folder, nuclei
from preprocess.sources.image import examine_image_file, read_image_file
from preprocess.sources.item import Item, Masks, RawImage


class Source(NamedTuple):
    """What preprocess asks of a layout.

    Attributes:
      find_items: yields every image or volume, those of no use with an error; reads no pixels.
      class_names: of the masks, by value (by bit where classes overlap).
      read_masks: of one item, as large as its image: (files, item, height, width, config) -> Masks.
      examine: facts of an item's examples, columns of the index: one dict for an image, one for each slice of a volume.
      read_image: pixels of one item.
      count_foreground: annotated pixels of an item whose annotation stands in a table (an overlap counts twice), so
        that no mask has to be built for it: (item, height, width, config) -> int.
      file_settings: settings that stand in a file of the user's, and decide the records' bytes.
      overlapping: whether classes overlap, unless --overlap says otherwise.
      archive, unlabeled_archive: names of the zip to look for when RAW is a directory of zips.
    """

    find_items: Callable[[RawFiles, PreprocessConfig], Iterator[Item]]
    class_names: Callable[[RawFiles, PreprocessConfig], list[str]]
    read_masks: Callable[[RawFiles, Item, int, int, PreprocessConfig], Masks]
    examine: Callable[[RawFiles, Item, PreprocessConfig], list[dict]] = examine_image_file
    read_image: Callable[[RawFiles, Item], RawImage] = read_image_file
    count_foreground: Callable[[Item, int, int, PreprocessConfig], int] | None = None
    file_settings: Callable[[RawFiles, PreprocessConfig], dict] = lambda files, config: {}
    overlapping: bool = False
    archive: str | None = None
    unlabeled_archive: str | None = None

    def is_overlapping(self, config: PreprocessConfig) -> bool:
        """Returns whether masks are bit fields."""
        return self.overlapping if config.overlap is None else config.overlap == "bits"


SOURCES = {
    "nuclei": Source(
        nuclei.find_items,
        nuclei.class_names,
        nuclei.read_masks,
        archive="stage1_train.zip",
        unlabeled_archive="stage1_test.zip",
    ),
    "airbus": Source(
        airbus.find_items, airbus.class_names, airbus.read_masks, count_foreground=airbus.count_foreground
    ),
    "clouds": Source(
        clouds.find_items,
        clouds.class_names,
        clouds.read_masks,
        count_foreground=clouds.count_foreground,
        overlapping=True,
    ),
    "ct": Source(ct.find_items, ct.class_names, ct.read_masks, examine=ct.examine, read_image=ct.read_image),
    "folder": Source(folder.find_items, folder.class_names, folder.read_masks, file_settings=folder.file_settings),
    "coco": Source(coco.find_items, coco.class_names, coco.read_masks, count_foreground=coco.count_foreground),
}

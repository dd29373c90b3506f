"""Raw layouts. A layout is a module with two functions, `find_items` and `read_masks`; see docs/development.md.

find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]
read_masks(files: RawFiles, item: Item, height, width, config: PreprocessConfig) -> Masks
CLASSES: list of class names where masks are binary
ARCHIVE: name of the zip to look for when RAW is a directory of zips, or None
"""

from preprocess.sources import folder, nuclei

SOURCES = {"nuclei": nuclei, "folder": folder}

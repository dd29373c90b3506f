"""Annotations in one CSV table, images found by their names: what Kaggle's run-length layouts share."""

from collections.abc import Iterator

from imaging.codec import SUFFIXES
from preprocess.csv_table import parse_csv
from preprocess.raw import RawFiles
from preprocess.sources.item import Item


def find_table(files: RawFiles, paths: list[str], name: str) -> str:
    """Returns the path of the one file of that name.

    Raises:
      ValueError: there is none, or more than one.
    """
    found = [path for path in paths if path.rpartition("/")[2] == name]
    if len(found) != 1:
        what = " and ".join(found) + "; keep one" if found else "none (--unlabeled makes records without masks)"
        raise ValueError(f"{files.root}: expected one {name}, found {what}")
    return found[0]


def read_columns(files: RawFiles, path: str, columns: list[str]) -> list[list[str]]:
    """Returns columns of a CSV file, each a list of its cells' text, "" where empty.

    Raises:
      ValueError: the file cannot be read, is no CSV in UTF-8, or lacks a column.
    """
    table = parse_csv(files.read(path), path)
    if missing := [name for name in columns if name not in table.columns]:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}, found {', '.join(map(str, table.columns))}; "
            f"missing: {', '.join(missing)}"
        )
    return [table[name].tolist() for name in columns]


def images_by_name(paths: list[str], test_dir: str, unlabeled: bool) -> dict[str, str]:
    """Returns the path of each image by its file name: those of `test_dir` if `unlabeled`, else the others.

    Where there is no such directory, all images are unlabelled ones.

    Raises:
      ValueError: a name is there twice.
    """
    images = [path for path in paths if path.lower().endswith(SUFFIXES)]
    test = {path for path in images if test_dir in path.split("/")[:-1]}
    wanted = [path for path in images if (path in test) == (unlabeled and bool(test))]
    found: dict[str, str] = {}
    for path in wanted:
        name = path.rpartition("/")[2]
        if name in found:
            raise ValueError(f"two images of the name {name}: {found[name]} and {path}; remove one")
        found[name] = path
    return found


def unlabeled_items(images: dict[str, str]) -> Iterator[Item]:
    """Yields an item for each image by its name."""
    for name, path in images.items():
        yield Item(stem(name), path, None)


def pair(
    images: dict[str, str], annotations: dict[str, tuple[str, int]], table: str, wrong: dict[str, str]
) -> Iterator[Item]:
    """Yields an item for each annotation, and for each image that has none.

    Args:
      images: path by file name.
      annotations: (JSON text, number of objects) by file name.
      table: path of the table.
      wrong: what is wrong with an annotation, by file name.
    """
    for name, (annotation, objects) in annotations.items():
        path = images.get(name)
        error = wrong.get(name) if path else f"{table}: {name}: no such image"
        yield Item(stem(name), path, table, objects, error=error, annotation=annotation)
    for name in sorted(images.keys() - annotations.keys()):
        yield Item(stem(name), images[name], None)


def stem(name: str) -> str:
    """Returns a file name without the extension of an image."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]

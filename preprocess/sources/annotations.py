"""COCO's annotation file: which one it is, what it must hold, and where its images lie."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from imaging.codec import SUFFIXES
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles

_FIELDS = {
    "images": {"id": (int, str), "file_name": (str,)},
    "annotations": {"image_id": (int, str), "category_id": (int,)},
    "categories": {"id": (int,), "name": (str,)},
}


def find_annotations(files: RawFiles, paths: list[str], config: PreprocessConfig) -> str | None:
    """Returns the path of the annotation file; None where images are unlabelled and none lists them.

    Raises:
      ValueError: there is none, or more than one and the config does not say which.
    """
    tables = [path for path in paths if path.lower().endswith(".json")]
    named = config.coco.annotations
    if named is not None:
        if named not in tables:
            raise ValueError(f"coco.annotations: expected one of {', '.join(tables) or 'no JSON files'}, found {named}")
        return named
    if len(tables) > 1:
        needed = [f'"{key}"\\s*:\\s*\\['.encode() for key in _needed(config)]
        # Searched, not parsed: that takes seconds for the largest.
        tables = [path for path in tables if _has_all(files.read(path), needed)]
    if len(tables) > 1:
        raise ValueError(f"{files.root}: several annotation files: {', '.join(tables)}; choose with --coco.annotations")
    if not tables and not config.unlabeled:
        raise ValueError(
            f"{files.root}: expected a JSON file with {', '.join(_FIELDS)}, found none "
            "(--unlabeled makes records without masks)"
        )
    return tables[0] if tables else None


def read_annotations(files: RawFiles, path: str, config: PreprocessConfig) -> dict[str, Any]:
    """Returns the content of an annotation file, in which every entry has the fields that it must have.

    Raises:
      ValueError: the file is no JSON, or lacks something.
    """
    try:
        content = json.loads(files.read(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON: {error}") from error
    keys = list(content) if isinstance(content, dict) else type(content).__name__
    for key in _needed(config):
        if key not in keys:
            raise ValueError(f"{path}: expected {', '.join(_needed(config))}, found {keys}")
    for key in _FIELDS.keys() & content.keys():
        _check_entries(content[key], key, path)
    for key in ("images", "categories"):
        for name, count in Counter(entry["id"] for entry in content.get(key, [])).most_common(1):
            if count > 1:
                raise ValueError(f"{path}: expected {key} of different ids, found the id {name} {count} times")
    return content


def image_finder(paths: list[str], table: str) -> Callable[[str], tuple[str | None, str | None]]:
    """Returns a function from a `file_name` to (path, None), or to (None, what is wrong).

    A name is relative to the directory of the annotation file or to the root; what lies in neither place is found as
    the end of a path, and a name of another computer (`/home/…`, `C:…`, `../…`) by its last part.
    """
    images = {path for path in paths if path.lower().endswith(SUFFIXES)}
    by_base = defaultdict(list)
    for path in sorted(images):
        by_base[path.rpartition("/")[2]].append(path)
    directory = table.rpartition("/")[0]

    def find(name: str) -> tuple[str | None, str | None]:
        for path in (f"{directory}/{name}", name):
            if path in images:
                return path, None
        found = by_base.get(name.rpartition("/")[2], [])
        if "/" in name and not re.match(r"/|\w+:|\.\./", name):
            # train/a.jpg is not val/a.jpg; only directories of another computer say nothing here.
            found = [path for path in found if path.endswith(f"/{name}")]
        if len(found) == 1:
            return found[0], None
        return None, f"expected one image of that name, found {' and '.join(found)}" if found else "no such image"

    return find


def _has_all(text: bytes, patterns: list[bytes]) -> bool:
    return all(re.search(pattern, text) for pattern in patterns)


def _needed(config: PreprocessConfig) -> list[str]:
    return ["images"] if config.unlabeled else list(_FIELDS)


def _check_entries(entries: Any, key: str, path: str) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected {key} to be a list, found {type(entries).__name__}")
    for number, entry in enumerate(entries):
        for field, types in _FIELDS[key].items():
            if not isinstance(entry, dict) or type(entry.get(field)) not in types:
                kinds = " or ".join(kind.__name__ for kind in types)
                found = repr(entry.get(field)) if isinstance(entry, dict) else type(entry).__name__
                raise ValueError(f"{path}: {key}[{number}]: expected {field} ({kinds}), found {found}")

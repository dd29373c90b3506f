"""Which mask belongs to which scan: by metadata.csv, or by directories and names."""

import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import pandas as pd

from preprocess.raw import RawFiles

TABLE_FILE = "metadata.csv"
SUFFIXES = (".nii", ".nii.gz")

_MASK_WORDS = {"mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "labelstr"}
_SCAN_DIRECTORIES = {"scan", "scans", "ct", "ct_scan", "ct_scans", "image", "images", "imagestr", "volume", "volumes"}


class Pair(NamedTuple):
    """Paths of a scan and of its mask, and what is wrong with the pair."""

    scan: str | None
    mask: str | None
    error: str | None = None


def find_pairs(files: RawFiles, mask: str | None, unlabeled: bool) -> list[Pair]:
    """Returns every scan with its mask; what lacks its counterpart with an error.

    Args:
      files: the raw dataset.
      mask: column of metadata.csv, or directory, of the masks; None: the only one.
      unlabeled: masks that are missing are no fault.

    Raises:
      ValueError: there are several kinds of masks to choose from, or the table is not as expected.
    """
    paths = [path for path in files.walk() if path.lower().endswith((*SUFFIXES, TABLE_FILE))]
    tables = [path for path in paths if path.endswith(TABLE_FILE)]
    volumes = [path for path in paths if path not in set(tables)]
    if len(tables) > 1:
        raise ValueError(f"{files.root}: expected one {TABLE_FILE}, found {', '.join(tables)}; keep one of them")
    if tables:
        return list(_pairs_of_table(_read_table(files, tables[0]), tables[0], volumes, mask, unlabeled))
    return list(_pairs_by_name(volumes, mask, unlabeled))


def mask_name(files: RawFiles, mask: str | None) -> str | None:
    """Returns the name of the masks' column or directory; None where neither says what they show."""
    if mask is not None:
        return mask
    directories = set()
    for path in files.walk():
        if path.endswith(TABLE_FILE):
            return next((name for name in _read_table(files, path).columns if name != "ct_scan"), None)
        if path.lower().endswith(SUFFIXES):
            directories.add(PurePosixPath(path).parent.name)
    named = [name for name in directories if _all_words(name) & _MASK_WORDS]
    return named[0] if len(named) == 1 else None


def stem(path: str) -> str:
    """Returns a volume's file name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", PurePosixPath(path).name, flags=re.IGNORECASE)


def _read_table(files: RawFiles, table: str) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(files.read(table)), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{table}: expected a CSV file: {error}") from error


def _pairs_of_table(
    rows: pd.DataFrame, table: str, volumes: list[str], mask: str | None, unlabeled: bool
) -> Iterator[Pair]:
    columns = [name for name in rows.columns if name != "ct_scan"]
    if "ct_scan" not in rows.columns:
        raise ValueError(f"{table}: expected the column ct_scan and columns of masks, found {', '.join(columns)}")
    # A scan is unlabelled if no column has a mask of it.
    chosen = columns if unlabeled else [_choose(mask, columns, table)]
    by_name = _by_last_parts(volumes)
    for scan_path, *mask_paths in rows[["ct_scan", *chosen]].itertuples(index=False, name=None):
        scan = _resolve(scan_path, by_name)
        named = next((path for path in mask_paths if path), None)
        found = named and _resolve(named, by_name)
        if scan is None:
            yield Pair(None, scan_path, f"{table}: {scan_path}: no such scan")
        elif named and not found and not unlabeled:
            yield Pair(scan, None, f"{table}: {named}: no such mask")
        else:
            yield Pair(scan, found)


def _pairs_by_name(volumes: list[str], mask: str | None, unlabeled: bool) -> Iterator[Pair]:
    masks = [path for path in volumes if _is_mask(path, mask)]
    scans = [path for path in volumes if path not in set(masks)]
    directories = {PurePosixPath(path).parent.name for path in masks}
    apart = not directories & {PurePosixPath(path).parent.name for path in scans}
    if mask is not None or (len(directories) > 1 and apart and not unlabeled):
        chosen = _choose(mask, sorted(directories), "directories")
        masks = [path for path in masks if PurePosixPath(path).parent.name == chosen]
    unused = set(masks)
    for scan in scans:
        words = _words(scan)
        fitting = [path for path in masks if _may_belong(path, scan, words)]
        # Of P1 and P1_10 the second belongs to P1_10: it has more words in common.
        most = max((len(_words(path)) for path in fitting), default=0)
        fitting = [path for path in fitting if len(_words(path)) == most]
        unused -= set(fitting)
        error = f"{scan}: expected one mask, found {', '.join(fitting)}; keep one of them" if fitting[1:] else None
        yield Pair(scan, fitting[0] if fitting else None, error)
    for path in sorted(unused) if not unlabeled else []:
        yield Pair(None, path, f"{path}: no scan whose name has the words of this mask's")


def _is_mask(path: str, mask: str | None) -> bool:
    directory = PurePosixPath(path).parent.name
    if mask is not None and directory == mask:
        return True
    if directory.lower() in _SCAN_DIRECTORIES:
        return False
    return bool((_all_words(directory) | _all_words(stem(path))) & _MASK_WORDS)


def _may_belong(mask: str, scan: str, words: frozenset[str]) -> bool:
    """Returns whether the scan's name has all words of the mask's; side by side, or in directories of their own."""
    mask_folder, scan_folder = PurePosixPath(mask).parent, PurePosixPath(scan).parent
    return _words(mask) <= words and (mask_folder == scan_folder or mask_folder.parent == scan_folder.parent)


def _words(path: str) -> frozenset[str]:
    return frozenset(_all_words(stem(path)) - _MASK_WORDS)


def _all_words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+", name.lower()))


def _by_last_parts(volumes: list[str]) -> dict[str, list[str]]:
    """Returns path by "directory/stem" and by "stem" alone."""
    found: dict[str, list[str]] = {}
    for path in volumes:
        for name in (_last_parts(path), stem(path)):
            found.setdefault(name, []).append(path)
    return found


def _resolve(name: str, by_name: dict[str, list[str]]) -> str | None:
    if not name:
        return None
    for candidate in (_last_parts(name), stem(name)):
        if len(by_name.get(candidate, [])) == 1:
            return by_name[candidate][0]
    return None


def _last_parts(path: str) -> str:
    return f"{PurePosixPath(path).parent.name}/{stem(path)}"


def _choose(mask: str | None, kinds: list[str], where: str) -> str:
    if mask is not None and mask not in kinds:
        raise ValueError(f"ct.mask: expected one of {', '.join(kinds)} ({where}), found {mask!r}")
    if mask is None and len(kinds) != 1:
        raise ValueError(f"ct.mask: expected a choice; {where} has the masks {', '.join(kinds) or 'of no kind'}")
    return mask or kinds[0]

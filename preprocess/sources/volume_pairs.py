"""Which mask belongs to which scan: by metadata.csv, or by directories and names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import pandas as pd

from preprocess.csv_table import parse_csv
from preprocess.raw import RawFiles

TABLE_FILE = "metadata.csv"
SUFFIXES = (".nii", ".nii.gz")

_MASK_WORDS = {"mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "labelstr"}
_SCAN_DIRECTORIES = {"scan", "scans", "ct", "ct_scan", "ct_scans", "image", "images", "imagestr", "volume", "volumes"}


class Pair(NamedTuple):
    """Paths of a scan (of one that is not there, as stated) and of its mask, and what is wrong with the pair."""

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
    tables = [path for path in paths if PurePosixPath(path).name == TABLE_FILE]
    volumes = [path for path in paths if path.lower().endswith(SUFFIXES)]
    if len(tables) > 1:
        raise ValueError(f"{files.root}: expected one {TABLE_FILE}, found {', '.join(tables)}; keep one of them")
    if tables:
        return list(_pairs_of_table(parse_csv(files.read(tables[0]), tables[0]), tables[0], volumes, mask, unlabeled))
    return list(_pairs_by_name(volumes, mask, unlabeled))


def mask_name(files: RawFiles, mask: str | None, unlabeled: bool) -> str | None:
    """Returns the name that the masks go by: `mask`, or their directory's; None where they lie in several."""
    if mask is not None:
        return mask
    directories = {PurePosixPath(pair.mask).parent.name for pair in find_pairs(files, mask, unlabeled) if pair.mask}
    return directories.pop() if len(directories) == 1 else None


def stem(path: str) -> str:
    """Returns a volume's file name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", PurePosixPath(path).name, flags=re.IGNORECASE)


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
            yield Pair(scan_path, None, f"{table}: {scan_path}: expected one scan of that name, found none or several")
        elif named and not found and not unlabeled:
            yield Pair(scan, None, f"{table}: {named}: expected one mask of that name, found none or several")
        else:
            yield Pair(scan, found)


def _pairs_by_name(volumes: list[str], mask: str | None, unlabeled: bool) -> Iterator[Pair]:
    masks = [path for path in volumes if _is_mask(path, mask)]
    known = set(masks)
    scans = [path for path in volumes if path not in known]
    directories = {PurePosixPath(path).parent.name for path in masks}
    apart = not directories & {PurePosixPath(path).parent.name for path in scans}
    if mask is not None or (len(directories) > 1 and apart and not unlabeled):
        chosen = _choose(mask, sorted(directories), "directories")
        masks = [path for path in masks if PurePosixPath(path).parent.name == chosen]
    finder = _MaskFinder(masks, scans)
    fitting = {scan: finder.find(scan) for scan in scans}
    owners = Counter(path for found in fitting.values() for path in found)
    for scan, found in fitting.items():
        # Of P1 and P1_10 the mask P1 belongs to P1, whose words are all its own: no mask belongs to two scans.
        own = [path for path in found if owners[path] == 1 or _words(path) == _words(scan)]
        error = None
        if own[1:]:
            error = f"{scan}: expected one mask, found {len(own)}, such as {own[0]} and {own[1]}; keep one of them"
        elif found and not own:
            error = f"{scan}: expected a mask of its own, found {found[0]}, which fits {owners[found[0]]} scans"
        yield Pair(scan, own[0] if own else None, None if unlabeled else error)
    for path in sorted(set(masks) - owners.keys()) if not unlabeled else []:
        yield Pair(None, path, f"{path}: no scan whose name has the words of this mask's")


class _MaskFinder:
    """Finds the masks that a scan's name has all words of, in their order; quick for any number of masks."""

    def __init__(self, masks: list[str], scans: list[str]):
        """Files each mask under its rarest word, so that few have to be looked at for a scan.

        A mask that lies with scans is theirs: of pat1/ct, pat1/ct_seg and pat2/ct, the last has no mask.
        """
        with_scans = {PurePosixPath(path).parent for path in scans}
        self._words_by_mask = {path: _words(path) for path in masks}
        counts = Counter(word for words in self._words_by_mask.values() for word in words)
        self._beside, self._apart = defaultdict(list), defaultdict(list)
        for path, words in self._words_by_mask.items():
            rarest = min(words, key=lambda word: (counts[word], word), default="")
            folder = PurePosixPath(path).parent
            self._beside[folder, rarest].append(path)
            if folder not in with_scans:
                self._apart[folder.parent, rarest].append(path)

    def find(self, scan: str) -> list[str]:
        """Returns the masks with most words that fit: beside the scan, else in a directory beside its own."""
        words, folder = _words(scan), PurePosixPath(scan).parent
        for filed, place in ((self._beside, folder), (self._apart, folder.parent)):
            near = [path for word in sorted({*words, ""}) for path in filed.get((place, word), [])]
            fitting = [path for path in near if _is_within(self._words_by_mask[path], words)]
            if fitting:
                most = max(len(self._words_by_mask[path]) for path in fitting)
                return sorted(path for path in fitting if len(self._words_by_mask[path]) == most)
        return []


def _is_within(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Returns whether all words are among the others, in the same order."""
    rest = iter(others)
    return all(word in rest for word in words)


def _is_mask(path: str, mask: str | None) -> bool:
    directory = PurePosixPath(path).parent.name
    if mask is not None and directory == mask:
        return True
    if directory.lower() in _SCAN_DIRECTORIES:
        return False
    return not _MASK_WORDS.isdisjoint(_all_words(directory) + _all_words(stem(path)))


def _words(path: str) -> tuple[str, ...]:
    """Returns the words of a volume's name in their order, without those that only say that it is a mask."""
    return tuple(word for word in _all_words(stem(path)) if word not in _MASK_WORDS)


def _all_words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", name.lower())


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

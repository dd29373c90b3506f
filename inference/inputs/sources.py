"""Which files are meant: pictures, scans and records, from paths, folders, zips and patterns."""

import itertools
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from imaging.codec import SUFFIXES as PICTURES
from records.info import INFO_FILE, read_info

SCANS = (".nii", ".nii.gz")

_MOST_MEMBER_BYTES = 2**32
"""Of a zip's member, unpacked: a small zip can hold more than any memory."""

Kind = Literal["picture", "scan", "records"]


class Source(NamedTuple):
    """A file that holds one image or several.

    Attributes:
      name: of what is written for it: its path below the folder, zip or pattern that was named, with slashes, without
        extension; no two sources have the same.
      where: its path as an error tells it; of a zip's members the zip's, a colon and theirs.
      kind: what it is.
      read: returns its bytes. Raises ValueError or OSError where it cannot be read.
      file: its own name, without folders; of records the folder's.
      images: how many it holds; a scan is one.
    """

    name: str
    where: str
    kind: Kind
    read: Callable[[], bytes]
    file: str
    images: int = 1


class _Candidate(NamedTuple):
    """What becomes a source: its path below what was named, its path as an error tells it, and the rest as there."""

    relative: str
    where: str
    kind: Kind
    read: Callable[[], bytes]
    images: int = 1


def find_sources(inputs: Iterable[str], leave_out: str | None = None) -> list[Source]:
    """Returns all that is named, each file once, in the order of the names, folders and zips sorted.

    Args:
      inputs: paths of files, folders, zips and records folders, or patterns such as 'scans/*.png'. In folders and zips
        what has another extension than a picture's or a scan's is passed over; a file that is named itself must have
        one.
      leave_out: a folder that what is found in folders does not lie in: where earlier predictions are.

    Raises:
      ValueError: nothing is there, or it is no picture, scan, folder, zip or records.
    """
    found: list[_Candidate] = []
    for name in inputs:
        of_name = list(_expand(name, leave_out and Path(leave_out).resolve()))
        if not of_name:
            raise ValueError(f"{name}: expected pictures or scans ({', '.join((*PICTURES, *SCANS))}), found none")
        found += of_name
    first: dict[Path, _Candidate] = {}
    resolve = lru_cache(Path.resolve)  # most files share their folder
    for one in found:
        path = Path(one.where)
        first.setdefault(resolve(path.parent) / path.name, one)
    unique = list(first.values())
    return [
        Source(name, one.where, one.kind, one.read, PurePosixPath(one.relative).name, one.images)
        for name, one in zip(_names([one.relative for one in unique]), unique, strict=True)
    ]


def _expand(name: str, leave_out: Path | None) -> Iterator[_Candidate]:
    path = Path(name)
    # A path may hold brackets: it is a pattern only where nothing is called like that.
    exists = path.exists()
    matches = [path] if exists else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not matches or not name:
        raise ValueError(f"{name!r}: expected a picture, a scan, a folder, a zip or a pattern, found nothing there")
    base = path.parent if exists else Path(*itertools.takewhile(_is_plain, path.parts))
    for match in matches:
        relative = match.relative_to(base).as_posix()
        if (match / INFO_FILE).is_file():
            images = sum(split.num_examples for split in read_info(str(match)).splits.values())
            yield _Candidate(match.resolve().name, str(match), "records", _no_bytes, images)
        elif match.is_dir():
            # Several folders of one pattern may hold files of the same names.
            yield from _folder(match, "" if exists else f"{relative}/", leave_out)
        elif match.suffix.lower() == ".zip":
            yield from _zip(match)
        elif _is_image(match.name):
            yield _Candidate(relative, str(match), _kind(match.name), match.read_bytes)
        elif exists:
            known = ", ".join((*PICTURES, *SCANS, ".zip"))
            found = match.suffix or "no ending"
            raise ValueError(f"{name}: expected a file that ends in one of {known}, found {found}")


def _is_plain(part: str) -> bool:
    return not set(part) & set("*?[")


def _no_bytes() -> bytes:
    raise AssertionError("records are read by their own reader")


def _folder(folder: Path, before: str, leave_out: Path | None) -> Iterator[_Candidate]:
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if _is_image(path.name) and path.is_file() and leave_out not in (root / relative).parents:
            yield _Candidate(before + relative.as_posix(), str(path), _kind(path.name), path.read_bytes)


def _zip(path: Path) -> Iterator[_Candidate]:
    try:
        archive = zipfile.ZipFile(path)  # stays open: its members are read later, by several threads
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{path}: the zip is damaged: {error}; fetch it anew") from error
    for name in sorted({info.filename for info in archive.infolist() if not info.is_dir()}):
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise ValueError(f"{path}: expected names below the zip's root, found {name!r}; do not trust this zip")
        if _is_image(name) and not name.startswith("__MACOSX"):
            yield _Candidate(name, f"{path}:{name}", _kind(name), partial(_read_member, archive, name))


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    # No member is read beyond what its header says.
    if (size := archive.getinfo(name).file_size) > _MOST_MEMBER_BYTES:
        raise ValueError(f"expected at most {_MOST_MEMBER_BYTES >> 30} GiB, found {size / 2**30:.1f}; unpack the zip")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise ValueError(f"the zip is damaged there: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"the zip cannot be read there: {error}") from error  # it is encrypted


def _is_image(name: str) -> bool:
    return not PurePosixPath(name).name.startswith(".") and name.lower().endswith((*PICTURES, *SCANS))


def _kind(name: str) -> Kind:
    return "scan" if name.lower().endswith(SCANS) else "picture"


def _names(paths: list[str]) -> list[str]:
    """Returns the paths without their extensions, but where two would be the same; a number tells equal paths apart."""
    bare, whole = Counter(map(without_extension, paths)), Counter(paths)
    taken: dict[str, None] = {}
    for path in paths:
        short = without_extension(path)
        # Files of one name and several extensions keep them.
        name = path if whole[path] == 1 < bare[short] else short
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        taken[name if name not in taken else next(other for other in numbered if other not in taken)] = None
    return list(taken)


def without_extension(path: str) -> str:
    """Returns a path without a picture's or a scan's extension."""
    ending = next((ending for ending in (*reversed(SCANS), *PICTURES) if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)]

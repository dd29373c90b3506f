"""Which files are meant: pictures, scans and records, from paths, folders, zips and patterns."""

import itertools
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SCANS = (".nii", ".nii.gz")

Kind = Literal["picture", "scan", "records"]


class Source(NamedTuple):
    """A file that holds one image or several.

    Attributes:
      name: of what is written for it: its path below the folder, zip or pattern that was named, with slashes, without
        extension; no two sources have the same.
      where: its path as an error tells it; of a zip's members the zip's, a colon and theirs.
      kind: what it is.
      read: returns its bytes. Raises ValueError or OSError where it cannot be read.
    """

    name: str
    where: str
    kind: Kind
    read: Callable[[], bytes]


def find_sources(inputs: Iterable[str]) -> list[Source]:
    """Returns all that is named, each file once, in the order of the names, folders and zips sorted.

    Args:
      inputs: paths of files, folders, zips and records folders, or patterns such as 'scans/*.png'. In folders and zips
        what has another extension than a picture's or a scan's is passed over; a file that is named itself must have
        one.

    Raises:
      ValueError: nothing is there, or it is no picture, scan, folder, zip or records.
    """
    found = []
    for name in inputs:
        of_name = list(_expand(name))
        if not of_name:
            raise ValueError(f"{name}: expected pictures or scans ({', '.join((*PICTURES, *SCANS))}), found none")
        found += of_name
    unique = list({where: (relative, where, read) for relative, where, read in found}.values())
    return [
        Source(name, where, _kind(where), read)
        for name, (_, where, read) in zip(_names([relative for relative, _, _ in unique]), unique, strict=True)
    ]


def _expand(name: str) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Yields (path below what was named, path as an error tells it, reader)."""
    path = Path(name)
    # A path may hold brackets: it is a pattern only where nothing is called like that.
    matches = [path] if path.exists() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not matches:
        raise ValueError(f"{name}: expected a picture, a scan, a folder, a zip or a pattern, found nothing there")
    for match in matches:
        if (match / "info.json").is_file():
            yield match.name, str(match), _no_bytes
        elif match.is_dir():
            yield from _folder(match)
        elif match.suffix.lower() == ".zip":
            yield from _zip(match)
        elif _is_image(match.name):
            yield match.name, str(match), match.read_bytes
        elif matches == [path]:
            known = ", ".join((*PICTURES, *SCANS, ".zip"))
            found = match.suffix or "no ending"
            raise ValueError(f"{name}: expected a file that ends in one of {known}, found {found}")


def _no_bytes() -> bytes:
    raise AssertionError("records are read by their own reader")


def _folder(folder: Path) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _is_image(path.name):
            yield path.relative_to(folder).as_posix(), str(path), path.read_bytes


def _zip(path: Path) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    try:
        archive = zipfile.ZipFile(path)  # stays open: its members are read later, by several threads
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path}: the zip is damaged: {error}; fetch it anew") from error
    for name in sorted(info.filename for info in archive.infolist() if not info.is_dir()):
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise ValueError(f"{path}: expected names below the zip's root, found {name!r}; do not trust this zip")
        if _is_image(name) and not name.startswith("__MACOSX"):
            yield name, f"{path}:{name}", partial(_read_member, archive, name)


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"the zip is damaged there: {error}") from error


def _is_image(name: str) -> bool:
    return not Path(name).name.startswith(".") and name.lower().endswith((*PICTURES, *SCANS))


def _kind(where: str) -> Kind:
    if where.lower().endswith(SCANS):
        return "scan"
    return "picture" if where.lower().endswith(PICTURES) else "records"


def _names(paths: list[str]) -> list[str]:
    """Returns the paths without their extensions, but where two would be the same; a number tells equal paths apart."""
    bare = Counter(map(_without_extension, paths))
    taken: dict[str, None] = {}
    for path in paths:
        short = _without_extension(path)
        name = short if bare[short] == 1 else path
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        taken[name if name not in taken else next(other for other in numbered if other not in taken)] = None
    return list(taken)


def _without_extension(path: str) -> str:
    ending = next((ending for ending in (*reversed(SCANS), *PICTURES) if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)]

"""The web page: its files under / and /page/, and the run's examples that it shows."""

import mimetypes
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from serving.errors import RefusedError
from serving.schema import ErrorAnswer, Example

EXAMPLES_PATH = "/v1/examples"

_FOLDER = Path(__file__).parent / "page"
_FILES = {
    "/" if path.name == "index.html" else f"/page/{path.relative_to(_FOLDER).as_posix()}": path
    for path in sorted(_FOLDER.rglob("*.*"))
}

PAGE_PATHS = frozenset(_FILES)
"""Of the page's files: the same for everybody, so that they need no key."""

_HEADERS = {
    # NiiVue paints with fonts that it carries as data: URLs, and reads them with fetch().
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_KEPT = {"Cache-Control": "public, max-age=86400"}
"""Of files whose names say their version."""

_RANKS = ("best", "median", "worst")
_EXAMPLES = 3
"""Of each rank."""


class ExampleFiles(NamedTuple):
    """An example, and where its files are.

    Attributes:
      example: what is told of it.
      picture: PNG of image, truth, prediction and difference side by side.
      image: PNG of the image as the model sees it; None: there is none.
    """

    example: Example
    picture: Path
    image: Path | None


def find_examples(run: Path) -> list[ExampleFiles]:
    """Returns what the newest evaluation of a run has drawn: some of the best, the median and the worst images."""
    metrics = (run / "eval").glob("*/metrics.json")
    ranked = [path for path in metrics if any(path.parent.glob("result-image/best-[0-9]*-*.png"))]
    if not ranked:
        return []
    folder = max(ranked, key=lambda path: path.stat().st_mtime).parent
    found = []
    for rank in _RANKS:
        for picture in sorted(folder.glob(f"result-image/{rank}-[0-9]*-*.png"))[:_EXAMPLES]:
            _, number, name = picture.stem.split("-", 2)
            image = folder / "examples" / picture.name
            example = Example(name=name, rank=f"{rank}-{number}", evaluation=folder.name, image=image.is_file())
            found.append(ExampleFiles(example, picture, image if example.image else None))
    return found


def add_page(app: FastAPI) -> None:
    """Adds the page. Its files are looked up in a table: no path of a client's leads anywhere."""
    for path, file in _FILES.items():
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = _HEADERS | (_KEPT if file.parent.name == "vendor" else {})
        app.get(path, include_in_schema=False)(_sender(file, kind, headers))


def add_examples(app: FastAPI, examples: list[ExampleFiles]) -> None:
    """Adds the pictures of examples, by their place in the list."""
    content: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    } | {status: {"model": ErrorAnswer} for status in (401, 404, 421, 422)}

    @app.get(EXAMPLES_PATH + "/{number}/{part}", response_class=Response, responses=content)
    async def send_example(number: int, part: Literal["picture", "image"]) -> Response:
        """An example: the picture of what was found in it, or the image itself."""
        file = getattr(examples[number], part) if 0 <= number < len(examples) else None
        if file is None or not file.is_file():
            raise RefusedError(404, f"expected one of {len(examples)} examples that has this, found another")
        return FileResponse(file, media_type="image/png")


def _sender(file: Path, kind: str, headers: dict[str, str]):
    async def send() -> Response:
        return FileResponse(file, media_type=kind, headers=headers)

    return send

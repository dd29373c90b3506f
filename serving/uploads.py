"""Bodies of requests → the bytes of one file. Nothing of what a client calls the file, or its type, is used."""

import base64
import binascii
from collections import Counter
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serving.errors import RefusedError
from serving.schema import JsonUpload

_FIELD = "file"


def check_query(request: Request, known: dict[str, int]) -> None:
    """Raises RefusedError (422) for parameters that are not known: wrong ones would give another mask than was meant.

    Args:
      request: whose address has them.
      known: how often each may come, by name.
    """
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise RefusedError(422, f"expected parameters among {', '.join(known)}, found {name[:40]!r}")
        if count > known[name]:
            raise RefusedError(422, f"{name}: expected it {known[name]} times at most, found {count}")


async def read_body(request: Request, most: int, hold: Callable[[int], None]) -> bytes | UploadFile:
    """Returns the JSON text of a request, or the file of its form, as it came.

    Args:
      request: whose body nobody has read.
      most: bytes of a body, of what comes, whatever its header says.
      hold: gets the bytes of JSON that memory holds, as they come; forms wait on the disk.

    Raises:
      RefusedError: 413, it is too large; 415, it is of another type; 400 or 422, there is no file in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > most:
        raise _too_large(most)
    if kind == "application/json":
        chunks = []
        async for chunk in _counted(request, most):
            hold(2 * len(chunk))  # the text, and what it decodes to
            chunks.append(chunk)
        return b"".join(chunks)
    if kind != "multipart/form-data":
        raise RefusedError(
            415,
            "content-type: expected multipart/form-data (curl -F file=@picture.png) or application/json, found another",
        )
    try:
        form = await MultiPartParser(request.headers, _counted(request, most), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise RefusedError(400, f"the form cannot be read: {error.message}") from error
    if others := {name for name in form if name != _FIELD}:
        await form.close()
        raise RefusedError(
            422,
            f"expected the file alone, in the form's field {_FIELD!r}, found {min(others)[:40]!r}; "
            "parameters stand in the address, ?threshold=0.4",
        )
    found = form.getlist(_FIELD)
    if len(found) != 1 or not isinstance(found[0], UploadFile):
        await form.close()
        raise RefusedError(422, f"expected one file in the form's field {_FIELD!r}, found none there")
    return found[0]


async def take_file(body: bytes | UploadFile) -> bytes | UploadFile:
    """Returns the bytes of a form's file, and closes it; JSON as it is."""
    if not isinstance(body, UploadFile):
        return body
    try:
        return await body.read()
    finally:
        await body.close()


def decode_json(body: bytes) -> bytes:
    """Returns the file in a JSON body.

    Raises:
      RefusedError: 422, it is no `JsonUpload`.
    """
    try:
        upload = JsonUpload.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:40]
        raise RefusedError(422, f"the JSON cannot be read: {where + ': ' if where else ''}{first['msg']}") from error
    try:
        return base64.b64decode(upload.file, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(422, f"file: expected base64, found something else: {error}") from error


async def _counted(request: Request, most: int) -> AsyncIterator[bytes]:
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > most:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> RefusedError:
    # What was not read of it is in the way of a next request.
    return RefusedError(413, f"expected a body of at most {most} bytes, found more", {"Connection": "close"})

"""The routes."""

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.answers import choose_answer
from serving.description import describe_model
from serving.errors import RefusedError
from serving.guard import Guard, error_response
from serving.schema import Answer, AnswerKind, ErrorAnswer, JsonUpload, ModelAnswer, Shape, State
from serving.service import Service, Wish
from serving.uploads import check_query, read_body, take_file
from serving.web import PAGE_PATHS, add_examples, add_page, find_examples

_PREDICT, _MODEL, _METRICS, _OPENAPI = "/v1/predict", "/v1/model", "/metrics", "/openapi.json"
_PARAMETERS = {"answer": 1, "threshold": 1, "class": 64, "shape": 1}
_HEALTH, _READY = "/healthz", "/readyz"
_COUNTED = frozenset({"/", _PREDICT, _MODEL, _METRICS, _OPENAPI, _HEALTH, _READY})
# Who watches over the server has no key, nor has who opens the page, which asks for it. They tell nothing.
_OPEN = PAGE_PATHS | {_HEALTH, _READY}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BINARY["schema"]}}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": JsonUpload.model_json_schema()},
    },
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in statuses}


def make_app(service: Service, run: Path, key: str | None) -> FastAPI:
    """Returns the application. Its lifespan starts the service, and closes it when all is answered.

    Args:
      service: that predicts; not started.
      run: RUN folder.
      key: that clients need; None: none.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_):
        service.start()
        yield
        service.admission.stop()
        await asyncio.to_thread(service.close)

    # FastAPI's pages of the documentation load scripts from other hosts.
    app = FastAPI(title="Segmentation", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, key=key, metrics=service.metrics, paths=_COUNTED, open_paths=_OPEN)
    _answer_errors(app)
    examples = find_examples(run)
    _add_states(app, service)
    _add_model(app, describe_model(service, run, [example for example, *_ in examples]))
    _add_metrics(app, service)
    _add_predict(app, service)
    add_examples(app, examples)
    add_page(app)
    return app


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get(_HEALTH, response_model=State, responses=_errors(503))
    async def is_healthy() -> State:
        """Whether the process works."""
        if service.batcher.ready.done() and not service.batcher.is_alive:
            raise RefusedError(503, "the model failed; see the server's output")
        return State(status="ok")

    @app.get(_READY, response_model=State, responses=_errors(503))
    async def is_ready() -> State:
        """Whether predictions are answered: the model is warm, and the server does not stop."""
        service.check_ready()
        return State(status="ok")


def _add_model(app: FastAPI, model: ModelAnswer) -> None:
    @app.get(_MODEL, response_model=ModelAnswer, responses=_errors(401, 421))
    async def tell_model() -> ModelAnswer:
        """What is served."""
        return model


def _add_metrics(app: FastAPI, service: Service) -> None:
    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get(_METRICS, response_class=Response, responses=text | _errors(401, 421))
    async def tell_metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_predict(app: FastAPI, service: Service) -> None:
    content = {"image/png": _BINARY, "application/gzip": _BINARY}

    @app.post(
        _PREDICT,
        response_class=Response,
        responses={200: {"model": Answer, "content": content, "description": "By Accept."}}
        | _errors(400, 401, 406, 408, 413, 415, 421, 422, 500, 503, 504),
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(
        request: Request,
        accept: Annotated[
            str, Header(description="application/json, image/png: the mask, image/png;profile=overlay")
        ] = "",
        answer: Annotated[AnswerKind | None, Query(description="In place of Accept.")] = None,
        threshold: Annotated[
            float | None, Query(gt=0, lt=1, description="In place of the run's, with no steps behind it.")
        ] = None,
        classes: Annotated[list[str] | None, Query(alias="class", description="Only these.", max_length=64)] = None,
        shape: Annotated[Shape, Query(description="Of the objects in JSON.")] = "polygon",
    ) -> Response:
        """The mask of a picture (PNG, JPEG, TIFF, BMP) or a scan (NIfTI), or what is in it."""
        service.check_ready()
        check_query(request, _PARAMETERS)
        once = list(dict.fromkeys(classes)) if classes else None
        wish = Wish(answer or choose_answer(accept), threshold, once, shape)
        service.check_wish(wish)
        limit, most = service.config.timeout_s, service.config.max_body_mib * 2**20
        with service.admission.text() as hold:
            with service.admission.upload():
                try:
                    async with asyncio.timeout(limit):
                        body = await read_body(request, most, hold)
                except TimeoutError as error:
                    reason = f"expected the request within {limit:g} s, found it not complete"
                    raise RefusedError(408, reason, {"Connection": "close"}) from error
                except ClientDisconnect as error:
                    raise RefusedError(499, "the client has gone") from error
            with service.admission.request():
                data = await take_file(body)
                found, kind = await _in_time(service.predict(data, isinstance(body, bytes), wish), request, limit)
        return Response(found, media_type=kind)


async def _in_time(work: Coroutine, request: Request, limit: float) -> Any:
    """Returns what comes of the work, which is cancelled when nobody waits for it any more.

    Raises:
      RefusedError: 504, it has taken too long; 499, the client has gone.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise RefusedError(499, "the client has gone")
        raise RefusedError(504, f"expected an answer within {limit:g} s, found more to do")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer_errors(app: FastAPI) -> None:
    """Makes every error JSON of one line."""

    @app.exception_handler(RefusedError)
    async def refused(_, error: RefusedError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def http(_, error: HTTPException) -> Response:
        return error_response(RefusedError(error.status_code, str(error.detail).lower(), dict(error.headers or {})))

    @app.exception_handler(RequestValidationError)
    async def wrong(_, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(RefusedError(422, f"{first['loc'][-1]}: {first['msg']}"))

"""Around all routes: who may ask, headers of every answer, counting, and no traceback for anybody."""

import hmac
import logging
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response

from serving.config import is_loopback
from serving.errors import RefusedError
from serving.metrics import Metrics

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_log = logging.getLogger(__name__)


class Guard:
    """An ASGI middleware."""

    def __init__(self, app: Any, key: str | None, metrics: Metrics, paths: frozenset[str], open_paths: frozenset[str]):
        """Takes the application and who may ask.

        Args:
          app: ASGI application.
          key: that clients need; None: none.
          metrics: that count.
          paths: that are counted by name.
          open_paths: that everybody may have, without a key.
        """
        self._app, self._key, self._metrics, self._paths, self._open = app, key, metrics, paths, open_paths

    async def __call__(self, scope, receive, send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def send_with_headers(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except RefusedError as error:
            await error_response(error)(scope, receive, send_with_headers)
        except Exception:
            _log.exception("%s %s", scope["method"], scope["path"][:100])
            if not status:
                failed = RefusedError(500, "the server failed; its output says why")
                await error_response(failed)(scope, receive, send_with_headers)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, status, time.monotonic() - start)

    def _check(self, scope) -> None:
        """Raises RefusedError unless the client may ask."""
        headers = Headers(scope=scope)
        if self._key is None:
            if not is_loopback(_host_name(headers.get("host", ""))):
                # A page from elsewhere, whose name was made to mean this machine, must not read what is here.
                raise RefusedError(421, "host: expected this machine's own name or address, found another")
        elif scope["path"] not in self._open:
            given = headers.get("x-api-key", "")
            kind, _, token = headers.get("authorization", "").partition(" ")
            if not given and kind.lower() == "bearer":
                given = token.strip()
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                wanted = {"WWW-Authenticate": "Bearer", "Connection": "close"}
                raise RefusedError(401, "expected the API key in X-API-Key or as a Bearer token", wanted)


def error_response(error: RefusedError) -> Response:
    """Returns an error as an answer."""
    return JSONResponse({"error": error.reason}, error.status, error.headers)


def _host_name(host: str) -> str:
    """Returns the header Host without its port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.rpartition(":")[0] or host

"""The process: its socket, its signals, and the key."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from serving.config import ServeConfig, check_key

_GRACE_S = 5
"""Seconds that the last answers may take to be sent."""


def read_key(config: ServeConfig, variable: str | None) -> str | None:
    """Returns the API key, see `check_key`.

    Args:
      config: may name its file.
      variable: what the environment has.

    Raises:
      ValueError: it is no key, or lacks where one is needed, or its file cannot be read.
    """
    key = variable
    if config.api_key_file is not None:
        try:
            key = Path(config.api_key_file).read_text(errors="replace")
        except OSError as error:
            raise ValueError(f"api_key_file: {config.api_key_file} cannot be read: {error.strerror}") from error
    return check_key(key, config.host)


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that has the port, but does not listen yet.

    Raises:
      ValueError: it is taken, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"expected to listen on {host}:{port}, found: {reason}; choose another --port") from error
    return opened


def serve(
    app, opened: socket.socket, config: ServeConfig, started: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Answers until SIGTERM or SIGINT; what was taken is finished. A second SIGINT ends at once.

    Args:
      app: ASGI application.
      opened: a socket.
      config: settings.
      started: called when clients can connect.
      stop: called in the event loop's thread at the first signal.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            started()

        def handle_exit(self, sig: int, frame) -> None:
            stop()
            super().handle_exit(sig, frame)

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Uvicorn's own raises the signals again when all is done, and a clean end would look like a failure.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.handle_exit)
            yield

    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=int(2 * config.timeout_s) + _GRACE_S,
    )
    server = Server(settings)
    asyncio.run(server.serve(sockets=[opened]))

"""Requests that are not answered as they wished."""


class RefusedError(Exception):
    """Tells the client why, in one line."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None):
        """Takes an HTTP status, the reason, and headers of the answer."""
        super().__init__(reason)
        self.status, self.reason, self.headers = status, " ".join(reason.split()), headers or {}


def busy(reason: str, seconds: int = 1) -> RefusedError:
    """Returns a 503 that says when to come again."""
    return RefusedError(503, reason, {"Retry-After": str(seconds)})

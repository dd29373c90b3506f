"""Settings of the server."""

import ipaddress
from dataclasses import dataclass

from inference.config import PredictConfig

LEAST_KEY = 16
"""Characters of an API key."""


@dataclass(frozen=True)
class ServeConfig(PredictConfig):
    """How a trained run is served."""

    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own (0.0.0.0: all) need an API key."""
    port: int = 8000
    """TCP port; 0: any that is free."""
    api_key_file: str | None = None
    """File with the key that clients must send, in X-API-Key or as a Bearer token. Null: what the environment variable
    SEGMENTATION_API_KEY holds, if there is one."""
    queue: int = 64
    """Requests in hand at a time; more are refused with 503."""
    delay_ms: float = 4.0
    """Milliseconds that an image waits for others to share its batch."""
    timeout_s: float = 60.0
    """Seconds that a request may take to arrive (408), and then to be answered (504)."""
    threads: int = 4
    """Threads that decode and encode."""
    max_body_mib: int = 128
    """Largest body of a request, in MiB."""
    max_pixels: int = 2**25
    """Largest picture, and largest slice of a scan."""
    max_voxels: int = 2**28
    """Largest scan."""
    max_slices: int = 2048
    """Most axial slices of a scan."""
    max_memory_mib: int = 8192
    """What all requests in hand may take together, by an estimate, in MiB; more are refused with 503."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port: expected 0 to 65535, found {self.port}")
        for name in ("queue", "threads", "max_body_mib", "max_pixels", "max_voxels", "max_slices", "max_memory_mib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 <= self.delay_ms < 1000:
            raise ValueError(f"delay_ms: expected 0 to below 1000, found {self.delay_ms}")
        if not 0 < self.timeout_s <= 3600:
            raise ValueError(f"timeout_s: expected more than 0 and at most 3600, found {self.timeout_s}")


def is_loopback(host: str) -> bool:
    """Returns whether a host's name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_key(key: str | None, host: str) -> str | None:
    """Returns the API key without white space around it; None: there is none, and the host needs none.

    Raises:
      ValueError: it lacks, or is too short or no plain text.
    """
    if key is None:
        if not is_loopback(host):
            raise ValueError(
                f"host: expected an API key where other machines can reach the server, found none for {host}; "
                "give --api_key_file"
            )
        return None
    key = key.strip()
    if len(key) < LEAST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(
            f"api_key: expected at least {LEAST_KEY} ASCII characters without spaces, found {len(key)} characters"
        )
    return key

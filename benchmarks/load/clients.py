"""Clients that send the next request as soon as the last one is answered."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import httpx
import numpy as np


class Load(NamedTuple):
    """What clients have seen.

    Attributes:
      rate: answers a second.
      p50, p95, p99: milliseconds within which that many of a hundred requests were answered.
      refused: requests that were answered with 503, and sent again.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    refused: int


def send_load(address: str, files: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Returns what so many clients see that ask for masks of the files, one behind the other.

    Raises:
      ValueError: an answer that is neither a mask nor 503.
    """
    return asyncio.run(_send_load(address, files, clients, seconds))


async def _send_load(address: str, files: Sequence[bytes], clients: int, seconds: float) -> Load:
    latencies: list[float] = []
    refused = 0
    warm, begun, end = asyncio.Barrier(clients + 1), 0.0, 0.0

    async def ask(client: httpx.AsyncClient, data: bytes) -> None:
        """Asks until there is a mask."""
        nonlocal refused
        while (answer := await client.post("/v1/predict?answer=mask", files={"file": data})).status_code == 503:
            refused += 1
            await asyncio.sleep(0.05)
        if answer.status_code != 200:
            raise ValueError(f"expected a mask, found {answer.status_code}: {answer.text[:200]}")

    async def work(number: int) -> None:
        # Without TLS, whose certificates would be read for each client.
        async with httpx.AsyncClient(base_url=address, timeout=120, verify=False) as client:
            await ask(client, files[number % len(files)])  # which opens the connection
            await warm.wait()
            while (start := time.perf_counter()) < end:
                number += 1
                await ask(client, files[number % len(files)])
                latencies.append(time.perf_counter() - start)

    async def begin() -> None:
        nonlocal refused, begun, end
        while warm.n_waiting < clients:
            await asyncio.sleep(0.01)
        refused, begun = 0, time.perf_counter()
        end = begun + seconds
        await warm.wait()

    await asyncio.gather(begin(), *(work(number) for number in range(clients)))
    if not latencies:
        raise ValueError(f"expected answers within {seconds:g} s, found none; take more --seconds")
    rate = len(latencies) / (time.perf_counter() - begun)
    return Load(rate, *(1000 * np.percentile(latencies, share) for share in (50, 95, 99)), refused)

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
    end = time.perf_counter() + seconds

    async def work(number: int) -> None:
        nonlocal refused
        async with httpx.AsyncClient(base_url=address, timeout=120) as client:
            count = number
            while time.perf_counter() < end:
                start = time.perf_counter()
                answer = await client.post("/v1/predict?answer=mask", files={"file": files[count % len(files)]})
                if answer.status_code == 503:
                    refused += 1
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code != 200:
                    raise ValueError(f"expected a mask, found {answer.status_code}: {answer.text[:200]}")
                latencies.append(time.perf_counter() - start)
                count += 1

    start = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(clients)))
    rate = len(latencies) / (time.perf_counter() - start)
    return Load(rate, *(1000 * np.percentile(latencies, share) for share in (50, 95, 99)), refused)

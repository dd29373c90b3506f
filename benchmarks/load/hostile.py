"""Good requests among those of strangers who send what breaks servers. What must hold is in `Report.faults`."""

import asyncio
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np

from imaging.codec import PNG_SIGNATURE

_BOUNDARY = b"boundary-of-a-stranger"
_PREDICT = "/v1/predict?answer=mask"


@dataclass
class Report:
    """What came of all requests.

    Attributes:
      statuses: how often each kind of request had each answer; 0: none was waited for.
      faults: what must not be, in words, with how often: answers of 500, good requests with another mask or none.
    """

    statuses: dict[str, Counter] = field(default_factory=dict)
    faults: Counter = field(default_factory=Counter)

    def count(self, kind: str, status: int) -> None:
        """Counts an answer."""
        self.statuses.setdefault(kind, Counter())[status] += 1


class Stranger:
    """Makes requests that are wrong, each kind by a method of its own; returns the status of the answer."""

    def __init__(self, client: httpx.AsyncClient, address: str, good: bytes, seed: int):
        """Takes a client, the server's address, a PNG that is answered, and a seed."""
        self._client, self._good, self._generator = client, good, np.random.default_rng(seed)
        self._host, self._port = urlsplit(address).hostname, urlsplit(address).port
        pixels = cv2.imdecode(np.frombuffer(good, np.uint8), cv2.IMREAD_COLOR)
        self._jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
        self.kinds = {name.removeprefix("send_"): getattr(self, name) for name in dir(self) if name.startswith("send_")}

    async def send_flipped_bytes(self) -> int:
        """A PNG with some bytes changed anywhere."""
        data = np.frombuffer(self._good, np.uint8).copy()
        places = self._generator.integers(0, len(data), self._generator.integers(1, 20))
        data[places] = self._generator.integers(0, 256, len(places))
        return await self._post(data.tobytes())

    async def send_truncated_jpeg(self) -> int:
        """The beginning of a JPEG."""
        return await self._post(self._jpeg[: self._generator.integers(1, len(self._jpeg))])

    async def send_huge_dimensions(self) -> int:
        """A small PNG that says it is huge, with a right checksum."""
        side = int(self._generator.choice([30_000, 100_000, 2**31 - 1]))
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        return await self._post(PNG_SIGNATURE + chunk + self._good[33:])

    async def send_noise(self) -> int:
        """Bytes of nothing."""
        return await self._post(self._generator.bytes(int(self._generator.integers(0, 5000))))

    async def send_wrong_type(self) -> int:
        """A picture as the body, with a type of its own or a lie."""
        kind = str(self._generator.choice(["image/png", "text/html", "application/json", "multipart/form-data", ""]))
        answer = await self._client.post(_PREDICT, content=self._good, headers={"Content-Type": kind})
        return answer.status_code

    async def send_wrong_json(self) -> int:
        """JSON that holds no picture."""
        bodies = [b"{", b"[]", b'{"file": 1}', b'{"file": "%%%"}', b'{"file": ""}', b'{"file": "QUJD"}', b"[" * 5000]
        body = bodies[self._generator.integers(len(bodies))]
        answer = await self._client.post(_PREDICT, content=body, headers={"Content-Type": "application/json"})
        return answer.status_code

    async def send_wrong_question(self) -> int:
        """A picture, with parameters or a path that are none."""
        path = str(self._generator.choice([
            "/v1/predict?threshold=nan", "/v1/predict?answer=../../etc/passwd", "/v1/predict?class=%00",
            "/v1/predict/../../etc/passwd", "/page/..%2f..%2fserve.py", "/v1/examples/-1/image",
        ]))  # fmt: skip
        answer = await self._client.post(path, files={"file": self._good})
        return answer.status_code

    async def send_several_files(self) -> int:
        """A form with too many fields."""
        fields = [("file", self._good[:50])] * int(self._generator.integers(2, 40))
        return (await self._client.post(_PREDICT, files=fields)).status_code

    async def send_and_leave(self) -> int:
        """A good request, of which a part or all is sent, and whose answer nobody waits for."""
        request = self._request()
        await self._raw(request[: self._generator.integers(1, len(request) + 1)], wait=0.0)
        return 0

    async def send_slowly(self) -> int:
        """A request that never ends, a byte now and then."""
        request = self._request()
        await self._raw(request[: self._generator.integers(1, len(request))], wait=0.3)
        return 0

    def _request(self) -> bytes:
        body = b"--%b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n%b\r\n--%b--\r\n" % (
            _BOUNDARY, self._good, _BOUNDARY,
        )  # fmt: skip
        head = (
            f"POST {_PREDICT} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _raw(self, data: bytes, wait: float) -> None:
        _, writer = await asyncio.open_connection(self._host, self._port)
        try:
            half = len(data) // 2
            writer.write(data[:half])
            await writer.drain()
            await asyncio.sleep(wait)
            writer.write(data[half:])
            await writer.drain()
        except ConnectionError:
            pass  # the server has closed it: that is its right
        finally:
            writer.close()

    async def _post(self, data: bytes) -> int:
        return (await self._client.post(_PREDICT, files={"file": data})).status_code


def send_hostile(
    address: str, files: Sequence[bytes], total: int, seed: int, report, at_once: int = 24, good_share: float = 0.3
) -> Report:
    """Returns what came of so many requests.

    Args:
      address: of the server.
      files: good ones; before all else their masks are asked for, which later ones must equal.
      total: number of requests.
      seed: of what is sent.
      report: called with the number that are done.
      at_once: requests in hand.
      good_share: share of the good ones.
    """
    return asyncio.run(_send_hostile(address, files, total, seed, report, at_once, good_share))


async def _send_hostile(address, files, total, seed, report, at_once, good_share) -> Report:
    result, left = Report(), iter(range(total))
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        wanted = [(await client.post(_PREDICT, files={"file": data})).content for data in files]

        async def ask_well(generator) -> None:
            index = int(generator.integers(len(files)))
            answer = await client.post(_PREDICT, files={"file": files[index]})
            result.count("good", answer.status_code)
            if answer.status_code == 200 and answer.content != wanted[index]:
                result.faults["a good request was answered with another mask"] += 1
            elif answer.status_code not in (200, 503):
                result.faults[f"a good request was answered with {answer.status_code}"] += 1

        async def work(number: int) -> None:
            stranger = Stranger(client, address, files[number % len(files)], seed + number)
            generator = np.random.default_rng((seed, number))
            for done in left:
                report(done + 1)
                if generator.random() < good_share:
                    await ask_well(generator)
                    continue
                kind = str(generator.choice(list(stranger.kinds)))
                status = await stranger.kinds[kind]()
                result.count(kind.replace("_", " "), status)
                if status >= 500 and status != 503:
                    result.faults[f"{kind.replace('_', ' ')}: answered with {status}"] += 1

        await asyncio.gather(*(work(number) for number in range(at_once)))
        if (await client.get("/healthz")).status_code != 200:
            result.faults["the server is not well any more"] += 1
    return result

"""Good requests among those of strangers who send what breaks servers. What must hold is in `Report.faults`."""

import asyncio
import gzip
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import cv2
import httpx
import nibabel as nib
import numpy as np

from imaging.codec import PNG_SIGNATURE

_BOUNDARY = b"boundary-of-a-stranger"
_PREDICT = "/v1/predict?answer=mask"
_PATHS = [
    *("/v1/predict/../../etc/passwd", "/page/..%2f..%2fserve.py", "/page/../../serve.py", "/page//etc/passwd"),
    *("/v1/examples/-1/image", "/v1/examples/0/image", "/v1/examples/99999999999999999999/picture", "/%00", "//"),
]

NOT_WAITED, HUNG_UP = 0, -1
"""In place of a status: nobody waited for the answer; the server closed the connection without one."""

_GOOD_SHARE = 0.3
_RARE = 0.02
"""Beside 1 of the others: a slow request takes as long as the server lets it."""


@dataclass
class Report:
    """What came of all requests.

    Attributes:
      statuses: how often each kind of request had each answer, see `NOT_WAITED` and `HUNG_UP`.
      faults: what must not be, in words, with how often: answers of 500, good requests with another mask or none.
    """

    statuses: dict[str, Counter] = field(default_factory=dict)
    faults: Counter = field(default_factory=Counter)

    def count(self, kind: str, status: int) -> None:
        """Counts an answer."""
        self.statuses.setdefault(kind, Counter())[status] += 1

    def add(self, other: "Report") -> None:
        """Adds what came of other requests."""
        for kind, statuses in other.statuses.items():
            self.statuses.setdefault(kind, Counter()).update(statuses)
        self.faults.update(other.faults)


class Stranger:
    """Makes requests that are wrong, each kind by a method of its own; returns the status of the answer."""

    def __init__(self, client: httpx.AsyncClient, address: str, good: bytes, seed: int):
        """Takes a client, the server's address, a PNG that is answered, and a seed."""
        self._client, self._good, self._generator = client, good, np.random.default_rng(seed)
        self._host, self._port = urlsplit(address).hostname, urlsplit(address).port
        self._host_line = f"Host: {self._host}:{self._port}"
        pixels = cv2.imdecode(np.frombuffer(good, np.uint8), cv2.IMREAD_COLOR)
        self._jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
        scan = nib.Nifti1Image(np.zeros((16, 16, 4), np.int16), np.eye(4)).to_bytes()
        self._others = {ending: cv2.imencode(ending, pixels)[1].tobytes() for ending in (".tif", ".bmp", ".jpg")}
        self._others |= {".nii": scan, ".nii.gz": gzip.compress(scan)}
        self._bomb = gzip.compress(scan + bytes(2**24), 1)
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
        """A picture, with parameters that are none."""
        query = str(self._generator.choice(["threshold=nan", "answer=../../etc/passwd", "class=%00", "shape=x"]))
        return (await self._client.post(f"/v1/predict?{query}", files={"file": self._good})).status_code

    async def send_wrong_path(self) -> int:
        """A question for what is nowhere, by hand: clients would tidy the path up."""
        path = str(self._generator.choice(_PATHS))
        return await self._by_hand(f"GET {path} HTTP/1.1\r\n{self._host_line}\r\n\r\n".encode())

    async def send_damaged_file(self) -> int:
        """A file of another format, with some bytes changed."""
        kinds = list(self._others)
        data = np.frombuffer(self._others[kinds[self._generator.integers(len(kinds))]], np.uint8).copy()
        places = self._generator.integers(0, len(data), self._generator.integers(0, 8))
        data[places] = self._generator.integers(0, 256, len(places))
        return await self._post(data.tobytes())

    async def send_bomb(self) -> int:
        """A small gzip of a NIfTI's header and of far more than it says."""
        return await self._post(self._bomb)

    async def send_several_files(self) -> int:
        """A form with too many fields."""
        fields = [("file", self._good[:50])] * int(self._generator.integers(2, 40))
        return (await self._client.post(_PREDICT, files=fields)).status_code

    async def send_and_leave(self) -> int:
        """A good request, of which a part or all is sent, and whose answer nobody waits for."""
        request = self._request()
        await self._by_hand(request[: self._generator.integers(1, len(request) + 1)], wait=False)
        return NOT_WAITED

    async def send_slowly(self) -> int:
        """A request whose end never comes."""
        request = self._request()
        return await self._by_hand(request[: len(request) // 2])

    def _request(self) -> bytes:
        body = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--%b--\r\n' % (
            _BOUNDARY, self._good, _BOUNDARY,
        )  # fmt: skip
        head = (
            f"POST {_PREDICT} HTTP/1.1\r\n{self._host_line}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _by_hand(self, data: bytes, wait: bool = True) -> int:
        """Sends bytes; returns the status of the answer."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(data)
            await writer.drain()
            if not wait:
                return NOT_WAITED
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    async def _post(self, data: bytes) -> int:
        return (await self._client.post(_PREDICT, files={"file": data})).status_code


def send_hostile(
    address: str, files: Sequence[bytes], total: int, seed: int, report: Callable[[int], None], at_once: int = 24
) -> Report:
    """Returns what came of so many requests, of which three in ten are good ones.

    Args:
      address: of the server.
      files: good ones; before all else their masks are asked for, which later ones must equal.
      total: number of requests.
      seed: of what is sent.
      report: called with the number that are done.
      at_once: requests in hand.

    Raises:
      ValueError: the good ones are not answered even before all else.
    """
    return asyncio.run(_send_hostile(address, files, total, seed, report, at_once))


async def _send_hostile(address, files, total, seed, report, at_once) -> Report:
    result, left = Report(), iter(range(total))
    # A connection must not be used again at the moment when the server closes it.
    limits = httpx.Limits(keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:

        async def ask(index: int) -> httpx.Response:
            return await client.post(_PREDICT, files={"file": files[index]})

        wanted = [await ask(index) for index in range(len(files))]
        if any(answer.status_code != 200 for answer in wanted):
            raise ValueError(f"expected masks, found {[answer.status_code for answer in wanted]}")

        async def ask_well(index: int) -> None:
            answer = await ask(index)
            result.count("good", answer.status_code)
            if answer.status_code != 200:
                result.faults[f"a good request was answered with {answer.status_code}"] += 1
            elif answer.content != wanted[index].content:
                result.faults["a good request was answered with another mask"] += 1

        async def disturb(stranger: Stranger, name: str) -> None:
            kind = name.replace("_", " ")
            try:
                status = await stranger.kinds[name]()
            except (OSError, IndexError, httpx.TransportError):
                status = HUNG_UP
            result.count(kind, status)
            if status >= 500 and status != 503:
                result.faults[f"{kind}: answered with {status}"] += 1

        async def work(number: int) -> None:
            stranger = Stranger(client, address, files[number % len(files)], seed + number)
            generator = np.random.default_rng((seed, number))
            shares = np.array([_RARE if name == "slowly" else 1.0 for name in stranger.kinds])
            for done in left:
                report(done + 1)
                if generator.random() < _GOOD_SHARE:
                    await ask_well(int(generator.integers(len(files))))
                else:
                    await disturb(stranger, str(generator.choice(list(stranger.kinds), p=shares / shares.sum())))

        await asyncio.gather(*(work(number) for number in range(at_once)))
        for index in range(len(files)):
            await ask_well(index)
        await _check_metrics(client, result)
    return result


async def _check_metrics(client: httpx.AsyncClient, result: Report) -> None:
    """Looks for what strangers that did not wait have not seen: work that is never given up, answers of 500."""
    for _ in range(50):
        lines = (await client.get("/metrics")).text.splitlines()
        if "segmentation_requests_in_hand 0.0" in lines and "segmentation_queue_length 0.0" in lines:
            break
        await asyncio.sleep(0.1)
    else:
        result.faults["requests are in hand though nobody waits"] += 1
    failed = [line for line in lines if line.startswith("segmentation_requests_total") and 'status="5' in line]
    for line in failed:
        if 'status="503"' not in line:
            result.faults[f"the server counts {line}"] += 1

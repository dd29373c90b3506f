"""Too much, too slow, too many, and files that were made to do harm."""

import asyncio
import base64
import gzip
import io
import pickle
import struct
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.codec import decode_mask, encode_jpeg
from tests.serving.served import AFFINE, client_of, picture, png, post, scan

GONE = {"type": "http.disconnect"}


@pytest.fixture(scope="module")
def small():
    limits = {"max_body_mib": 1, "max_pixels": 4000, "max_voxels": 4000, "queue": 2, "timeout_s": 1.5, "threads": 2}
    with client_of("small", **limits) as (client, service):
        yield client, service


@pytest.fixture(scope="module")
def ct():
    with client_of("scan", max_voxels=4000, max_slices=4, max_pixels=600) as (client, service):
        yield client, service


@pytest.fixture(autouse=True)
def answers_still(request):
    """After each test, whatever was sent, a good request is answered, and nothing is left in hand."""
    yield
    names = [name for name in ("small", "ct") if name in request.fixturenames]
    for client, service in map(request.getfixturevalue, names):
        good = post(client, scan(2) if service.predictor.trained.channels == 1 else png())
        assert good.status_code == 200, good.text
        admission = service.admission
        assert (admission.requests, admission.uploads, admission.memory) == (0, 0, 0)


def check(response, status: int, words: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert words in error
    assert "\n" not in error
    assert not any(word in error for word in ("Traceback", "/serving/", "x.html"))


def png_claiming(height: int, width: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    chunks = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(pages: int, **settings) -> bytes:
    stream = io.BytesIO()
    images = [Image.fromarray(picture(20, 20, seed)) for seed in range(pages)]
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:], **settings)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", png())
    return stream.getvalue()


class Harm:
    def __reduce__(self):
        return (print, ("unpickled",))


DAMAGED = {
    "empty": b"",
    "random": np.random.default_rng(0).bytes(3000),
    "text": b"<svg onload=alert(1)>{{7*7}}</svg>",
    "zip": zipped(),
    "pickle": pickle.dumps(Harm()),
    "gif": b"GIF89a" + bytes(100),
    "half a PNG": png()[: len(png()) // 2],
    "PNG signature": b"\x89PNG\r\n\x1a\n",
    "PNG with a wrong checksum": png()[:40] + b"\xff" + png()[41:],
    "PNG without pixels": png_claiming(20, 20),
    "PNG of no size": png_claiming(0, 20),
    "half a JPEG": encode_jpeg(picture(), 90)[:300],
    "JPEG signature": b"\xff\xd8\xff",
    "half a TIFF": tiff(1)[:200],
    "TIFF of two pages": tiff(2),
    "TIFF signature": b"II*\0",
    "TIFF that points beyond itself": b"II*\0" + struct.pack("<I", 2**31),
    "BMP signature": b"BM" + bytes(60),
    "scan for a model of pictures": scan(1),
    "gzip of nothing": gzip.compress(b""),
    "gzip of a picture": gzip.compress(png()),
    "half a gzip": gzip.compress(scan(1))[:100],
    "half a NIfTI": scan(1)[:400],
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_none_is_the_clients_fault(small, data, capfd):
    response = post(small[0], data)
    assert response.status_code == 422
    check(response, 422)
    assert "unpickled" not in capfd.readouterr().out


def test_random_damage_is_never_the_servers_fault(small):
    generator = np.random.default_rng(1)
    for original in (png(), encode_jpeg(picture(), 90), tiff(1), gzip.compress(scan(1)), scan(1)):
        for _ in range(8):
            data = bytearray(original)
            for place in generator.integers(0, len(data), 4):
                data[place] = generator.integers(256)
            assert post(small[0], bytes(data)).status_code in (200, 413, 422)


@pytest.mark.parametrize(
    "data",
    [png_claiming(2**31 - 1, 2**31 - 1), png_claiming(100, 41), png(height=100, width=41), gzip.compress(bytes(10**7))],
    ids=["most that a PNG can claim", "a little more", "and it is true", "a gzip bomb"],
)
def test_pixels_are_counted_before_they_are_made(small, data, monkeypatch):
    monkeypatch.setattr("imaging.codec.cv2.imdecode", None)  # would fail
    response = post(small[0], data)
    if data.startswith(b"\x89PNG"):
        check(response, 413, "expected at most 4000 pixels, found")
    else:
        check(response, 422, "expected a NIfTI file")
    monkeypatch.undo()


def test_tiles_and_sizes_of_a_tiff_are_counted(small):
    data = bytearray(tiff(1))
    at = data.index(struct.pack("<HHII", 257, 4, 1, 20)) + 8  # its height, which OpenCV would believe
    data[at : at + 4] = struct.pack("<I", 60000)
    check(post(small[0], bytes(data)), 413, "found 60000x20")


def test_a_bomb_behind_a_good_header_is_not_taken_apart(ct):
    bomb = gzip.compress(scan(2) + bytes(50_000_000), compresslevel=1)
    check(post(ct[0], bomb), 413, "found more")


def test_voxels_and_slices_are_limited(ct):
    check(post(ct[0], scan(9)), 413, "expected at most 4000 voxels, found 4320")
    check(post(ct[0], scan(5)), 413, "expected at most 4 slices, found 5")
    flat = nib.Nifti1Image(np.zeros((30, 21, 1), np.int16), AFFINE).to_bytes()
    check(post(ct[0], flat), 413, "expected at most 600 pixels, found 21x30")
    check(post(ct[0], png(height=9)), 422, "expected a CT scan")


def test_a_nifti_that_claims_more_than_there_is_gets_nothing(ct):
    for axes, lengths in ((3, (24, 20, 4)), (3, (0, 20, 3)), (3, (-5, 20, 3)), (9, (24, 20, 3))):
        data = bytearray(scan(2))
        data[40:48] = struct.pack("<4h", axes, *lengths)
        check(post(ct[0], bytes(data)), 422, "the NIfTI cannot be read")


def test_bodies_are_counted_as_they_come(small):
    client, _ = small
    check(post(client, png() + bytes(2**20)), 413, "at most 1048576 bytes")
    sent = []

    def endless():
        while True:
            sent.append(1)
            assert len(sent) < 1000
            yield b"0" * 65536

    # In pieces, so that no header says how much it is; the test client asks for all pieces one by one.
    headers = {"Content-Type": "application/json"}
    pieces = (piece for piece, _ in zip(endless(), range(40), strict=False))
    check(client.post("/v1/predict", content=pieces, headers=headers), 413, "at most 1048576 bytes")


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"content": png(), "headers": {"Content-Type": "image/png"}}, 415, "multipart/form-data"),
        ({"content": b"", "headers": {}}, 415, "content-type"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "the JSON cannot be read"),
        ({"content": b"[" * 50000, "headers": {"Content-Type": "application/json"}}, 422, "the JSON cannot be read"),
        ({"json": {"file": "a.png"}}, 422, "expected base64"),
        ({"json": {"file": "../../etc/passwd"}}, 422, "expected base64"),
        ({"json": {"path": "a.png"}}, 422, "file: Field required"),
        ({"json": {"file": "AAAA", "path": "a.png"}}, 422, "path: Extra inputs"),
        ({"json": {"file": base64.b64encode(b"no image").decode()}}, 422, "found 8 bytes of none of them"),
        ({"files": {"image": png()}}, 422, "in the form's field 'file'"),
        ({"files": [("file", png()), ("file", png())]}, 400, "the form cannot be read"),
        ({"data": {"file": "text"}, "files": {"other": b"x"}}, 422, "in the form's field 'file'"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "cannot be read"),
        ({"files": {"file": png()}, "params": {"threshold": "1"}}, 422, "threshold: Input should be less than 1"),
        ({"files": {"file": png()}, "params": {"threshold": "nan"}}, 422, "threshold: "),
        ({"files": {"file": png()}, "params": {"class": "cat"}}, 422, "class: expected some of blob"),
        ({"files": {"file": png()}, "params": {"answer": "html"}}, 422, "answer: Input should be"),
        ({"files": {"file": png()}, "headers": {"Accept": "text/html"}}, 406, "expected application/json"),
    ],
)
def test_requests_that_are_not_understood_are_told_why(small, settings, status, words):
    check(small[0].post("/v1/predict", **settings), status, words)


def hold(service, seconds: float = 10):
    """Makes the model wait; returns (event that it waits, event that lets it go on, what undoes it)."""
    entered, go, model = threading.Event(), threading.Event(), service.batcher._predict

    def slow(parts):
        entered.set()
        go.wait(seconds)
        return model(parts)

    service.batcher._predict = slow

    def undo():
        go.set()
        service.batcher._predict = model

    return entered, go, undo


def test_a_full_queue_says_so_at_once(small):
    client, service = small
    entered, go, undo = hold(service)
    try:
        with ThreadPoolExecutor(2) as pool:
            taken = [pool.submit(post, client, png(), "image/png") for _ in range(2)]
            assert entered.wait(10)
            while service.admission.requests < 2:
                time.sleep(0.01)
            start = time.monotonic()
            refused = post(client, png())
            assert time.monotonic() - start < 1
            go.set()
            assert [future.result().status_code for future in taken] == [200, 200]
    finally:
        undo()
    check(refused, 503, "2 requests are in hand")
    assert int(refused.headers["retry-after"]) >= 1


def test_memory_is_bounded_too():
    with client_of("small", max_memory_mib=1) as (client, service):
        assert post(client, png(height=200, width=200)).status_code == 200  # alone, whatever it takes
        service.admission.memory += 1
        check(post(client, png(height=200, width=200)), 503, "memory")


def test_what_takes_too_long_is_dropped(small):
    client, service = small
    entered, _, undo = hold(service)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, client, png())
            assert entered.wait(10)
            second = pool.submit(post, client, png())
            check(first.result(), 504, "within 1.5 s")
            check(second.result(), 504, "within 1.5 s")
        assert service.batcher.waiting == 0
    finally:
        undo()


def send_by_hand(client, receive) -> int:
    """Returns the status that a request gets whose messages come as `receive` lets them."""
    request = httpx.Request("POST", "http://127.0.0.1/v1/predict", files={"file": png()})
    body, statuses = [request.read()], []
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "http_version": "1.1"}
    scope |= {"headers": [(name.lower(), value) for name, value in request.headers.raw], "scheme": "http"}

    async def send(message):
        statuses.append(message.get("status"))

    client.portal.call(client.app, scope | {"root_path": ""}, lambda: receive(body), send)
    return statuses[0]


def test_the_work_of_a_client_that_has_gone_is_dropped(small):
    client, service = small
    entered, _, undo = hold(service)

    async def leave(body):
        if body:
            return {"type": "http.request", "body": body.pop()}
        while not entered.is_set():
            await asyncio.sleep(0.01)
        return GONE

    try:
        assert send_by_hand(client, leave) == 499
        assert service.admission.requests == service.batcher.waiting == 0
    finally:
        undo()


def test_a_client_that_sends_half_a_request_holds_up_nothing(small, caplog):
    async def leave(body):
        return {"type": "http.request", "body": body.pop()[:300], "more_body": True} if body else GONE

    async def stall(body):
        if body:
            return {"type": "http.request", "body": body.pop()[:300], "more_body": True}
        return await asyncio.sleep(60)

    assert send_by_hand(small[0], leave) == 499
    assert send_by_hand(small[0], stall) == 408
    assert not caplog.records


def test_a_request_that_breaks_the_model_breaks_no_other(small):
    client, service = small
    model = service.batcher._predict
    whole, black = png(), png_of(np.zeros((10, 10, 3), np.uint8))

    def picky(parts):
        if any(not part["image"].any() for part in parts):
            raise RuntimeError("secret /path of the server")
        return model(parts)

    wanted = decode_mask(post(client, whole, "image/png").content)
    service.batcher._predict = picky
    try:
        with ThreadPoolExecutor(2) as pool:
            bad, good = pool.submit(post, client, black), pool.submit(post, client, whole, "image/png")
            check(bad.result(), 500, "the server failed")
            assert "secret" not in bad.result().text
            np.testing.assert_array_equal(decode_mask(good.result().content), wanted)
    finally:
        service.batcher._predict = model


def png_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()

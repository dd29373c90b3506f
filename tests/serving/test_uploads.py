"""Files and requests that were made to do harm, and too much of them."""

import base64
import gzip
import io
import pickle
import struct
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.codec import encode_jpeg
from tests.serving.served import AFFINE, check_answers, check_refused, client_of, picture, png, post, scan


@pytest.fixture(scope="module")
def small():
    limits = {"max_body_mib": 1, "max_pixels": 4000, "max_voxels": 4000, "threads": 2}
    with client_of("small", **limits) as (client, service):
        yield client, service


@pytest.fixture(scope="module")
def ct():
    with client_of("scan", max_voxels=4000, max_slices=4, max_pixels=600) as (client, service):
        yield client, service


@pytest.fixture(autouse=True)
def answers_still(request):
    """After each test, whatever was sent, the server answers."""
    yield
    for name in {"small", "ct"} & set(request.fixturenames):
        check_answers(*request.getfixturevalue(name))


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
    check_refused(response, 422)
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
        check_refused(response, 413, "expected at most 4000 pixels, found")
    else:
        check_refused(response, 422, "expected a NIfTI file")
    monkeypatch.undo()


def test_tiles_and_sizes_of_a_tiff_are_counted(small):
    data = bytearray(tiff(1))
    at = data.index(struct.pack("<HHII", 257, 4, 1, 20)) + 8  # its height, which OpenCV would believe
    data[at : at + 4] = struct.pack("<I", 60000)
    check_refused(post(small[0], bytes(data)), 413, "found 60000x20")


def test_a_bomb_behind_a_good_header_is_not_taken_apart(ct):
    bomb = gzip.compress(scan(2) + bytes(50_000_000), compresslevel=1)
    check_refused(post(ct[0], bomb), 413, "found more")


def test_voxels_and_slices_are_limited(ct):
    check_refused(post(ct[0], scan(9)), 413, "expected at most 4000 voxels, found 4320")
    check_refused(post(ct[0], scan(5)), 413, "expected at most 4 slices, found 5")
    flat = nib.Nifti1Image(np.zeros((30, 21, 1), np.int16), AFFINE).to_bytes()
    check_refused(post(ct[0], flat), 413, "expected at most 600 pixels, found 21x30")
    check_refused(post(ct[0], png(height=9)), 422, "expected a CT scan")


def test_a_nifti_that_claims_more_than_there_is_gets_nothing(ct):
    for axes, lengths in ((3, (24, 20, 4)), (3, (0, 20, 3)), (3, (-5, 20, 3)), (9, (24, 20, 3))):
        data = bytearray(scan(2))
        data[40:48] = struct.pack("<4h", axes, *lengths)
        check_refused(post(ct[0], bytes(data)), 422, "the NIfTI cannot be read")


def test_bodies_are_counted_as_they_come(small):
    client, _ = small
    check_refused(post(client, png() + bytes(2**20)), 413, "at most 1048576 bytes")
    sent = []

    def endless():
        while True:
            sent.append(1)
            assert len(sent) < 1000
            yield b"0" * 65536

    # In pieces, so that no header says how much it is; the test client asks for all pieces one by one.
    headers = {"Content-Type": "application/json"}
    pieces = (piece for piece, _ in zip(endless(), range(40), strict=False))
    check_refused(client.post("/v1/predict", content=pieces, headers=headers), 413, "at most 1048576 bytes")


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
        (
            {"files": {"file": png()}, "data": {"threshold": "1"}},
            422,
            "found 'threshold'; parameters stand in the address",
        ),
        ({"files": {"file": png()}, "params": {"treshold": "0.9"}}, 422, "found 'treshold'"),
        (
            {"files": {"file": png()}, "params": {"answer": ["mask", "view"]}},
            422,
            "answer: expected it 1 times at most",
        ),
        ({"files": {"file": png()}, "params": {"threshold": "1"}}, 422, "threshold: Input should be less than 1"),
        ({"files": {"file": png()}, "params": {"threshold": "nan"}}, 422, "threshold: "),
        ({"files": {"file": png()}, "params": {"class": "cat"}}, 422, "class: expected some of blob"),
        ({"files": {"file": png()}, "params": {"answer": "html"}}, 422, "answer: Input should be"),
        ({"files": {"file": png()}, "headers": {"Accept": "text/html"}}, 406, "expected application/json"),
    ],
)
def test_requests_that_are_not_understood_are_told_why(small, settings, status, words):
    check_refused(small[0].post("/v1/predict", **settings), status, words)

"""Too slow, too many, and requests that break the model."""

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from imaging.codec import decode_mask
from tests.serving.served import check_answers, check_refused, client_of, png, post

GONE = {"type": "http.disconnect"}


@pytest.fixture(scope="module")
def small():
    limits = {"queue": 2, "timeout_s": 1.5, "threads": 2}
    with client_of("small", **limits) as (client, service):
        yield client, service


@pytest.fixture(autouse=True)
def answers_still(request):
    """After each test, whatever was sent, the server answers."""
    yield
    if "small" in request.fixturenames:
        check_answers(*request.getfixturevalue("small"))


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
    check_refused(refused, 503, "2 requests are in hand")
    assert int(refused.headers["retry-after"]) >= 1


def test_memory_is_bounded_too():
    with client_of("small", max_memory_mib=1) as (client, service):
        assert post(client, png(height=200, width=200)).status_code == 200  # alone, whatever it takes
        service.admission.memory += 1
        check_refused(post(client, png(height=200, width=200)), 503, "memory")


def test_what_takes_too_long_is_dropped(small):
    client, service = small
    entered, _, undo = hold(service)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, client, png())
            assert entered.wait(10)
            second = pool.submit(post, client, png())
            check_refused(first.result(), 504, "within 1.5 s")
            check_refused(second.result(), 504, "within 1.5 s")
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
            check_refused(bad.result(), 500, "the server failed")
            assert "secret" not in bad.result().text
            np.testing.assert_array_equal(decode_mask(good.result().content), wanted)
    finally:
        service.batcher._predict = model


def png_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()

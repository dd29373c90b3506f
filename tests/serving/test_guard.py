"""Who may ask, and what every answer has."""

import re

import pytest

from serving.answers import choose_answer
from serving.config import ServeConfig, check_key, is_loopback
from serving.errors import RefusedError
from serving.server import open_socket, read_key
from serving.web import PAGE_PATHS
from tests.serving.served import client_of, png, post

KEY = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def locked():
    with client_of("small", key=KEY) as (client, service):
        yield client, service


@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/openapi.json", "/nothing"])
def test_without_the_key_there_is_nothing(locked, path):
    client, _ = locked
    for headers in ({}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": KEY + "0"}, {"Authorization": f"Basic {KEY}"}):
        response = client.get(path, headers=headers)
        assert response.status_code == 401
        assert "API key" in response.json()["error"]
    assert post(client, png()).status_code == 401


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}])
def test_with_the_key_there_is_all(locked, headers):
    client, _ = locked
    assert client.get("/v1/model", headers=headers).status_code == 200
    assert post(client, png(), headers=headers).status_code == 200
    assert client.get("/v1/model", headers=headers | {"Host": "example.org"}).status_code == 200


def test_who_watches_needs_no_key(locked):
    client, _ = locked
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_the_page_is_for_everybody_and_nothing_beside_it(locked):
    client, _ = locked
    assert {"/", "/page/page.js", "/page/page.css"} <= PAGE_PATHS
    for path in PAGE_PATHS:
        response = client.get(path)
        assert response.status_code == 200, path
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy and "unsafe" not in policy
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    for path in ("/page", "/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py", "/page/vendor/"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": KEY}).status_code == 404
    for path in ("/v1/examples/0/image", "/v1/examples/-1/picture"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": KEY}).status_code == 404


def test_a_server_of_this_machine_is_no_other_machines_whatever_its_name():
    with client_of("small") as (client, _):
        for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "127.0.0.1"):
            assert client.get("/v1/model", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example:80", "", "localhost.evil.example"):
            for path in ("/v1/model", "/", "/page/page.js", "/healthz"):
                assert client.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("GET", "/nothing"), ("DELETE", "/v1/predict")])
def test_every_answer_keeps_browsers_from_guessing(locked, method, path):
    response = locked[0].request(method, path, headers={"X-API-Key": KEY, "Origin": "https://example.org"})
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert "server" not in response.headers


def test_there_is_no_page_with_scripts_of_others(locked):
    for path in ("/docs", "/redoc"):
        assert locked[0].get(path, headers={"X-API-Key": KEY}).status_code == 404


def test_ready_is_who_is_warm_and_does_not_stop():
    with client_of("small") as (client, service):
        assert client.get("/readyz").status_code == 200
        service.admission.stop()
        for response in (client.get("/readyz"), post(client, png())):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.json() == {"error": "the server stops; try again later"}
        assert client.get("/healthz").status_code == 200


def test_everything_is_counted():
    with client_of("small") as (client, _):
        for _ in range(3):
            assert post(client, png()).status_code == 200
        post(client, b"nothing")
        for name in ("/a", "/b", "/c"):
            client.get(name)
        text = client.get("/metrics").text

    def value(name: str) -> float:
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])

    assert value('segmentation_requests_total{path="/v1/predict",status="200"}') == 3
    assert value('segmentation_requests_total{path="/v1/predict",status="422"}') == 1
    assert value('segmentation_requests_total{path="other",status="404"}') == 3
    assert value('segmentation_request_seconds_count{path="/v1/predict"}') == 4
    assert value("segmentation_images_total") == value("segmentation_batch_size_sum") == 3
    assert value('segmentation_batch_size_bucket{le="1.0"}') == 3
    assert value("segmentation_queue_length") == value("segmentation_requests_in_hand") == 0


def test_other_machines_need_a_key(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(ServeConfig(host="0.0.0.0", api_key_file=str(file)), None) == KEY
    assert read_key(ServeConfig(host="0.0.0.0"), KEY) == KEY
    assert read_key(ServeConfig(), None) is None
    for host in ("0.0.0.0", "::", "example.org", "192.168.0.1"):
        with pytest.raises(ValueError, match="host: expected an API key"):
            read_key(ServeConfig(host=host), None)
    for bad in ("", "short", "with spaces in its middle", "ü" * 20):
        with pytest.raises(ValueError, match="api_key: expected at least 16"):
            check_key(bad, "127.0.0.1")


def test_loopback_is_only_this_machine():
    for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"):
        assert is_loopback(host)
    for host in ("", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org"):
        assert not is_loopback(host)


def test_a_taken_port_is_told_in_one_line():
    with open_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"expected to listen on 127.0.0.1:{port}, found: Address already in use"):
            open_socket("127.0.0.1", port)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "objects"),
        ("*/*", "objects"),
        ("image/png", "mask"),
        ("IMAGE/PNG ; Profile=overlay", "overlay"),
        ("application/gzip, */*;q=0.1", "mask"),
        ("application/json;q=0.2, image/png;q=0.9", "mask"),
        ("text/html, image/*;q=0.8, */*;q=0.7", "mask"),
        ("application/json;q=x, image/png;q=0.1", "mask"),
    ],
)
def test_the_form_of_an_answer_is_what_is_preferred(accept, wanted):
    assert choose_answer(accept) == wanted


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=nan", ",", "image/jpeg"])
def test_a_form_that_is_not_known_is_refused(accept):
    with pytest.raises(RefusedError) as refused:
        choose_answer(accept)
    assert refused.value.status == 406


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70000), ("queue", 0), ("delay_ms", -1), ("timeout_s", 0), ("max_pixels", 0), ("threshold", 1.5)],
)
def test_settings_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* found {value}"):
        ServeConfig(**{name: value})

"""The server's own description, and what a tool makes of it to break the server."""

import asyncio
import threading
from pathlib import Path

import hypothesis
import pytest
import schemathesis
import uvicorn
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving.app import make_app
from serving.config import ServeConfig
from serving.server import open_socket
from serving.service import Service
from tests.conftest import predictor_of
from tests.serving.served import model_of


@pytest.fixture(scope="module")
def address():
    service = Service(predictor_of(model_of("small")), ServeConfig(batch_size=2))
    app = make_app(service, Path("nowhere"), None)
    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])))
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        service.batcher.ready.result(60)
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_what_is_made_from_the_description_is_answered_as_it_says(address):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    tried = set()
    for operation in (one.ok() for one in schema.get_all_operations()):

        @hypothesis.settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def run(case):
            tried.add(case.path)
            response = case.call(base_url=address)
            assert response.status_code != 500, response.text
            # No description makes images: what it makes is refused, and that is right.
            case.validate_response(response, excluded_checks=[positive_data_acceptance])

        run()
    assert tried == {"/healthz", "/readyz", "/v1/model", "/v1/predict", "/metrics"}

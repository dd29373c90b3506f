"""The server's own description, and what a tool makes of it to break the server."""

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving.served import address_of


@pytest.fixture(scope="module")
def address():
    with address_of("small") as address:
        yield address


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
    assert tried == {"/healthz", "/readyz", "/v1/model", "/v1/predict", "/metrics", "/v1/examples/{number}/{part}"}

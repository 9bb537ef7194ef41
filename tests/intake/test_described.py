"""Whatever a client sends by the OpenAPI description or the GraphQL schema, and whatever it sends against them: nothing
fails, and each answer is as described. `make fuzz` sends a hundred times as much.
"""

from contextlib import suppress

import httpx
import pytest
import schemathesis
from graphql import parse_value
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.intake.house import House

#: Each also of what it should not be: not that all of it is refused, the door takes fields that it does not know.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

ROLES = frozenset({"fraud_ops", "analyst", "auditor", "admin"})


#: Values of an event, as GraphQL writes them.
VALUES = ("5", '"a"', "null", "[]", '{event_id: "a"}', '{event_id: "a", event_time: 1780000000000000, shop_id: "m-1"}')
schemathesis.graphql.scalar("Event", st.sampled_from(VALUES).map(parse_value))


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The door, a source's headers and a person's who may read all."""
    house = House(tmp_path_factory.mktemp("house"))
    house.identity.add_user("all", "correct horse battery", ROLES)
    person = {"Authorization": f"Bearer {house.identity.sign_in('all', 'correct horse battery')}"}
    with house.open_door(rate_limit_per_s=1_000_000, decision_timeout_ms=1) as door:
        yield str(door.base_url), house.source, person
    house.close()


def examples() -> int:
    return max(1, settings().max_examples // 100)


def tried(check, strategy):
    """Run the check on what the strategy makes, the same at each run."""
    plain = settings(max_examples=examples(), phases=[Phase.generate], derandomize=True, database=None)
    with suppress(Unsatisfiable):  # of a route that is sent nothing, nothing can be wrong
        plain(given(strategy)(check))()


def test_openapi(described):
    url, source, person = described
    api = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) > 45
    for operation in operations:
        writes = operation.method == "post" and not operation.path.startswith(("/consumers", "/v1/lists"))
        for mode in GenerationMode:
            headers = source if writes else person
            tried(as_described(headers), operation.as_strategy(generation_mode=mode))


def as_described(headers):
    def check(case):
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

    return check


def test_graphql(described):
    url, source, person = described
    for headers in (source, person):
        api = schemathesis.graphql.from_url(f"{url}/graphql", headers=dict(headers))
        operations = [result.ok() for result in api.get_all_operations()]
        assert len(operations) >= 4
        for operation in operations:
            tried(answered(url, headers), operation.as_strategy())


def answered(url, headers):
    def check(case):
        _check_answer(case, httpx.post(f"{url}/graphql", json={"query": case.body}, headers=headers, timeout=30))

    return check


def _check_answer(case, answer):
    assert answer.status_code in (200, 400, 413, 422), (case.body, answer.text)
    if answer.status_code in (200, 400):
        told = answer.json()
        assert told.keys() <= {"data", "errors"}
        codes = [error["extensions"]["code"] for error in told.get("errors", ())]
        assert "internal" not in codes, (case.body, answer.text)

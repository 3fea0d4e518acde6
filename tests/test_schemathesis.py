"""Whatever is sent to whatever is described, the answer is what the description says."""

from collections import Counter
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from werkzeug.datastructures import Headers

from tests import description
from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import JSON, Answer

Case: TypeAlias = schemathesis.Case[Any]
BOUNDLESS = {f"AUTHSVC_LIMIT_{kind}": "1000000/1" for kind in ("ACCOUNT_ADDRESS", "ADDRESS", "ACCOUNT", "OTP")}
KNOWN = {
    "login": {"username": "user", "password": PASSWORD},
    "loginGet": {"username": "user", "password": PASSWORD},
    "doLogin": {"key": "user", "password": PASSWORD},
    "doLoginGet": {"key": "user", "password": PASSWORD},
    "changePassword": {"password": PASSWORD, "new_password": PASSWORD},
}
"""What opens a session, and changes nothing for the one who comes next."""


class Fuzz:
    """Carries generated requests to the service and counts what came back."""

    def __init__(self, schema: OpenApiSchema) -> None:
        self.schema = schema
        self.answers: Counter[tuple[str, str]] = Counter()

    def validate(self, response: schemathesis.Response, case: Case) -> None:
        """Hold an answer to the description."""
        checks = [
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            self._strictly_described,
        ]
        case.validate_response(response, checks=checks)

    def _strictly_described(self, _context: CheckContext, response: schemathesis.Response, case: Case) -> None:
        headers = Headers([(name, value) for name, values in response.headers.items() for value in values])
        answer = Answer(response.status_code, headers, response.content)
        description.check(case.method, case.path, answer)
        console = case.path.startswith("/AccAdmin/") and answer.body != b""
        # Where the HTTP status does not tell of a defect, the message does.
        assert not console or answer.json["msg"] != "系统繁忙，请稍后再试"
        self.answers[operation_id(case), told(answer)] += 1


def told(answer: Answer) -> str:
    """What an answer says in a word or a sentence."""
    body = answer.json if answer.body and answer.headers["Content-Type"] == JSON else {}
    return str(body.get("msg") if not body.get("data") or "reason" not in body["data"] else body["data"]["reason"])


def operation_id(case: Case) -> str:
    """The name of the operation that is asked for."""
    return str(case.operation.definition.raw["operationId"])


def knowing(case: Case) -> Case:
    """The same request by somebody who knows a password."""
    parameters = KNOWN.get(operation_id(case))
    if parameters and case.method == "GET":
        case.query = {**case.query, **parameters}
    elif parameters:
        case.body = dict(parameters)
        case.media_type = case.media_type or "application/json"
    return case


@pytest.fixture
def fuzz(make_app: MakeApp) -> Fuzz:
    """The service, as it describes itself, and nobody throttled; every second guess is right."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", make_app(None, **BOUNDLESS))
    schema.validate()

    @schema.hook
    def before_generate_case(
        _context: schemathesis.HookContext, strategy: st.SearchStrategy[Case]
    ) -> st.SearchStrategy[Case]:
        return st.tuples(strategy, st.booleans()).map(lambda drawn: knowing(drawn[0]) if drawn[1] else drawn[0])

    return Fuzz(schema)


def test_no_request_gets_an_answer_that_is_not_described(fuzz: Fuzz) -> None:
    """Each operation, with parameters that are in order and with such as are not."""
    for found in fuzz.schema.get_all_operations():
        assert isinstance(found, Ok)

        @given(case=found.ok().as_strategy())
        @settings(max_examples=15)
        def ask(case: Case) -> None:
            fuzz.validate(case.call(), case)

        ask()
    # Where the description itself comes from is not asked.
    every = {operation["operationId"] for operation in description.operations().values()}
    assert {name for name, _ in fuzz.answers} == every - {"openapi"}


def test_no_history_gets_an_answer_that_is_not_described(fuzz: Fuzz) -> None:
    """Tokens are handed from login to whatever takes one, in both dialects and in any order."""

    class Histories(fuzz.schema.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: schemathesis.Response, case: Case, *_: Any, **__: Any) -> None:
            fuzz.validate(response, case)

    Histories.run(
        settings=settings(
            max_examples=30, stateful_step_count=8, suppress_health_check=list(HealthCheck), deadline=None
        )
    )
    alive = {("verify", "None"), ("verify", "Permission is missing."), ("getLoginInfo", "ok")}
    dead = {("verify", "Token is revoked."), ("getLoginInfo", "未登录，请登录后再次访问")}
    assert fuzz.answers.keys() & alive
    assert fuzz.answers.keys() & dead

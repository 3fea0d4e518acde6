"""Whatever is sent to whatever is described, the answer is what the description says."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from schemathesis.checks import not_a_server_error
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
from tests.conftest import Commands, MakeApp
from tests.databases import PASSWORD
from tests.dialects import JSON, Answer
from tests.refusals import DEFECT, PERMISSION_MISSING, TOKEN_REVOKED, as_promised

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
Case: TypeAlias = schemathesis.Case[Any]
BOUNDLESS = {f"AUTHSVC_LIMIT_{kind}": "1000000/1" for kind in ("ACCOUNT_ADDRESS", "ADDRESS", "ACCOUNT", "OTP")}
KNOWN = {
    "login": {"username": "user", "password": PASSWORD},
    "loginGet": {"username": "user", "password": PASSWORD},
    "doLogin": {"key": "user", "password": PASSWORD},
    "doLoginGet": {"key": "user", "password": PASSWORD},
    "changePassword": {"password": PASSWORD, "new_password": PASSWORD},
    "updatePassword": {"oldPwd": PASSWORD, "newPwd": PASSWORD},
    "updatePasswordGet": {"oldPwd": PASSWORD, "newPwd": PASSWORD},
    "endSessions": {"password": PASSWORD, "session": "others"},
    "beginOtp": {"password": PASSWORD},
    "renewRecoveryCodes": {"password": PASSWORD},
    "disableOtp": {"password": PASSWORD},
}
"""What opens a session, and changes nothing for the one who comes next."""
LOGINS = ("login", "loginGet", "doLogin", "doLoginGet")
LINKED = (
    "loginGet", "verify", "logout", "changePassword", "listSessions", "endSessions", "beginOtp", "confirmOtp",
    "renewRecoveryCodes", "disableOtp", "getLoginInfo", "doExit", "updatePassword",
)  # fmt: skip


class Fuzz:
    """Carries generated requests to the service, holds the answers to the description, and counts what they say."""

    def __init__(self, schema: OpenApiSchema, command: Commands) -> None:
        self.command = command
        self.operations = dict(_operations(schema))
        self.cases = {name: operation.as_strategy() for name, operation in self.operations.items()}
        self.answers: Counter[tuple[str, str]] = Counter()

    def ask(self, case: Case) -> Answer:
        """Carry one."""
        response = case.call()
        headers = Headers([(name, value) for name, values in response.headers.items() for value in values])
        answer = Answer(response.status_code, headers, response.content)
        response.content = as_promised(response.content.decode()).encode()
        case.validate_response(response, checks=CHECKS)
        description.check(case.method, case.path, answer)
        # Where the HTTP status does not tell of a defect, the message does.
        assert told(answer) != DEFECT.message
        self.answers[operation_id(case), told(answer)] += 1
        return answer


def _operations(schema: OpenApiSchema) -> Iterator[tuple[str, schemathesis.APIOperation[Any, Any, Any, Any]]]:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        yield str(found.ok().definition.raw["operationId"]), found.ok()


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
    app = make_app(None, **BOUNDLESS)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    schema.validate()

    @schema.hook
    def before_generate_case(
        _context: schemathesis.HookContext, strategy: st.SearchStrategy[Case]
    ) -> st.SearchStrategy[Case]:
        return st.tuples(strategy, st.booleans()).map(lambda drawn: knowing(drawn[0]) if drawn[1] else drawn[0])

    return Fuzz(schema, Commands(app))


def test_no_request_gets_an_answer_that_is_not_described(fuzz: Fuzz) -> None:
    """Each operation, with parameters that are in order and with such as are not."""
    for cases in fuzz.cases.values():

        @given(case=cases)
        @settings(max_examples=15)
        def ask(case: Case) -> None:
            fuzz.ask(case)

        ask()
    # Where the description itself comes from is not asked.
    every = {operation["operationId"] for operation in description.operations().values()}
    assert {name for name, _ in fuzz.answers} == every - {"openapi"}


def test_no_history_gets_an_answer_that_is_not_described(fuzz: Fuzz) -> None:
    """The description's links hand tokens from login to whatever takes one, in both dialects and in any order."""

    class Histories(RuleBasedStateMachine):
        logins = Bundle[dict[str, dict[str, str]]]("logins")

        @initialize(target=logins)
        def know_a_token(self) -> dict[str, dict[str, str]]:
            """Begin with one that is alive."""
            # Hypothesis also draws strings that it finds in the source, and so may have changed the password.
            fuzz.command("account", "password", "user", "--password-stdin", stdin=PASSWORD)
            case = fuzz.operations["login"].Case(body=dict(KNOWN["login"]), media_type=JSON)
            self.first = description.links(case.method, case.path, fuzz.ask(case))
            return self.first

        @rule(target=logins, case=st.sampled_from(LOGINS).flatmap(fuzz.cases.__getitem__))
        def log_in(self, case: Case) -> dict[str, dict[str, str]]:
            """Try to."""
            return description.links(case.method, case.path, fuzz.ask(case))

        @rule(links=logins, case=st.sampled_from(LINKED).flatmap(fuzz.cases.__getitem__))
        def follow(self, links: dict[str, dict[str, str]], case: Case) -> None:
            """Do something with the token, if there is one; it may be dead by now."""
            case.headers.update(links.get(operation_id(case), {}))
            fuzz.ask(case)

        def teardown(self) -> None:
            """End with what became of the first token."""
            fuzz.ask(fuzz.operations["verify"].Case(headers=self.first["verify"]))

    # Not schemathesis' own machine, in which what is drawn depends on what was answered: Hypothesis calls that flaky.
    run_state_machine_as_test(Histories, settings=settings(max_examples=40, stateful_step_count=10))
    alive = {("verify", "None"), ("verify", PERMISSION_MISSING.reason), ("getLoginInfo", "ok")}
    dead = {("verify", TOKEN_REVOKED.reason), ("getLoginInfo", TOKEN_REVOKED.message)}
    assert fuzz.answers.keys() & alive
    assert fuzz.answers.keys() & dead

"""`authsvc/web/openapi.json`: every route, every answer, and nothing else."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import pytest
import schemathesis
from flask import Flask

from authsvc import errors
from authsvc.parts import parts
from authsvc.web import acc_admin, api_auth
from tests.conftest import MakeApp, World
from tests.databases import PASSWORD
from tests.description import DOCUMENT, FILE, conforms, described, evaluated, operations, resolved
from tests.dialects import FORM, JSON, Answer, Auth, Console, Send, in_process
from tests.refusals import (
    ABSENT_PARAMETER,
    ACCOUNT_DISABLED,
    CODE_REQUIRED,
    CROSS_SITE,
    PERMISSION_MISSING,
    THROTTLED,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOO_LARGE,
    UNKNOWN_PATH,
    UNREADABLE_BODY,
    WRONG_CODE,
    WRONG_CREDENTIALS,
    WRONG_METHOD,
    WRONG_TYPE,
)
from tests.servers import Server

COMPONENTS = DOCUMENT["components"]
SCHEMAS = [
    content["schema"]
    for response in COMPONENTS["responses"].values()
    for content in response.get("content", {}).values()
]
"""Of every body that is answered."""


@pytest.fixture
def send(app: Flask) -> Send:
    """Carries requests to the application; every answer must be as described."""
    return described(in_process(app))


# The document


def test_it_is_openapi() -> None:
    """It is valid by the specification's own schema, and its schemas are by JSON Schema's."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for schema in [*COMPONENTS["schemas"].values(), *SCHEMAS]:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_what_it_refers_to_is_there() -> None:
    """No reference leads nowhere, and no component but the answers of undescribed paths and methods lies about."""
    referred = set(re.findall(r'"\$ref": "#/components/(\w+/[\w-]+)"', json.dumps(DOCUMENT)))
    there = {f"{kind}/{name}" for kind in COMPONENTS if kind != "securitySchemes" for name in COMPONENTS[kind]}
    assert there - referred == {f"responses/{name}" for name in ("ConsoleNotFound", "ConsoleMethodNotAllowed")}
    assert referred <= there


def test_it_describes_every_route_and_nothing_else(app: Flask) -> None:
    """Each rule with each of its methods."""
    routes = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    absent, unknown = routes - operations().keys(), operations().keys() - routes
    assert not absent, f"{FILE} does not describe {sorted(absent)}"
    assert not unknown, f"{FILE} describes what is not there: {sorted(unknown)}"


def test_no_answer_has_room_for_more_than_is_described() -> None:
    """Every object in a body is closed; only the document itself, as an answer, is any OpenAPI document."""

    def objects(node: Any) -> Iterator[Any]:
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from objects(inner)
        if isinstance(node, dict) and node.get("type") == "object":
            yield node

    requests = {
        reference["schema"]["$ref"].rpartition("/")[2]
        for operation in operations().values()
        for reference in operation.get("requestBody", {"content": {}})["content"].values()
    }
    answers = [schema for name, schema in COMPONENTS["schemas"].items() if name not in requests] + SCHEMAS
    open_ones = [schema for schema in objects(answers) if schema.get("additionalProperties") is not False]
    assert open_ones == [COMPONENTS["responses"]["Document"]["content"][JSON]["schema"]]


def test_its_examples_are_examples() -> None:
    """Each is what its schema says."""
    for response in COMPONENTS["responses"].values():
        for content in response.get("content", {}).values():
            for schema in (content["schema"], *content["schema"].get("oneOf", [])):
                for example in (*schema.get("enum", []), *resolved(schema).get("examples", [])):
                    conforms(example, content["schema"])
            if "example" in content:
                conforms(content["example"], content["schema"])


@pytest.mark.parametrize(
    ("dialect", "kind"), [(module, kind) for module in (api_auth, acc_admin) for kind in module.REFUSALS]
)
def test_it_has_every_refusal(dialect: Any, kind: type[Exception]) -> None:
    """Each row of the dialects' tables, word for word."""
    arguments: dict[type, tuple[Any, ...]] = {
        errors.BadParameter: ("username", "is longer than 256 characters"),
        errors.AbsentParameter: ("username", "is missing"),
        errors.Throttled: (300,),
        errors.Unavailable: ("nobody listens at its address",),
    }
    body = dialect.refuse(kind(*arguments.get(kind, ())), "/").body
    assert any(_validates(body, schema) for schema in SCHEMAS)
    assert f'"{body["msg"]}"' in json.dumps(DOCUMENT, ensure_ascii=False)


def _validates(body: object, schema: Any) -> bool:
    try:
        conforms(body, schema)
    except jsonschema_rs.ValidationError:
        return False
    return True


# Real answers


def form(dialect: Auth | Console, path: str, token: str | None = None, **parameters: str) -> Answer:
    """Send a form."""
    return dialect.call("POST", path, form=parameters, token=token)


def user(world: World) -> str:
    """A token of `user`."""
    return world.auth.token("user", PASSWORD)


def with_code(world: World, code: str) -> Answer:
    """Log in where two-step verification is on."""
    world.command("account", "otp", "user", "--json")
    return form(world.auth, "/login", username="user", password=PASSWORD, otp_code=code)


def disabled(world: World, dialect: Auth | Console) -> Answer:
    """Log in to a disabled account."""
    world.command("account", "disable", "user")
    return dialect.login("user", PASSWORD)


def throttled(dialect: Auth | Console) -> Answer:
    """Guess until there is no guess left."""
    return [dialect.login("user", "wrong-guess") for _ in range(6)][-1]


def expired(world: World) -> Answer:
    """Use a token that has idled for too long."""
    token = user(world)
    world.clock.advance(3600)
    return world.auth.verify(token)


LARGE, OTHER_SITE = b"x" * 16385, {"Sec-Fetch-Site": "cross-site"}
SITUATIONS: list[tuple[str, str, Callable[[World], Answer]]] = [
    ("login", "user", lambda w: w.auth.login("user", PASSWORD)),
    ("login by query", "user", lambda w: w.auth.call("GET", f"/login?username=user&password={PASSWORD}")),
    ("who am i", "user", lambda w: w.auth.whoami(user(w))),
    ("verify", "user", lambda w: w.auth.verify(user(w))),
    ("verify headers", "", lambda w: w.auth.verify(user(w), method="HEAD")),
    ("verify headers, no token", "", lambda w: w.auth.verify(None, method="HEAD")),
    ("logout", "200", lambda w: w.auth.logout(user(w))),
    ("nothing to log out", "200", lambda w: w.auth.logout(None)),
    ("password", "200", lambda w: form(w.auth, "/password", user(w), password=PASSWORD, new_password="some-new-one")),
    ("console login", "tokenInfo", lambda w: w.console.login("user", PASSWORD)),
    ("console login by query", "ok", lambda w: w.console.call("GET", f"/doLogin?key=2&password={PASSWORD}")),
    ("console info", "perList", lambda w: w.console.info(w.console.token("admin", PASSWORD))),
    ("console exit", "ok", lambda w: w.console.exit(user(w))),
    ("no name", "username is missing", lambda w: form(w.auth, "/login", password=PASSWORD)),
    ("no permission", "permission is empty", lambda w: w.auth.verify(user(w), "")),
    ("short", "must have 8", lambda w: form(w.auth, "/password", user(w), password=PASSWORD, new_password="short")),
    (
        "broken",
        UNREADABLE_BODY.reason,
        lambda w: w.auth.call("POST", "/login", body=b"[", headers={"Content-Type": JSON}),
    ),
    ("wrong password", WRONG_CREDENTIALS.reason, lambda w: w.auth.login("user", "wrong-guess")),
    ("code required", CODE_REQUIRED.reason, lambda w: with_code(w, "")),
    ("wrong code", WRONG_CODE.reason, lambda w: with_code(w, "no code")),
    ("disabled", ACCOUNT_DISABLED.reason, lambda w: disabled(w, w.auth)),
    ("cross-site", CROSS_SITE.reason, lambda w: w.auth.call("POST", "/logout", headers=OTHER_SITE)),
    ("unpermitted", PERMISSION_MISSING.reason, lambda w: w.auth.verify(user(w), "dev")),
    ("no token", TOKEN_MISSING.reason, lambda w: form(w.auth, "/password", password=PASSWORD, new_password="new-one")),
    ("invalid token", TOKEN_INVALID.reason, lambda w: w.auth.logout("no token")),
    ("expired token", TOKEN_EXPIRED.reason, expired),
    ("throttled", THROTTLED.of(300).reason, lambda w: throttled(w.auth)),
    ("unknown path", UNKNOWN_PATH.reason, lambda w: w.auth.call("GET", "/login/")),
    ("unknown method", WRONG_METHOD.reason, lambda w: w.auth.call("DELETE", "/login")),
    ("large body", TOO_LARGE.reason, lambda w: w.auth.call("POST", "/logout", body=LARGE)),
    (
        "text body",
        WRONG_TYPE.reason,
        lambda w: w.auth.call("POST", "/login", body=b"x", headers={"Content-Type": "text/plain"}),
    ),
    ("methods", "", lambda w: w.auth.call("OPTIONS", "/login")),
    ("console no key", ABSENT_PARAMETER.message, lambda w: form(w.console, "/doLogin", password=PASSWORD)),
    ("console wrong password", WRONG_CREDENTIALS.message, lambda w: w.console.login("user", "wrong-guess")),
    ("console disabled", ACCOUNT_DISABLED.message, lambda w: disabled(w, w.console)),
    ("console throttled", THROTTLED.of(300).message, lambda w: throttled(w.console)),
    ("console no token", TOKEN_MISSING.message, lambda w: w.console.info(None)),
    ("console cross-site", CROSS_SITE.message, lambda w: w.console.call("POST", "/doExit", headers=OTHER_SITE)),
    ("console large body", TOO_LARGE.message, lambda w: w.console.call("POST", "/doLogin", body=LARGE)),
    ("console unknown path", UNKNOWN_PATH.message, lambda w: w.console.call("GET", "/doNothing")),
    ("console unknown method", WRONG_METHOD.message, lambda w: w.console.call("PUT", "/doLogin")),
    ("console methods", "", lambda w: w.console.call("OPTIONS", "/doLogin")),
]


@pytest.mark.parametrize(("said", "situation"), [pytest.param(*row[1:], id=row[0]) for row in SITUATIONS])
def test_answers_are_what_it_says(world: World, said: str, situation: Callable[[World], Answer]) -> None:
    """In both dialects: status, headers and body, to the letter."""
    assert said in situation(world).body.decode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs", "/login", "/account"])
def test_what_surrounds_the_dialects_is_as_it_says(send: Send, method: str, path: str) -> None:
    """With and without a body."""
    assert send(method, path, {}, b"").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("setting", "status"), [("on", 200), ("off", 404)])
def test_metrics_are_as_it_says(method: str, setting: str, status: int, make_app: MakeApp) -> None:
    """On and off."""
    send = described(in_process(make_app(AUTHSVC_METRICS=setting)))
    assert send(method, "/metrics", {}, b"").status == status


def test_trouble_is_as_it_says(make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database away, too many logins waiting, a defect."""
    away = described(in_process(make_app(AUTHSVC_DATABASE_URL=f"sqlite:///{tmp_path}/absent/authsvc.db")))
    busy = make_app()
    monkeypatch.setattr(parts(busy).service._passwords, "matches", _raise(errors.Busy))
    broken = make_app()
    monkeypatch.setattr(parts(broken).service, "logout", _raise(ZeroDivisionError))
    answers = [
        *(
            dialect.login("user", PASSWORD)
            for send in (away, described(in_process(busy)))
            for dialect in (Auth(send), Console(send))
        ),
        away("GET", "/readyz", {}, b""),
        Auth(described(in_process(broken))).logout(None),
        Console(described(in_process(broken))).exit(None),
    ]
    assert [answer.status for answer in answers] == [503, 503, 503, 503, 503, 500, 200]


def _raise(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


# A client


class Client:
    """Knows nothing of the service but its description."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._document = send("GET", "/openapi.json", {}, b"").json

    def __call__(self, operation_id: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Call an operation by its name."""
        method, path, _ = self._operation(operation_id)
        body = urlencode(parameters).encode() if method == "post" else b""
        return self._send(method.upper(), path, {"Content-Type": FORM, **headers}, body)

    def links(self, operation_id: str, answer: Answer) -> dict[str, dict[str, str]]:
        """What an answer hands on to other operations, by their names."""
        _, _, operation = self._operation(operation_id)
        name = operation["responses"][str(answer.status)]["$ref"].rpartition("/")[2]
        links = self._document["components"]["responses"][name]["links"].values()
        return {
            link["operationId"]: {name: evaluated(text, answer) for name, text in link["parameters"].items()}
            for link in links
        }

    def _operation(self, operation_id: str) -> tuple[str, str, Any]:
        (found,) = [
            (method, path, item[method])
            for path, item in self._document["paths"].items()
            for method in ("get", "post")
            if item.get(method, {}).get("operationId") == operation_id
        ]
        return found


@pytest.mark.parametrize(
    ("login", "name", "check", "logout"),
    [("login", "username", "verify", "logout"), ("doLogin", "key", "getLoginInfo", "doExit")],
)
def test_it_is_all_that_a_client_needs(server: Server, login: str, name: str, check: str, logout: str) -> None:
    """Whoever knows nothing but the document logs in, is known, logs out, and is known no more."""
    client = Client(described(server.send))
    granted = client(login, {name: "user", "password": PASSWORD}, {})
    links = client.links(login, granted)
    codes = [client(operation, {}, links[operation]).json["code"] for operation in (check, logout, check)]
    assert codes == [200, 200, 401]

"""What surrounds every answer."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.conftest import Log, MakeApp
from tests.databases import PASSWORD
from tests.dialects import Answer, Auth, Console, Send, in_process
from tests.refusals import TOO_LARGE, UNKNOWN_PATH

Query = Callable[..., list[Any]]


@pytest.fixture
def send(app: object) -> Send:
    """Asks for any path."""
    return in_process(app)  # type: ignore[arg-type]


def get(send: Send, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Ask for a path."""
    return send("GET", path, headers or {}, b"")


PATHS = [
    "/api/auth/verify",
    "/api/auth/nosuch",
    "/AccAdmin/getLoginInfo",
    "/AccAdmin/nosuch",
    "/healthz",
    "/nosuch",
    "/",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_json_that_nobody_keeps(path: str, send: Send) -> None:
    """Never HTML; not to be stored, not to be taken for something else."""
    headers = get(send, path).headers
    assert headers["Content-Type"] == "application/json"
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/nosuch", "/api", "/api/auth", "/api/auth/", "/api/auth/nosuch", "/api/auth/login/"),
        *(
            "//api/auth/login",
            "/api//auth/login",
            "/API/auth/login",
            "/accadmin/doLogin",
            "/AccAdminister",
            "/static/x",
        ),
        *("/%ff", "/%00", "/api/auth/login%00", "/api/auth/%2e%2e/login", "/健康"),
    ],
)
def test_an_unknown_path_is_404(path: str, send: Send) -> None:
    """In the words of /api/auth, outside both prefixes too; never a redirect."""
    assert Auth.verdict(get(send, path)) == UNKNOWN_PATH.auth


@pytest.mark.parametrize("path", ["", "/", "/nosuch", "/dologin", "/doLogin/", "/%ff", "//doLogin"])
def test_an_unknown_path_of_the_console_is_its_404(path: str, console: Console) -> None:
    """HTTP 200, as for everything that it is told."""
    answer = console.call("GET", path)
    assert (answer.status, console.verdict(answer)[0]) == (200, 404)


@pytest.mark.parametrize("path", ["/api/auth/verify", "/api/auth/nosuch", "/healthz", "/readyz", "/nosuch"])
def test_no_path_takes_a_large_body(path: str, send: Send) -> None:
    """413, whatever it is for."""
    assert Auth.verdict(send("POST", path, {}, b"x" * (16 * 1024 + 1))) == TOO_LARGE.auth


@pytest.mark.parametrize("path", ["/getLoginInfo", "/nosuch"])
def test_no_path_of_the_console_takes_a_large_body(path: str, console: Console) -> None:
    """In its own words."""
    answer = console.call("POST", path, body=b"x" * (16 * 1024 + 1))
    assert console.verdict(answer) == TOO_LARGE.console


# Request ids


@pytest.mark.parametrize("request_id", ["a", "5b317500-9f75-4f8d-b2ba-c15174f4254c", "A.b_c-9", "x" * 64])
def test_a_request_id_is_taken_over(request_id: str, send: Send, log: Log) -> None:
    """It comes back with the answer and stands in the log, so that a request can be followed through a system."""
    answer = get(send, "/api/auth/verify", {"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == request_id
    assert {line["request_id"] for line in log.lines()} == {request_id}


@pytest.mark.parametrize("request_id", ["", " ", "x" * 65, "a b", "a,b", 'a"b', "a/b", "é", "<script>"])
def test_a_malformed_request_id_is_replaced(request_id: str, send: Send) -> None:
    """By one that is made, different each time."""
    made = {get(send, "/healthz", {"X-Request-ID": request_id}).headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    assert request_id not in made


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_a_request_id(path: str, send: Send) -> None:
    """Refusals too."""
    assert get(send, path).headers["X-Request-ID"]


def test_each_request_has_one_access_line(auth: Auth, log: Log) -> None:
    """Method, path without query, status, duration, address, and why it was refused."""
    auth.call("GET", f"/login?username=user&password={PASSWORD}x")
    (line,) = log.lines("request")
    assert line == {
        "time": line["time"],
        "level": "INFO",
        "event": "request",
        "request_id": line["request_id"],
        "address": "127.0.0.1",
        "method": "GET",
        "path": "/api/auth/login",
        "status": 403,
        "ms": line["ms"],
        "cause": "wrong_password",
    }


# Headers on every answer, and odd spellings

ANSWERS = [
    *[("GET", path, {}) for path in (*PATHS, "/openapi.json", "/docs", "/readyz", "//x")],
    ("POST", "/api/auth/login", {"Content-Type": "text/plain"}),
    ("POST", "/AccAdmin/doLogin", {"Sec-Fetch-Site": "cross-site"}),
    ("OPTIONS", "/api/auth/login", {"Origin": "https://console.example", "Access-Control-Request-Method": "POST"}),
    ("HEAD", "/api/auth/verify", {}),
    ("PUT", "/healthz", {}),
    ("get", "/healthz", {}),
]


@pytest.mark.parametrize(("method", "path", "headers"), ANSWERS)
def test_every_answer_tells_browsers_what_it_is_not(
    method: str, path: str, headers: dict[str, str], make_app: MakeApp
) -> None:
    """Each header once: not to be kept, sniffed, framed, embedded elsewhere, or followed by an address."""
    send = in_process(make_app(AUTHSVC_CORS_ORIGINS="https://console.example"))
    sent = send(method, path, headers, b"x" if "Content-Type" in headers else b"").headers
    expected = {
        "Cache-Control": ["no-store"],
        "X-Content-Type-Options": ["nosniff"],
        "Referrer-Policy": ["no-referrer"],
        "Cross-Origin-Resource-Policy": ["same-origin"],
    }
    assert {name: sent.getlist(name) for name in expected} == expected
    (policy,) = sent.getlist("Content-Security-Policy")
    directives = dict(directive.strip().partition(" ")[::2] for directive in policy.split(";"))
    assert (directives["default-src"], directives["frame-ancestors"]) == ("'none'", "'none'")
    assert path == "/docs" or len(directives) == 2


@pytest.mark.parametrize("act", [Auth.verify, Auth.logout])
def test_a_failure_has_the_headers_too(
    act: Callable[[Auth, str], Answer], auth: Auth, token: str, query: Query
) -> None:
    """On the fast path and on Flask's."""
    query("ALTER TABLE session RENAME TO gone")
    answer = act(auth, token)
    query("ALTER TABLE gone RENAME TO session")
    assert (answer.status, answer.headers["Referrer-Policy"]) == (503, "no-referrer")


@pytest.mark.parametrize(
    "path", ["//api/auth/verify", "///api/auth/verify", "//healthz", "//AccAdmin/getLoginInfo", "//"]
)
def test_a_path_has_one_slash_before_it(path: str, app: Flask, token: str) -> None:
    """A proxy's rule for /api/auth/verify sees no such path in it; so neither does the service."""
    environ = EnvironBuilder(headers=[("satoken", token)]).get_environ() | {"PATH_INFO": path}
    answer, status, _ = run_wsgi_app(app, environ, buffered=True)
    assert (status[:3], json.loads(b"".join(answer))["code"]) == ("404", 404)


@pytest.mark.parametrize("method", ["get", "Get", "gET"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/api/auth/verify", "GET, HEAD, OPTIONS"),
        ("/api/auth/login", "GET, OPTIONS, POST"),
    ],
)
def test_a_method_is_written_in_capitals(method: str, path: str, allowed: str, app: Flask, token: str) -> None:
    """Methods are case-sensitive (RFC 9110, section 9.1): another spelling is another method, and nothing is done."""
    environ = EnvironBuilder(path, headers=[("satoken", token)]).get_environ() | {"REQUEST_METHOD": method}
    answer, status, headers = run_wsgi_app(app, environ, buffered=True)
    assert (status[:3], headers["Allow"]) == ("405", allowed)
    assert json.loads(b"".join(answer))["code"] == 405


@pytest.mark.parametrize(("path", "status"), [("/nosuch", "404"), ("/api/auth/nosuch", "404")])
def test_an_odd_method_makes_no_path(path: str, status: str, app: Flask) -> None:
    """An unknown path stays one."""
    environ = EnvironBuilder(path).get_environ() | {"REQUEST_METHOD": "get"}
    assert run_wsgi_app(app, environ, buffered=True)[1][:3] == status

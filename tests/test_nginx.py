"""A real nginx with `deploy/nginx.conf`, of which only ports and paths are changed, in front of real replicas."""

import base64
import hashlib
import http.client
import json
import re
import ssl
import subprocess
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from http import HTTPStatus
from itertools import count, takewhile
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.datastructures import Headers

from authsvc import create_app
from authsvc.config import load
from authsvc.parts import parts
from authsvc.web.bodies import BODY_MAX
from tests.conftest import servers
from tests.databases import PASSWORD, SECRET_KEY, Databases, close
from tests.dialects import FORM, Answer, Auth
from tests.nginx import (
    ELSEWHERE,
    Application,
    Client,
    Dying,
    Nginx,
    StartNginx,
    Tiring,
    Unready,
    behind,
    exchange,
    nginxes,
    recording,
)
from tests.refusals import BUSY, PERMISSION_MISSING, TOO_LARGE
from tests.servers import Server, free_port, start, wait_for
from tests.test_smoke import smoke

BEHIND_NGINX = {"AUTHSVC_TRUSTED_PROXIES": "1"}

AUTH_TOO_LONG = {"code": 413, "msg": "Request Entity Too Large", "data": {"reason": TOO_LARGE.reason}}
CONSOLE_TOO_LONG = {"code": 500, "msg": TOO_LARGE.message, "data": None}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*"}
PREFLIGHT = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}


# Fixtures


@pytest.fixture(scope="module")
def start_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNginx]:
    """Starts nginx in front of two ports, and an application where there is one."""
    with nginxes("nginx.conf", tmp_path_factory) as start_with:

        def begin(first: int, second: int, application: int = 0) -> Nginx:
            ports = {"authsvc-1:8000": first, "authsvc-2:8000": second, "application:8080": application or free_port()}
            return start_with({name: f"127.0.0.1:{port}" for name, port in ports.items()})

        yield begin


@pytest.fixture(scope="module")
def shared_url(postgresql: Databases) -> str:
    """The replicas' database, whose role `admin` grants `reports`."""
    url = postgresql.copy()
    app = create_app(load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}))
    parts(app).administration.grant("admin", ["reports"])
    close(app)
    return url


@pytest.fixture(scope="module")
def replicas(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers that trust one proxy."""
    with servers(tmp_path_factory) as begin:
        yield begin(shared_url, **BEHIND_NGINX), begin(shared_url, **BEHIND_NGINX)


@pytest.fixture(scope="module")
def nginx(replicas: tuple[Server, Server], start_nginx: StartNginx) -> Iterator[Nginx]:
    """The shipped configuration in front of both replicas and the application."""
    first, second = replicas
    with behind(Application) as application:
        yield start_nginx(first.port, second.port, application.port)


@pytest.fixture(scope="module")
def echo(start_nginx: StartNginx) -> Iterator[Client]:
    """Somebody in front of an nginx behind which all, authsvc too, let everybody in and tell what they were asked."""
    with behind(Application) as application:
        yield start_nginx(application.port, application.port, application.port).at(ELSEWHERE)


@pytest.fixture
def client(nginx: Nginx) -> Client:
    """Somebody elsewhere."""
    return nginx.at(ELSEWHERE)


@pytest.fixture(scope="module")
def token(nginx: Nginx) -> str:
    """The token of a live session of `user`; one for all, because nginx limits logins."""
    return nginx.at(ELSEWHERE).console.token("user", PASSWORD)


@pytest.fixture(scope="module")
def admin_token(nginx: Nginx) -> str:
    """The token of a live session of `admin`, who has the permission."""
    return nginx.at(ELSEWHERE).console.token("admin", PASSWORD)


# Both dialects


def test_the_smoke_check_holds_through_nginx(nginx: Nginx) -> None:
    """Both dialects work from login to refused token."""
    result = smoke(f"https://127.0.0.1:{nginx.port}", CURL_CA_BUNDLE=str(nginx.certificate))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "claim", ["", "203.0.113.7", "203.0.113.7, 127.0.0.1", "garbage"], ids=["none", "one", "two", "garbage"]
)
def test_the_client_is_the_peer_of_nginx_whatever_it_claims(claim: str, client: Client) -> None:
    """A forged X-Forwarded-For changes nothing."""
    answer = client.console.login("user", PASSWORD, headers={"X-Forwarded-For": claim})
    assert answer.data["admin"]["loginIp"] == ELSEWHERE


def test_the_cookie_is_secure_whatever_the_client_claims(client: Client) -> None:
    """The request came over TLS, and a forged X-Forwarded-Proto does not deny it."""
    answer = client.auth.login("user", PASSWORD, headers={"X-Forwarded-Proto": "http"})
    assert answer.cookie[0] == "__Host-satoken"
    assert "Secure" in answer.cookie


def test_one_request_id_goes_through_all_logs(
    client: Client, nginx: Nginx, replicas: tuple[Server, Server], token: str
) -> None:
    """It is made by nginx, whatever the client sends, and known to the replica and the application."""
    made = client.get("/page", satoken=token, X_Request_ID="forged-1").json["headers"]["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    wait_for(lambda: made in [line["request_id"] for line in nginx.log])
    assert made in [line.get("request_id") for replica in replicas for line in replica.log_lines]


@pytest.mark.parametrize(
    ("cookies", "told"),
    [
        ("__Host-satoken=a.b-c_d==", "__Host-satoken=a.b-c_d=="),
        ("theme=dark; __Host-satoken=abc; lang=zh", "__Host-satoken=abc"),
        ("theme=dark;__Host-satoken=abc", "__Host-satoken=abc"),
        ("satoken=planted; x__Host-satoken=planted; __Host-satoken=abc", "__Host-satoken=abc"),
        ("name=\u5f20\u4e09; __Host-satoken=abc; \u5f20=1", "__Host-satoken=abc"),
        ("theme=dark; satoken=abc", None),
        ("__Host-satoken=", None),
    ],
)
@pytest.mark.parametrize("path", ["/api/auth/verify", "/api/auth/login", "/AccAdmin/doLogin", "/login", "/account"])
def test_of_all_cookies_authsvc_is_sent_its_own(path: str, cookies: str, told: str | None, echo: Client) -> None:
    """One with bytes that a server may choke on does not go along."""
    answer = echo.say(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["headers"].get("Cookie") == told


def test_so_it_is_where_http2_takes_the_cookies_apart(echo: Client) -> None:
    """A browser may send each in a header of its own."""
    cookies = [argument for cookie in ("a=1", "__Host-satoken=abc", "b=2") for argument in ("-H", f"Cookie: {cookie}")]
    answer = subprocess.check_output(["curl", "--silent", "--insecure", "--http2", *cookies, f"{echo.url}/login"])
    assert json.loads(answer)["headers"]["Cookie"] == "__Host-satoken=abc"


@pytest.mark.parametrize("path", ["/page", "/reports/1"])
def test_a_neighbours_cookie_logs_nobody_out(path: str, client: Client) -> None:
    """Bytes beyond ASCII next to our cookie: still logged in, and the application gets all cookies as they are."""
    ours = client.auth.login("admin", PASSWORD).headers["Set-Cookie"].partition(";")[0]
    cookies = f"name=\u5f20\u4e09; {ours}"
    answer = client.say(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n".encode())
    told = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
    assert (told["Remote-Id"], told["Cookie"].encode("latin-1").decode()) == ("1", cookies)


@pytest.mark.parametrize("path", ["//api/auth/verify", "/x/../api/auth/verify", "/api/./auth/login", "//login"])
def test_another_spelling_of_authsvcs_addresses_stays_another(path: str, echo: Client) -> None:
    """It is authsvc that is asked, and with that spelling, which it does not know."""
    assert echo.get(path).json["path"] == path


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/openapi.json"])
def test_what_authsvc_tells_its_operators_is_not_passed_on(path: str, client: Client, token: str) -> None:
    """These addresses are the application's."""
    assert client.get(path).status == HTTPStatus.UNAUTHORIZED
    assert client.get(path, satoken=token).json["path"] == path


def test_whether_authsvc_is_there_anybody_may_ask(client: Client) -> None:
    """For whoever watches nginx."""
    assert client.get("/healthz").status == HTTPStatus.OK


# A person in front of it


@pytest.mark.parametrize("target", ["/login?rd=/page?a=1&b=%2F", "/account"])
def test_the_pages_are_open_to_everybody(target: str, echo: Client) -> None:
    """The address reaches authsvc as it is, and its answer the person."""
    assert echo.send("GET", target, NAVIGATION, b"").json["path"] == target


@pytest.mark.parametrize(
    "headers", [NAVIGATION, {"Sec-Fetch-Mode": "navigate"}, {"Accept": "application/xhtml+xml,TEXT/HTML;q=0.9"}]
)
@pytest.mark.parametrize(
    "target", ["/page", "/reports/1", "/%E5%BC%A0?a=1&b=%2F+%23&rd=/x", "//elsewhere.example/?", "/?"]
)
def test_a_navigation_without_a_session_is_sent_to_log_in_and_back(
    target: str, headers: Mapping[str, str], client: Client
) -> None:
    """Whatever follows `rd=` is the very address."""
    answer = client.send("GET", target, headers, b"")
    assert (answer.status, answer.headers["Location"]) == (302, f"/login?rd={target}")


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/page"), ("POST", "/page"), ("GET", "/reports/1")])
def test_a_program_without_a_session_is_told_in_the_envelope(
    method: str, path: str, headers: Mapping[str, str], client: Client
) -> None:
    """401, and the header that says how to authenticate."""
    answer = client.send(method, path, headers, b"x" * 100_000 if method == "POST" else b"")
    assert Auth.verdict(answer) == (401, "Token is missing or no longer good.")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_person_without_the_permission_gets_a_page(client: Client, token: str) -> None:
    """In words of both languages, with the way to another account."""
    answer = client.send("GET", "/reports/1", {"satoken": token, **NAVIGATION}, b"")
    page = answer.body.decode()
    assert (answer.status, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "Permission is missing" in page
    assert "没有权限" in page
    assert page.count('href="/account"') == 2


def test_the_page_may_bring_its_style_and_nothing_else(client: Client) -> None:
    """By its hash; no script, no frame around it."""
    answer = client.send("GET", "/_verify", NAVIGATION, b"")
    (style,) = re.findall("<style>(.*?)</style>", answer.body.decode())
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy


def test_a_program_without_the_permission_is_told_in_the_envelope(client: Client, token: str) -> None:
    """In the words of the service itself."""
    answer = client.get("/reports/1", satoken=token)
    assert Auth.verdict(answer) == Auth.verdict(client.auth.verify(token, "reports")) == PERMISSION_MISSING.auth


def test_a_person_is_told_to_try_again(start_nginx: StartNginx) -> None:
    """Where authsvc is away: a page in words."""
    answer = start_nginx(free_port(), free_port()).at(ELSEWHERE).send("GET", "/page", NAVIGATION, b"")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert "请稍后再试" in answer.body.decode()


# What nginx itself answers

OWN: Mapping[str, tuple[int, bytes]] = {
    "login": (302, b"GET /page HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n"),
    "no session": (401, b"GET /page HTTP/1.1\r\nHost: a\r\n"),
    "unknown": (404, b"GET /_verify HTTP/1.1\r\nHost: a\r\n"),
    "own": (404, b"GET /_own/error/program HTTP/1.1\r\nHost: a\r\n"),
    "trace": (405, b"TRACE /page HTTP/1.1\r\nHost: a\r\n"),
    "no host": (400, b"GET /page HTTP/1.1\r\n"),
    "long header": (400, b"GET /page HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9_000 + b"\r\n"),
    "long address": (414, b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n"),
    "too long": (413, b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n"),
    "too long for authsvc": (413, b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n"),
    "too long for the console": (200, b"POST /AccAdmin/doLogin HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n"),
}


@pytest.mark.parametrize(("status", "request_"), OWN.values(), ids=OWN)
def test_what_nginx_itself_answers_is_safe_to_show(status: int, request_: bytes, client: Client) -> None:
    """Not to be framed, guessed at, stored or asked for without TLS; and a text says its charset."""
    answer = parse(client.say(request_ + b"Connection: close\r\n\r\n"))
    assert answer.status == status
    headers = answer.headers
    assert headers.getlist("Strict-Transport-Security") == ["max-age=31536000"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert headers.getlist("Cache-Control") == ["no-store"]
    # A redirect is not shown, and nginx gives its text no charset.
    assert status == HTTPStatus.FOUND or headers["Content-Type"] in ("application/json", "text/html; charset=utf-8")
    assert headers["Server"] == "nginx"


def parse(answer: bytes) -> Answer:
    """An answer, taken apart."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return Answer(
        int(status.split()[1]),
        Headers([(name, value) for name, _, value in (line.partition(": ") for line in lines)]),
        body,
    )


@pytest.mark.parametrize("path", ["/page", "/reports/1", "/api/auth/verify", "/AccAdmin/doLogin", "/login"])
def test_what_nginx_passes_on_gets_one_header_more(path: str, echo: Client) -> None:
    """The rest is the business of who answered."""
    headers = echo.get(path).headers
    assert headers.getlist("Strict-Transport-Security") == ["max-age=31536000"]
    assert not {"Content-Security-Policy", "Cache-Control", "X-Content-Type-Options"} & set(headers.keys())


def test_a_redirect_of_nginxs_own_names_no_host(client: Client) -> None:
    """Whatever the client says this one is called."""
    for path in ("/reports", "/api/auth", "/page"):
        answer = client.send("GET", path, {"Host": "evil.example", **NAVIGATION}, b"")
        assert answer.headers["Location"].startswith("/")
        assert "evil" not in str(answer)


# TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_version_of_tls_is_refused(version: ssl.TLSVersion, nginx: Nginx) -> None:
    """TLS 1.2 is the oldest."""
    assert handshake(nginx, version, "ALL:@SECLEVEL=0") is None


def test_tls_keeps_its_secrets_and_detects_what_was_changed(nginx: Nginx) -> None:
    """Of all ciphers that the client knows, those with ephemeral keys and authenticated encryption work."""
    known = {
        str(cipher["name"]) for cipher in context("ALL:@SECLEVEL=0").get_ciphers() if cipher["protocol"] != "TLSv1.3"
    }
    taken = {name for name in known if handshake(nginx, ssl.TLSVersion.TLSv1_2, f"{name}:@SECLEVEL=0")}
    assert taken == {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    }
    assert handshake(nginx, ssl.TLSVersion.TLSv1_3, "ALL") == "TLSv1.3"


def context(ciphers: str) -> ssl.SSLContext:
    """A client that looks at no certificate."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_ciphers(ciphers)
    return tls


def handshake(nginx: Nginx, version: ssl.TLSVersion, ciphers: str) -> str | None:
    """The version that was agreed on, or nothing."""
    tls = context(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the old versions
        tls.minimum_version = tls.maximum_version = version
    try:
        with tls.wrap_socket(nginx.connect()) as connection:
            return connection.version()
    except (ssl.SSLError, ConnectionError):
        return None


# The protected application


def test_the_application_learns_who_is_calling(client: Client, token: str) -> None:
    """The Remote-* headers are those of the session, whatever the client sent under these names."""
    forged = {"Remote-Id": "1", "Remote-User": "admin", "Remote-Role": "admin", "Remote_User": "admin"}
    answer = client.send("GET", "/page?q=1", {"satoken": token, "X-Forwarded-For": "203.0.113.7", **forged}, b"")
    assert answer.json["path"] == "/page?q=1"
    told = {name: value for name, value in answer.json["headers"].items() if re.match("remote|x-forw", name.lower())}
    assert told == {
        "Remote-Id": "2",
        "Remote-User": "user",
        "Remote-Role": "user",
        "X-Forwarded-For": ELSEWHERE,
        "X-Forwarded-Proto": "https",
    }


@pytest.mark.parametrize("path", ["/reports/1", "//reports/./%31", "/reports/x/..%2f1", "/x/../reports/1"])
def test_a_permission_opens_its_part_of_the_application(path: str, client: Client, admin_token: str) -> None:
    """Who has it gets there, by one address."""
    assert client.get(path, satoken=admin_token).json["path"] == "/reports/1"


@pytest.mark.parametrize(
    "path",
    [
        "/reports/1",
        "//reports/1",
        "/%72eports/1",
        "/./reports/1",
        "/%2e/reports/1",
        "/reports%2f1",
        "/reports/./1",
        "/reports//1",
        "/reports/?x=/../..",
        "/page/../reports/1",
        "/page/..%2freports/1",
        "/page/%2e%2e/reports/1",
        "/page//../reports/1",
        "/page%2f../reports/1",
        "https://evil.example/reports/1",
    ],
)
def test_without_the_permission_it_stays_shut(path: str, client: Client, token: str) -> None:
    """403, however the path is spelled."""
    assert client.get(path, satoken=token).status == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("/reports/annual/../../z", "/z"),
        ("/reports/..%2fz", "/z"),
        ("/reports/%2e%2e/z", "/z"),
        ("/reports/1/..%2f../z", "/z"),
        ("/page//x/./%79", "/page/x/y"),
        ("/page/%E5%BC%A0%20%3f%23%25?q=/../%2f//", "/page/%E5%BC%A0%20%3F%23%25?q=/../%2f//"),
        ("/page/%252e%252e/reports/1", "/page/%252e%252e/reports/1"),
        ("/REPORTS/1", "/REPORTS/1"),
        ("/reports;a/1", "/reports;a/1"),
        ("/reports%5c1", "/reports%5C1"),
    ],
)
def test_the_application_is_asked_what_nginx_looked_at(asked: str, told: str, client: Client, token: str) -> None:
    """The address with nothing left in it to resolve, so that its permission is the one that was asked for."""
    assert client.get(asked, satoken=token).json["path"] == told


@pytest.mark.parametrize("path", ["/_verify", "/_verify/reports"])
def test_the_question_itself_cannot_be_asked_from_outside(path: str, client: Client, token: str) -> None:
    """Its location is nginx's own."""
    assert client.get(path, satoken=token).status == HTTPStatus.NOT_FOUND


def test_a_long_body_reaches_the_application_whole(client: Client, token: str) -> None:
    """The question who is calling is asked without it."""
    answer = client.send("POST", "/page", {"satoken": token}, b"x" * 2_000_000)
    assert answer.json["length"] == 2_000_000


def test_nothing_gets_through_unasked(start_nginx: StartNginx, token: str) -> None:
    """Where no replica answers, the application is not reached."""
    with behind(Application) as application:
        alone = start_nginx(free_port(), free_port(), application.port)
        for path in ("/page", "/reports/1"):
            answer = alone.at(ELSEWHERE).get(path, satoken=token)
            assert (*Auth.verdict(answer), answer.headers["Retry-After"]) == (*BUSY.auth, "5")


def test_the_application_knows_its_own_address(client: Client, nginx: Nginx, token: str) -> None:
    """The host and, where it is not the usual one, the port."""
    assert client.get("/page", satoken=token).json["headers"]["Host"] == f"127.0.0.1:{nginx.port}"


@pytest.mark.parametrize("path", ["/page", "/reports/1"])
def test_a_websocket_reaches_the_application(path: str, client: Client, admin_token: str) -> None:
    """And with it whatever is said on it, in both directions."""
    answer = client.say(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nsatoken: {admin_token}\r\n".encode()
        + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nhello"
    )
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\nhello")


def test_nobody_opens_a_websocket_unasked(client: Client) -> None:
    """It takes a session like everything else."""
    answer = client.send("GET", "/page", {"Connection": "Upgrade", "Upgrade": "websocket"}, b"")
    assert answer.status == HTTPStatus.UNAUTHORIZED


def test_the_application_is_not_led_to_another_protocol(client: Client, token: str) -> None:
    """What a client wants to change to is passed on only where it is WebSocket."""
    headers = {
        "satoken": token,
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABk",
    }
    told = client.send("GET", "/page", headers, b"").json["headers"]
    assert not {"Upgrade", "Connection"} & set(told)


@pytest.mark.parametrize("path", ["/page", "/reports/1"])
def test_a_preflight_reaches_the_application(path: str, client: Client) -> None:
    """It never carries a token: the application answers it as it would a stranger's."""
    told = client.send("OPTIONS", path, {**PREFLIGHT, "Remote-Id": "1"}, b"").json
    assert told["path"] == path
    assert not {name for name in told["headers"] if name.startswith("Remote-")}


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_nothing_but_a_preflight_goes_unasked(method: str, client: Client) -> None:
    """Neither another method with its headers, nor its method alone."""
    headers = {} if method == "OPTIONS" else PREFLIGHT
    assert client.send(method, "/page", headers, b"").status == HTTPStatus.UNAUTHORIZED


# Limits


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/api/auth/login", 413, AUTH_TOO_LONG),
        ("/api/auth/verify", 413, AUTH_TOO_LONG),
        ("/AccAdmin/doLogin", 200, CONSOLE_TOO_LONG),
        ("/AccAdmin/getLoginInfo", 200, CONSOLE_TOO_LONG),
    ],
)
def test_a_body_too_long_is_refused_as_the_service_does(
    path: str, status: int, body: dict[str, Any], chunked: bool, client: Client
) -> None:
    """In the words of its dialect, with or without a length."""
    too_long = b"x" * (BODY_MAX + 1)
    with closing(client.open()) as connection:
        connection.request("POST", path, iter([too_long]) if chunked else too_long, encode_chunked=chunked)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (status, body)
        # What has no request id of the service's was refused by nginx.
        assert response.getheader("X-Request-ID") is None


def test_a_body_just_short_enough_reaches_the_service(client: Client) -> None:
    """16 KiB are not too long."""
    body = urlencode({"username": "user", "password": PASSWORD}).encode().ljust(BODY_MAX, b"&")
    assert client.send("POST", "/api/auth/login", {"Content-Type": FORM}, body).status == HTTPStatus.OK


def test_silent_and_slow_clients_keep_nobody_out(nginx: Nginx, client: Client, token: str) -> None:
    """With 200 silent connections and 50 logins stuck in mid-body the others are served."""
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(nginx.connect())
        for _ in range(50):
            start_login(held.enter_context(closing(client.open())))
        assert {client.auth.verify(token).status for _ in range(20)} == {HTTPStatus.OK}


def test_a_slow_body_waits_in_nginx(start_nginx: StartNginx) -> None:
    """A replica is asked when the body is there, and no sooner."""
    with recording(Unready) as (replica, asked):
        client = start_nginx(replica.port, replica.port).at(ELSEWHERE)
        with closing(client.open()) as connection:
            start_login(connection)
            client.auth.verify(None)
            assert set(asked) == {"GET"}
            connection.send(b"x" * 91)
            connection.getresponse()
            assert "POST" in asked


def start_login(connection: http.client.HTTPSConnection) -> None:
    """Send the first 9 of 100 bytes."""
    connection.putrequest("POST", "/api/auth/login")
    connection.putheader("Content-Type", FORM)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"username=")


def test_too_many_logins_from_one_address_are_held_back(nginx: Nginx, token: str) -> None:
    """The burst is served, what goes beyond it is told that the service is busy, and checks are not limited."""
    eager = nginx.at("127.0.0.3")
    with closing(eager.open()) as connection:
        answers = [exchange(connection, "POST", "/api/auth/logout", {}) for _ in range(60)]
    assert {answer.status for answer in answers[:20]} == {HTTPStatus.OK}
    (busy, *_) = [answer for answer in answers if answer.status != HTTPStatus.OK]
    assert Auth.verdict(busy) == BUSY.auth
    assert busy.headers["Retry-After"]
    assert eager.auth.verify(token).status == HTTPStatus.OK


@pytest.mark.parametrize(
    "path",
    ["/api/auth/sessions/end", "/api/auth/otp", "/api/auth/otp/confirm", "/AdminPassword/update", "/AccAdmin/doLogin"],
)
def test_whatever_takes_a_password_is_held_back_like_a_login(path: str, echo: Client) -> None:
    """Beyond the burst the service is said to be busy."""
    with closing(echo.open()) as connection:
        answers = [exchange(connection, "POST", path, {}) for _ in range(60)]
    (busy, *_) = [answer for answer in answers if answer.status != HTTPStatus.OK]
    assert (busy.status, busy.headers["Retry-After"]) == (503, "5")


# Replicas that fail


def test_one_replica_is_enough(replicas: tuple[Server, Server], start_nginx: StartNginx, token: str) -> None:
    """With the other one's port dead, every check and every login is answered."""
    client = start_nginx(free_port(), replicas[0].port).at(ELSEWHERE)
    assert {client.auth.verify(token).status for _ in range(10)} == {HTTPStatus.OK}
    assert {client.auth.login("user", PASSWORD).status for _ in range(4)} == {HTTPStatus.OK}


def test_without_any_replica_both_dialects_say_so(start_nginx: StartNginx) -> None:
    """In their own envelopes, never as a page of nginx's."""
    client = start_nginx(free_port(), free_port()).at(ELSEWHERE)
    assert Auth.verdict(client.auth.verify(None)) == BUSY.auth
    assert Auth.verdict(client.auth.login("user", PASSWORD)) == BUSY.auth
    for answer in (client.console.info(None), client.console.login("user", PASSWORD)):
        assert (answer.status, answer.json) == (503, {"code": 500, "msg": BUSY.message, "data": None})


@pytest.mark.parametrize("handler", [Unready, Dying])
@pytest.mark.parametrize(
    ("method", "path", "times"),
    [
        ("GET", "/api/auth/verify", 2),
        ("POST", "/AccAdmin/getLoginInfo", 1),
        ("GET", "/api/auth/login", 2),
        ("POST", "/api/auth/login", 1),
        ("POST", "/api/auth/password", 1),
        ("GET", "/AccAdmin/doLogin", 2),
        ("POST", "/AccAdmin/doLogin", 1),
    ],
)
def test_what_may_have_been_done_is_not_sent_again(
    handler: type[Unready], method: str, path: str, times: int, start_nginx: StartNginx
) -> None:
    """A GET goes on to the other replica; a POST that reached one goes to no other."""
    with recording(handler) as (replica, asked):
        answer = start_nginx(replica.port, replica.port).at(ELSEWHERE).send(method, path, {}, b"")
    assert (answer.status, asked) == (503, [method] * times)


def test_a_login_is_never_sent_on_a_connection_that_may_be_closed(start_nginx: StartNginx) -> None:
    """Where a replica closes the connections it kept, each POST reaches it on a new one."""
    with recording(Tiring) as (replica, _):
        client = start_nginx(replica.port, replica.port).at(ELSEWHERE)
        with closing(client.open()) as connection:
            statuses = [exchange(connection, "POST", "/api/auth/login", {}).status for _ in range(3)]
    assert statuses == [HTTPStatus.OK] * 3


def test_a_rolling_restart_fails_nobody(
    nginx: Nginx, replicas: tuple[Server, Server], shared_url: str, token: str
) -> None:
    """Under a load of checks and logins one replica restarts after the other, and every answer is 200."""
    seen: Counter[tuple[str, int]] = Counter()
    over = threading.Event()

    def check() -> None:
        with closing(nginx.at(ELSEWHERE).open()) as connection:
            while not over.is_set():
                seen["check", exchange(connection, "GET", "/api/auth/verify", {"satoken": token}).status] += 1

    def log_in(number: int) -> None:
        # From ever new addresses, or else the limit of nginx would come first.
        for index in takewhile(lambda _: not over.is_set(), count()):
            client = nginx.at(f"127.{number}.{index // 250 % 250}.{index % 250 + 1}")
            seen["login", client.auth.login("user", PASSWORD).status] += 1

    def has_its_share(replica: Server, before: int) -> bool:
        # Of both: nginx keeps its memory of failures apart for checks and for logins.
        return all(path in replica.log[before:] for path in ('"/api/auth/verify"', '"/api/auth/login"'))

    threads = [threading.Thread(target=check) for _ in range(2)]
    threads += [threading.Thread(target=log_in, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for replica in replicas:
            assert replica.stop() == 0
            before = len(replica.log)
            folder, port = replica.log_file.parent, str(replica.port)
            replica.process = start(folder, shared_url, AUTHSVC_PORT=port, **BEHIND_NGINX)
            wait_for(partial(has_its_share, replica, before))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {("check", HTTPStatus.OK), ("login", HTTPStatus.OK)}


# Logs


def test_nginx_logs_no_secret_whatever_goes_wrong(
    nginx: Nginx, replicas: tuple[Server, Server], start_nginx: StartNginx
) -> None:
    """Neither a query string nor a token nor a password is in its logs, also where replicas or clients fail."""
    token = nginx.at("127.0.0.4").auth.token("user", PASSWORD)  # its own: it logs out
    query = "?" + urlencode({"username": "user", "password": PASSWORD, "secret": "s3cr3t"})
    secret = {
        "satoken": token,
        "Authorization": f"Bearer {token}",
        "Cookie": f"satoken={token}; __Host-satoken={token}",
        "Referer": f"/{query}",
    }
    failing, broken = start_nginx(free_port(), free_port()), start_nginx(*(replica.port for replica in replicas))
    broken.lose_its_files()
    for instance in (broken, failing, nginx):
        somebody = instance.at("127.0.0.4")
        for path in ("/page", "/reports/1", "/api/auth/verify", "/AccAdmin/doLogin", "/api/auth/login", "/nowhere"):
            somebody.send("GET", path + query, secret, b"")
            somebody.send("POST", path + query, secret, b"x" * 20_000)
        somebody.send("GET", "/api/auth/login" + query + "x" * 9_000, secret, b"")
        for _ in range(40):
            somebody.send("GET", "/api/auth/logout" + query, secret, b"")
        logged = json.dumps(instance.log) + instance.errors
        assert "/api/auth/login" in logged
        for word in (PASSWORD, "s3cr3t", token, "?"):
            assert word not in logged


def test_nginxs_log_is_text_whatever_it_was_asked(nginx: Nginx, client: Client) -> None:
    """Each line is short and JSON: what a path has beyond ASCII, and whatever follows it, is not in it."""
    client.say(b'GET /raw\xff\xfe" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    client.say(b"GET /long" + b"%22" * 2_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    client.say(b"M" * 7_000 + b" /method HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    client.say(b"\xff\xff\r\n\r\n")
    wait_for(lambda: {"/raw", "/method"} <= {line["path"] for line in nginx.log})
    assert max(len(json.dumps(line)) for line in nginx.log) < 2_000

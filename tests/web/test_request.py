"""What a request carries: its token, and whose it is."""

import pytest
from flask import Flask

from authsvc.sessions import Client
from authsvc.web.request import carries_body, client, token_of
from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import Auth, Console, in_process
from tests.refusals import CROSS_SITE, TOKEN_INVALID, TOKEN_MISSING

# What is sent, "T" standing for a live token; and what becomes of it.
LIVE, MISSING, INVALID = "live", TOKEN_MISSING.reason, TOKEN_INVALID.reason
FORGED = f"{'x' * 32}.abcdef.signature"
EMPTY = Flask("empty")
CARRIERS: dict[str, tuple[dict[str, str], str]] = {
    "header": ({"satoken": "T"}, LIVE),
    "header in capitals": ({"SaToken": "T"}, LIVE),
    "header with spaces": ({"satoken": "  T  "}, LIVE),
    "bearer": ({"Authorization": "Bearer T"}, LIVE),
    "bearer in capitals": ({"Authorization": "BEARER T"}, LIVE),
    "bearer with spaces": ({"Authorization": "  bearer   T "}, LIVE),
    "cookie": ({"Cookie": "satoken=T"}, LIVE),
    "cookie among others": ({"Cookie": "a=b; satoken=T; c=d"}, LIVE),
    # The first that is there decides.
    "header before bearer": ({"satoken": "T", "Authorization": "Bearer x", "Cookie": "satoken=x"}, LIVE),
    "bearer before cookie": ({"Authorization": "Bearer T", "Cookie": "satoken=x"}, LIVE),
    "bad header, good bearer": ({"satoken": "x", "Authorization": "Bearer T", "Cookie": "satoken=T"}, INVALID),
    "bad bearer, good cookie": ({"Authorization": "Bearer Tx", "Cookie": "satoken=T"}, INVALID),
    # What is empty is not there.
    "empty header": ({"satoken": "", "Authorization": "Bearer T"}, LIVE),
    "blank header": ({"satoken": "  ", "Cookie": "satoken=T"}, LIVE),
    "empty bearer": ({"Authorization": "Bearer", "Cookie": "satoken=T"}, LIVE),
    "blank bearer": ({"Authorization": "Bearer   ", "Cookie": "satoken=T"}, LIVE),
    "another scheme": ({"Authorization": "Basic dXNlcjpw", "Cookie": "satoken=T"}, LIVE),
    "another service's bearer": ({"Authorization": "Bearer e30.e30.c2ln", "Cookie": "satoken=T"}, LIVE),
    "no scheme": ({"Authorization": "T", "Cookie": "satoken=T"}, LIVE),
    "empty cookie": ({"Cookie": "satoken="}, MISSING),
    "nothing but another scheme": ({"Authorization": "Basic T"}, MISSING),
    "nothing but another service's bearer": ({"Authorization": "Bearer e30.e30.c2ln"}, MISSING),
    "nothing but a token without scheme": ({"Authorization": "T"}, MISSING),
    "cookie of https": ({"Cookie": "__Host-satoken=T"}, MISSING),
    "another cookie": ({"Cookie": "satokens=T"}, MISSING),
    "nothing": ({}, MISSING),
    # One carrier, two tokens.
    "two bearers": ({"Authorization": "Bearer T T"}, MISSING),
    "bearer in the header": ({"satoken": "Bearer T"}, INVALID),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_a_token_comes_in_a_header_as_bearer_or_in_a_cookie(
    name: str, auth: Auth, console: Console, token: str
) -> None:
    """In this order, in both dialects; the first that is present and not empty decides alone."""
    sent, expected = CARRIERS[name]
    headers = {header: value.replace("T", token) if value != "T" else token for header, value in sent.items()}
    reason = auth.verdict(auth.call("GET", "/verify", headers=headers))[1]
    assert (reason or LIVE) == expected
    assert console.verdict(console.call("GET", "/getLoginInfo", headers=headers))[0] == (200 if reason is None else 401)


@pytest.mark.parametrize(
    ("header", "value", "token"),
    [
        ("HTTP_AUTHORIZATION", f"Bearer   {FORGED}", FORGED),
        ("HTTP_COOKIE", "satoken=a=b", "a=b"),
        ("HTTP_COOKIE", "satoken=XaX", "XaX"),
        ("HTTP_COOKIE", 'satoken="a\'"', "a'"),
    ],
)
def test_a_token_is_all_that_its_carrier_holds(header: str, value: str, token: str) -> None:
    """Without the spaces and quotes around it, and with whatever is in it."""
    assert token_of({"wsgi.url_scheme": "http", header: value}) == token


@pytest.mark.parametrize(
    ("environ", "carries"),
    [
        ({}, False),
        ({"CONTENT_LENGTH": ""}, False),
        ({"CONTENT_LENGTH": "0"}, False),
        ({"CONTENT_LENGTH": "1"}, True),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, True),
    ],
)
def test_a_body_is_announced(environ: dict[str, str], carries: bool) -> None:
    """By its length, or as chunked."""
    assert carries_body(environ) is carries


@pytest.mark.parametrize(("headers", "user_agent"), [({"User-Agent": "curl/8"}, "curl/8"), ({}, "")])
def test_a_client_says_what_it_is_or_nothing(headers: dict[str, str], user_agent: str) -> None:
    """Who opened a session is noted as it calls itself."""
    with EMPTY.test_request_context(headers=headers, environ_overrides={"REMOTE_ADDR": "192.0.2.1"}):
        assert client() == Client("192.0.2.1", user_agent)


@pytest.mark.parametrize("place", ["query", "form"])
def test_a_token_never_comes_in_the_url_or_a_body(place: str, auth: Auth, console: Console, token: str) -> None:
    """There it would end up in logs and histories."""
    query, form = (f"?satoken={token}", None) if place == "query" else ("", {"satoken": token})
    assert auth.verdict(auth.call("GET", f"/verify{query}", form=form))[1] == MISSING
    assert console.verdict(console.call("POST", f"/getLoginInfo{query}", form=form))[0] == 401
    assert auth.verdict(auth.call("POST", f"/logout{query}", form=form)) == (200, None)
    assert auth.verify(token).status == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "peer", "told"),
    [
        ("0", "203.0.113.9", "127.0.0.1", "127.0.0.1"),
        ("1", "203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("1", "198.51.100.1, 203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("2", "198.51.100.1, 203.0.113.9", "127.0.0.1", "198.51.100.1"),
        ("2", "203.0.113.9", "127.0.0.1", "127.0.0.1"),
        ("1", "", "127.0.0.1", "127.0.0.1"),
        ("1", "garbage", "127.0.0.1", "127.0.0.1"),
        ("1", "203.0.113.9:4711", "127.0.0.1", "127.0.0.1"),
        ("1", "unknown", "127.0.0.1", "127.0.0.1"),
        ("1", ", ".join(["198.51.100.1"] * 200 + ["203.0.113.9"]), "127.0.0.1", "203.0.113.9"),
        ("1", "::ffff:203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("1", "2001:DB8:0::1", "127.0.0.1", "2001:db8::1"),
        ("0", "", "::1", "::1"),
        ("0", "", "", "unknown"),
    ],
)
def test_the_client_is_the_peer_or_what_trusted_proxies_saw(
    proxies: str, forwarded: str, peer: str, told: str, make_app: MakeApp
) -> None:
    """A forwarded value that is no address, or that nobody trusted has written, counts for nothing."""
    console = Console(in_process(make_app(AUTHSVC_TRUSTED_PROXIES=proxies), peer))
    answer = console.login("user", PASSWORD, headers={"X-Forwarded-For": forwarded} if forwarded else {})
    assert answer.data["admin"]["loginIp"] == told


# Cookies

HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "name", "attributes"),
    [
        ("1", {}, "satoken", ["HttpOnly", "Path=/"]),
        ("1", {"X-Forwarded-Proto": "http"}, "satoken", ["HttpOnly", "Path=/"]),
        ("1", HTTPS, "__Host-satoken", ["HttpOnly", "Path=/", "Secure"]),
        ("1", {"X-Forwarded-Proto": "http, https"}, "__Host-satoken", ["HttpOnly", "Path=/", "Secure"]),
        ("1", {"X-Forwarded-Proto": "https, http"}, "satoken", ["HttpOnly", "Path=/"]),
        ("1", {"X-Forwarded-Proto": "HTTPS"}, "satoken", ["HttpOnly", "Path=/"]),
        ("1", {"X-Forwarded-Proto": "wss"}, "satoken", ["HttpOnly", "Path=/"]),
        ("0", HTTPS, "satoken", ["HttpOnly", "Path=/"]),
    ],
)
def test_the_cookie_is_named_by_the_scheme(
    proxies: str, forwarded: dict[str, str], name: str, attributes: list[str], make_app: MakeApp
) -> None:
    """Over https, as a trusted proxy says, `__Host-` and Secure; set and cleared alike, in both dialects."""
    send = in_process(make_app(AUTHSVC_TRUSTED_PROXIES=proxies))
    auth, console = Auth(send), Console(send)
    answers = [
        (auth.login("user", PASSWORD, headers=forwarded), "Lax"),
        (console.login("user", PASSWORD, headers=forwarded), "Strict"),
        (auth.call("POST", "/logout", headers=forwarded), "Lax"),
        (console.call("POST", "/doExit", headers=forwarded), "Lax"),
    ]
    for answer, same_site in answers:
        (line,) = answer.headers.getlist("Set-Cookie")
        (pair, *rest) = line.split("; ")
        assert pair.partition("=")[0] == name
        left = {each for each in rest if not each.startswith(("Expires", "Max-Age"))}
        assert left == {*attributes, f"SameSite={same_site}"}


@pytest.mark.parametrize(
    ("scheme", "cookie", "expected"),
    [
        ("https", "__Host-satoken=T", LIVE),
        ("https", "satoken=T", MISSING),
        ("https", "satoken=x; __Host-satoken=T", LIVE),
        ("https", "__Host-satoken=x; satoken=T", INVALID),
        ("https", "__host-satoken=T", MISSING),
        ("https", '__Host-satoken="T"', LIVE),
        ("http", "satoken=T", LIVE),
        ("http", "__Host-satoken=T", MISSING),
        ("http", "__Host-satoken=x; satoken=T", LIVE),
        ("http", "satoken=T; satoken=x", LIVE),
        ("http", "satoken=x; satoken=T", INVALID),
        ("http", 'a="; satoken=T; b="', LIVE),
        ("https", 'a="; __Host-satoken=T; b="', LIVE),
        ("http", 'satoken="; satoken=T', MISSING),
        ("http", 'satoken="T"', LIVE),
        ("http", "=; ;;, satoken=T", MISSING),
        ("http", ";;; satoken=T;", LIVE),
    ],
)
def test_of_the_cookies_one_decides(scheme: str, cookie: str, expected: str, make_app: MakeApp) -> None:
    """The one of the scheme's name, the first of those: a neighbour can plant none over https."""
    auth = Auth(in_process(make_app(AUTHSVC_TRUSTED_PROXIES="1")))
    token = auth.token("user", PASSWORD)
    headers = {"X-Forwarded-Proto": scheme, "Cookie": cookie.replace("T", token) if "T" in cookie else cookie}
    reason = auth.verdict(auth.call("GET", "/verify", headers=headers))[1]
    assert (reason or LIVE) == expected


@pytest.mark.parametrize("neighbour", ["naïve", "健康".encode().decode("latin-1"), "\xff\xfe", "\x80", "a\xadb"])
@pytest.mark.parametrize("order", ["{0}; {1}", "{1}; {0}"])
def test_a_neighbours_cookie_logs_nobody_out(
    neighbour: str, order: str, auth: Auth, console: Console, token: str
) -> None:
    """Whatever bytes it has, UTF-8 or not, before ours or behind."""
    headers = {"Cookie": order.format(f"other={neighbour}", f"satoken={token}")}
    assert auth.call("GET", "/verify", headers=headers).status == 200
    assert console.call("GET", "/getLoginInfo", headers=headers).json["code"] == 200
    assert auth.verdict(auth.call("GET", "/verify", headers={"Cookie": f"satoken={neighbour}"}))[1] == INVALID


# Another service's Bearer


@pytest.mark.parametrize("foreign", ["x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "ghp_0123456789", "T T", "é"])
def test_a_foreign_bearer_is_the_applications(foreign: str, auth: Auth, console: Console, token: str) -> None:
    """It counts as absent: behind `auth_request` the application's own key rides beside our cookie."""
    for headers, expected in (({}, MISSING), ({"Cookie": f"satoken={token}"}, LIVE)):
        sent = {"Authorization": f"Bearer {foreign.replace('T', token)}", **headers}
        reason = auth.verdict(auth.call("GET", "/verify", headers=sent))[1]
        assert (reason or LIVE) == expected
        code = console.call("GET", "/getLoginInfo", headers=sent).json["code"]
        assert code == (200 if expected == LIVE else 401)


def test_a_bearer_of_our_form_decides(auth: Auth, token: str) -> None:
    """Forged or ended, it does not fall back to the cookie."""
    headers = {"Authorization": f"Bearer {FORGED}", "Cookie": f"satoken={token}"}
    assert auth.verdict(auth.call("GET", "/verify", headers=headers))[1] == INVALID


# Other sites

OWN, LISTED = "http://localhost", "https://console.example"
SITES: list[tuple[str, dict[str, str], bool]] = [
    ("POST", {}, True),
    ("POST", {"Sec-Fetch-Site": "same-origin"}, True),
    ("POST", {"Sec-Fetch-Site": "none"}, True),
    ("POST", {"Sec-Fetch-Site": "same-site"}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site"}, False),
    ("POST", {"Sec-Fetch-Site": " Cross-Site "}, False),
    ("POST", {"Sec-Fetch-Site": "SAME-SITE", "Origin": OWN}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": LISTED}, True),
    ("POST", {"Sec-Fetch-Site": "same-site", "Origin": LISTED.upper()}, True),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": LISTED + ":443"}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": LISTED + ".evil"}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
    # Browsers that tell no more than an Origin.
    ("POST", {"Origin": OWN}, True),
    ("POST", {"Origin": OWN.upper()}, True),
    ("POST", {"Origin": LISTED}, True),
    ("POST", {"Origin": "null"}, False),
    ("POST", {"Origin": "https://localhost"}, False),
    ("POST", {"Origin": OWN + ":8080"}, False),
    ("POST", {"Origin": "http://evil.example"}, False),
    ("POST", {"Origin": "http://localhost.evil.example"}, False),
    ("POST", {"Origin": OWN + "/"}, False),
    ("POST", {"Origin": "http://evil.example", "Sec-Fetch-Site": ""}, False),
    ("GET", {"Origin": "http://evil.example"}, False),
    # What is embedded in a page.
    ("GET", {}, True),
    ("GET", {"Sec-Fetch-Dest": "empty"}, True),
    ("GET", {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}, True),
    ("GET", {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}, False),
    *[
        ("GET", {"Sec-Fetch-Dest": dest, "Sec-Fetch-Site": "same-origin"}, False)
        for dest in ("image", "iframe", "script", "style", "embed", "object", "audio", "something new", "")
    ],
    ("GET", {"Sec-Fetch-Dest": "image", "Origin": LISTED}, True),
    ("POST", {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"}, True),
    # Ahead of its user, always.
    ("POST", {"Sec-Purpose": "prefetch", "Origin": LISTED}, False),
    ("GET", {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Site": "same-origin"}, False),
    ("GET", {"Sec-Purpose": "PreFetch"}, False),
]


@pytest.mark.parametrize(("method", "headers", "own"), SITES)
def test_what_changes_something_is_for_ones_own_site(
    method: str, headers: dict[str, str], own: bool, make_app: MakeApp
) -> None:
    """Log in and log out, in both dialects: refused before anything is done."""
    send = in_process(make_app(AUTHSVC_CORS_ORIGINS=LISTED))
    auth, console = Auth(send), Console(send)
    for dialect in (auth, console):
        login = f"{dialect.login_path}?{dialect.name_parameter}=user&password={PASSWORD}"
        for path in (login, dialect.logout_path):
            answer = dialect.call(method, path, headers=headers)
            refused = CROSS_SITE.auth if dialect is auth else CROSS_SITE.console
            assert (dialect.verdict(answer) != refused) is own
            assert ("Set-Cookie" in answer.headers) is own


@pytest.mark.parametrize(
    ("host", "forwarded", "origin", "own"),
    [
        ("auth.example", "https", "https://auth.example", True),
        ("auth.example:8443", "https", "https://auth.example:8443", True),
        ("auth.example:443", "https", "https://auth.example", True),
        ("AUTH.example", "https", "https://auth.example", True),
        ("auth.example", "https", "http://auth.example", False),
        ("auth.example", "http", "https://auth.example", False),
        ("auth.example:8443", "https", "https://auth.example", False),
        ("[::1]:8000", "http", "http://[::1]:8000", True),
    ],
)
def test_ones_own_origin_is_scheme_host_and_port(
    host: str, forwarded: str, origin: str, own: bool, make_app: MakeApp
) -> None:
    """As the trusted proxy tells them."""
    auth = Auth(in_process(make_app(AUTHSVC_TRUSTED_PROXIES="1")))
    headers = {"Host": host, "X-Forwarded-Proto": forwarded, "Origin": origin}
    assert (auth.login("user", PASSWORD, headers=headers).status == 200) is own

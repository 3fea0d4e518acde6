"""CORS, which says what other sites' pages may use; and the table of dialects."""

import pytest

from authsvc import web
from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import Answer, Auth, Console, Send, in_process
from tests.refusals import CROSS_SITE, UNKNOWN_PATH
from tests.web import toy

CONSOLE = "https://console.example"
ORIGINS = f"{CONSOLE},http://localhost:8080"
STRANGERS = [
    "https://evil.example",
    "http://console.example",
    "https://console.example.evil",
    "https://xconsole.example",
]
STRANGERS += ["https://console.example:8443", "https://consoleXexample", "null", f"{CONSOLE}\t", f"{CONSOLE}/"]


def cors(answer: Answer) -> dict[str, str]:
    """What the answer says to a browser about other origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


@pytest.mark.parametrize("origin", ORIGINS.split(","))
def test_a_listed_origin_may_use_the_service(origin: str, make_app: MakeApp) -> None:
    """It gets its exact echo, may send credentials and may read the token."""
    auth = Auth(in_process(make_app(AUTHSVC_CORS_ORIGINS=ORIGINS)))
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answer = auth.login("user", PASSWORD, headers=headers)
    assert (answer.status, answer.headers["Vary"]) == (200, "Origin")
    assert cors(answer) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "satoken",
    }


def test_a_single_listed_origin_varies_too(make_app: MakeApp) -> None:
    """A cache between must not give one origin's answer to another."""
    auth = Auth(in_process(make_app(AUTHSVC_CORS_ORIGINS=CONSOLE)))
    answer = auth.call("GET", "/verify", headers={"Origin": CONSOLE})
    assert (answer.headers["Vary"], answer.headers["Access-Control-Allow-Origin"]) == ("Origin", CONSOLE)


def test_a_listed_origin_is_told_what_it_may_send(make_app: MakeApp) -> None:
    """A preflight names the methods and the four headers."""
    console = Console(in_process(make_app(AUTHSVC_CORS_ORIGINS=ORIGINS)))
    wanted = "satoken, content-type, x-requested-with, authorization"
    headers = {
        "Origin": CONSOLE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
        "Sec-Fetch-Site": "cross-site",
    }
    answer = console.call("OPTIONS", "/doLogin", headers=headers)
    told = cors(answer)
    assert (answer.status, told["Access-Control-Allow-Origin"]) == (200, CONSOLE)
    assert set(told["Access-Control-Allow-Methods"].split(", ")) == {"GET", "POST"}
    assert set(told["Access-Control-Allow-Headers"].split(", ")) == set(wanted.split(", "))


@pytest.mark.parametrize("listed", [ORIGINS, ""])
@pytest.mark.parametrize("origin", STRANGERS)
def test_no_other_origin_gets_anything(listed: str, origin: str, make_app: MakeApp) -> None:
    """Its browser keeps the answer from it, and changes are refused."""
    auth = Auth(in_process(make_app(AUTHSVC_CORS_ORIGINS=listed)))
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answer = auth.login("user", PASSWORD, headers=headers)
    assert auth.verdict(answer) == CROSS_SITE.auth
    assert cors(answer) == {}


def test_a_listed_origin_may_not_prefetch(make_app: MakeApp) -> None:
    """What its user did not ask for is refused to everybody."""
    auth = Auth(in_process(make_app(AUTHSVC_CORS_ORIGINS=ORIGINS)))
    answer = auth.login("user", PASSWORD, headers={"Origin": CONSOLE, "Sec-Purpose": "prefetch"})
    assert auth.verdict(answer) == CROSS_SITE.auth
    assert cors(answer)["Access-Control-Allow-Origin"] == CONSOLE


@pytest.fixture
def with_toy(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Carries requests to an application that speaks a third dialect."""
    monkeypatch.setattr(web, "DIALECTS", (*web.DIALECTS, toy))
    return in_process(make_app())


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/toy/view", {"yes": "user"}),
        ("GET", "/toy/check", {"yes": "user"}),
        ("GET", "/toy/nosuch", {"no": "NotFound", "at": "/toy/nosuch"}),
        ("GET", "/toy", {"no": "NotFound", "at": "/toy"}),
        ("POST", "/toy/view", {"no": "MethodNotAllowed", "at": "/toy/view"}),
        ("GET", "/toy/crash", {"no": "ZeroDivisionError", "at": "/toy/crash"}),
    ],
)
def test_a_third_dialect_is_one_module_and_one_line(
    method: str, path: str, said: dict[str, str], with_toy: Send, token: str
) -> None:
    """Its views, its session checks and whatever goes wrong below its prefix are answered in its own words."""
    answer = with_toy(method, path, {"satoken": token}, b"")
    assert (answer.status, answer.json) == (418 if "no" in said else 200, said)


@pytest.mark.parametrize("path", ["/toy/view", "/toy/check"])
def test_a_third_dialect_refuses_in_its_own_words(path: str, with_toy: Send) -> None:
    """What the service refuses, whether Flask is asked or not."""
    answer = with_toy("GET", path, {"satoken": "x"}, b"")
    assert (answer.status, answer.json) == (418, {"no": "TokenInvalid", "at": path})


@pytest.mark.parametrize("path", ["/nosuch", "/toys", "/api/auth/nosuch"])
def test_a_third_dialect_takes_nothing_from_the_others(path: str, with_toy: Send) -> None:
    """A path that is not below its prefix is answered as ever."""
    assert Auth.verdict(with_toy("GET", path, {}, b"")) == UNKNOWN_PATH.auth

"""CORS: which other sites' pages may use the service."""

import pytest

from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import Answer, Auth, Console, in_process
from tests.refusals import CROSS_SITE

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

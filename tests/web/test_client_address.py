"""Where a request comes from, as the account's last login tells it."""

import pytest
from flask import Flask

from authsvc.web.request import Proxies, client_address
from tests.conftest import Log, MakeApp
from tests.databases import PASSWORD, Databases
from tests.doors import IN, WRONG, door_of, throttled

PEER, CLIENT, PROXY = "127.0.0.1", "203.0.113.7", "192.0.2.80"
GARBAGE = [
    "unknown", "garbage", f"{CLIENT}:1234", "[2001:db8::7]", "[2001:db8::7]:443",
    "2001:db8::/64", "203.0.113", "203.0.113.256", "203.0.113.07", "3405803783", "0xcb.0.113.7",
    "２０３.0.113.7", f"{CLIENT} {CLIENT}", f"{CLIENT}\x00", f"{CLIENT}\r\nsatoken: x", "é" * 1000,
    f"for={CLIENT}", "<script>", "9" * 5000,
]  # fmt: skip
MANY = ", ".join(f"198.51.100.{number}" for number in range(200))


@pytest.fixture
def databases(sqlite: Databases) -> Databases:
    """Where a client is, is known before any database is asked: one kind will do."""
    return sqlite


def seen(app: Flask, forwarded: str | None, peer: str = PEER) -> str:
    """The address that a login is noted with. The header comes as a server would hand it over, whatever it holds."""
    environ = {"REMOTE_ADDR": peer, **({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})}
    form = {"key": "user", "password": PASSWORD}
    answer = app.test_client().post("/AccAdmin/doLogin", data=form, environ_overrides=environ)
    return str(answer.get_json()["data"]["admin"]["loginIp"])


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        pytest.param(0, None, PEER, id="nobody forwards"),
        pytest.param(0, CLIENT, PEER, id="nobody is trusted"),
        pytest.param(1, None, PEER, id="a proxy that says nothing"),
        pytest.param(1, "", PEER, id="an empty header"),
        pytest.param(1, CLIENT, CLIENT, id="a proxy"),
        pytest.param(1, f"10.0.0.1, {CLIENT}", CLIENT, id="what the client claims is to the left"),
        pytest.param(1, f"garbage,,{CLIENT}", CLIENT, id="garbage to the left"),
        pytest.param(1, f"{MANY}, {CLIENT}", CLIENT, id="200 hops"),
        pytest.param(2, f"{CLIENT}, {PROXY}", CLIENT, id="two proxies"),
        pytest.param(2, f"10.0.0.1, {CLIENT}, {PROXY}", CLIENT, id="two proxies, and a claim"),
        pytest.param(2, f"{MANY}, {CLIENT}, {PROXY}", CLIENT, id="two proxies, and 200 claims"),
        pytest.param(2, CLIENT, PEER, id="fewer hops than proxies"),
        pytest.param(1, f"\t {CLIENT} ", CLIENT, id="spaces"),
        pytest.param(1, "2001:DB8:0::7", "2001:db8::7", id="IPv6"),
        pytest.param(1, f"::ffff:{CLIENT}", CLIENT, id="mapped"),
        pytest.param(1, "::FFFF:CB00:7107", CLIENT, id="mapped, in hexadecimal"),
    ],
)
def test_the_client_is_the_peer_or_the_hop_that_is_trusted(
    make_app: MakeApp, trusted: int, forwarded: str | None, address: str
) -> None:
    """The last trusted proxy's word counts, and nobody's before it."""
    app = make_app(AUTHSVC_TRUSTED_PROXIES=str(trusted))
    assert seen(app, forwarded) == address


def test_a_word_that_is_no_address_leaves_the_peer(make_app: MakeApp) -> None:
    """Names, ports, brackets, other alphabets, line breaks: nothing breaks, and nobody becomes somebody else."""
    app = make_app(AUTHSVC_TRUSTED_PROXIES="1")
    assert {word: seen(app, word) for word in GARBAGE} == dict.fromkeys(GARBAGE, PEER)


@pytest.mark.parametrize("forwarded", ["fe80::1%eth0", "2001:db8::%\x1b[31mred", f"::ffff:{CLIENT}%x"])
def test_a_zone_is_no_part_of_an_address(make_app: MakeApp, forwarded: str) -> None:
    """What may follow a `%` is any text: it is not noted, and makes nobody another client."""
    assert "%" not in seen(make_app(AUTHSVC_TRUSTED_PROXIES="1"), forwarded)


@pytest.mark.parametrize(
    ("peer", "address"), [("", "unknown"), ("unix:", "unknown"), (f"::ffff:{CLIENT}", CLIENT), ("::1", "::1")]
)
def test_a_peer_without_an_address_is_unknown(make_app: MakeApp, peer: str, address: str) -> None:
    """A UNIX socket has none: nothing breaks."""
    assert seen(make_app(), None, peer) == address


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "unknown"),
        ({"REMOTE_ADDR": "fe80::1%eth0"}, "fe80::1"),
        ({"REMOTE_ADDR": f"{'FFFF:' * 6}255.255.255.255"}, "ffff:" * 7 + "ffff"),
    ],
)
def test_an_address_is_in_its_canonical_form(environ: dict[str, str], address: str) -> None:
    """However a server or a proxy spells it, at any length; without a zone."""
    assert client_address(environ) == address


@pytest.mark.parametrize(
    ("headers", "address", "scheme"),
    [
        ({}, PEER, "https"),
        ({"HTTP_X_FORWARDED_FOR": f"10.0.0.1,{CLIENT}"}, CLIENT, "https"),
        ({"HTTP_X_FORWARDED_PROTO": "http"}, PEER, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "https, http"}, PEER, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "wss"}, PEER, "https"),
    ],
)
def test_a_trusted_proxy_says_who_asks_and_over_what(headers: dict[str, str], address: str, scheme: str) -> None:
    """Its word is the last of a list, with or without a space before it; what it does not say stays as it is."""
    environ = {"REMOTE_ADDR": PEER, "wsgi.url_scheme": "https", **headers}
    Proxies(1).believe(environ)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (address, scheme)


def test_who_is_not_trusted_changes_nothing(log: Log) -> None:
    """That somebody tried is a warning."""
    said = {"HTTP_X_FORWARDED_FOR": CLIENT, "HTTP_X_FORWARDED_PROTO": "https"}
    environ = {"REMOTE_ADDR": PEER, "wsgi.url_scheme": "http", **said}
    Proxies(0).believe(environ)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (PEER, "http")
    assert [line["id"] for line in log.lines("setting.risky")] == ["authsvc.W004"]


def test_clients_behind_a_proxy_are_counted_apart(make_app: MakeApp) -> None:
    """With the proxy trusted, one client's guesses do not stop another."""
    door = door_of(make_app(AUTHSVC_TRUSTED_PROXIES="1"))
    assert [door("a-wrong-guess", forwarded=CLIENT) for _ in range(5)] == [WRONG] * 5
    assert door(PASSWORD, forwarded=CLIENT) == throttled(300)
    assert door(PASSWORD, forwarded="203.0.113.8") == IN


def test_nobody_chooses_the_address_he_is_counted_by(make_app: MakeApp) -> None:
    """Without a trusted proxy the header is anybody's: other claims win no other tries."""
    door = door_of(make_app())
    assert [door("a-wrong-guess", forwarded=f"203.0.113.{number}") for number in range(5)] == [WRONG] * 5
    assert door(PASSWORD, forwarded=CLIENT) == throttled(300)


def test_a_proxy_that_nobody_trusts_is_a_warning_once(make_app: MakeApp, log: Log) -> None:
    """Whoever forgot the setting finds it named in the log, not in every line of it."""
    door = door_of(make_app())
    for _ in range(3):
        door(PASSWORD, forwarded=CLIENT)
    (line,) = log.lines("setting.risky")
    assert (line["level"], line["id"]) == ("WARNING", "authsvc.W004")
    assert "X-Forwarded-For" in line["risk"]
    assert "AUTHSVC_TRUSTED_PROXIES" in line["hint"]


@pytest.mark.parametrize(("trusted", "forwarded"), [("0", None), ("1", CLIENT)])
def test_what_is_set_up_well_is_no_warning(make_app: MakeApp, log: Log, trusted: str, forwarded: str | None) -> None:
    """Neither without a proxy nor with one that is trusted."""
    door_of(make_app(AUTHSVC_TRUSTED_PROXIES=trusted))(PASSWORD, forwarded=forwarded)
    assert log.lines("setting.risky") == []

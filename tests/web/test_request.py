"""What a request carries: its token, and whose it is."""

import pytest

from tests.conftest import MakeApp
from tests.databases import PASSWORD
from tests.dialects import Auth, Console, in_process
from tests.refusals import TOKEN_INVALID, TOKEN_MISSING

# What is sent, "T" standing for a live token; and what becomes of it.
LIVE, MISSING, INVALID = "live", TOKEN_MISSING.reason, TOKEN_INVALID.reason
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

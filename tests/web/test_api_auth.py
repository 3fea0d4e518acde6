"""What only the `/api/auth` dialect has: its documents, its cookie, and verify."""

from urllib.parse import unquote

import pytest

from tests.conftest import Commands, MakeApp
from tests.databases import PASSWORD, PHONE
from tests.description import described
from tests.dialects import Ask, Auth, in_process
from tests.refusals import BAD_PARAMETER, PERMISSION_MISSING, TOKEN_REVOKED, WRONG_CREDENTIALS

ADMIN = '{"id": 1, "username": "admin", "disabled": false, "role": "admin", "permission": 0, "otp": false}'


def test_login_answers_as_the_document_says(auth: Auth) -> None:
    """Every field, in the document's order and of its types, and no `msg`."""
    assert auth.login("admin", PASSWORD).body.decode() == f'{{"code": 200, "data": {ADMIN}}}'


def test_login_works_as_the_document_says(auth: Auth) -> None:
    """By GET, with the parameters in the URL."""
    assert auth.ask("/login", Ask(method="GET", query=f"NAME=admin&password={PASSWORD}")).status == 200


def test_a_refusal_reads_as_the_document_says(auth: Auth, token: str) -> None:
    """The status phrase, and the reason below it."""
    auth.logout(token)
    body = auth.whoami(token).body.decode()
    assert body == f'{{"code": 403, "msg": "Forbidden", "data": {{"reason": "{TOKEN_REVOKED.reason}"}}}}'


def test_logout_answers_as_the_document_says(auth: Auth, token: str) -> None:
    """Exactly this, nothing more."""
    assert auth.logout(token).body.decode() == '{"code": 200}'


@pytest.mark.parametrize("username", ["2", PHONE])
def test_only_names_log_in_here(username: str, auth: Auth) -> None:
    """Neither an id nor a phone is a username."""
    assert auth.verdict(auth.login(username, PASSWORD)) == WRONG_CREDENTIALS.auth


def test_names_are_told_as_typed(auth: Auth, command: Commands) -> None:
    """However somebody writes it at login; and Chinese is sent as such."""
    command("account", "add", "Ｚｏë 张", "--password-stdin", stdin=PASSWORD)
    assert '"username": "Ｚｏë 张"' in auth.login("zoë 张", PASSWORD).body.decode()


# The cookie, and the header beside it


def test_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use(auth: Auth) -> None:
    """The cookie is the token; the same token stands in a header for callers without a cookie jar."""
    answer = auth.login("user", PASSWORD)
    assert answer.cookie == ["satoken", answer.headers["satoken"], "HttpOnly", "Path=/", "SameSite=Lax"]


@pytest.mark.parametrize(("proxies", "secure"), [("0", False), ("1", True)])
def test_the_cookie_is_secure_over_https(proxies: str, secure: bool, make_app: MakeApp) -> None:
    """And no other host can set it, by its name; as the trusted proxy tells it, without one nobody is believed."""
    auth = Auth(described(in_process(make_app(AUTHSVC_TRUSTED_PROXIES=proxies))))
    headers = {"X-Forwarded-Proto": "https"}
    answers = [auth.login("user", PASSWORD, headers=headers), auth.call("POST", "/logout", headers=headers)]
    assert ["Secure" in answer.cookie for answer in answers] == [secure, secure]
    assert {answer.cookie[0] for answer in answers} == {"__Host-satoken" if secure else "satoken"}


@pytest.mark.parametrize("token", [None, "garbage", "live"])
def test_logout_clears_the_cookie(token: str | None, auth: Auth) -> None:
    """Whether there was something to end or not."""
    answer = auth.logout(auth.token("user", PASSWORD) if token == "live" else token)
    assert answer.cookie[:2] == ["satoken", ""]
    assert {"Max-Age=0", "Path=/", "HttpOnly", "SameSite=Lax"} < set(answer.cookie)


def test_a_refused_login_sets_nothing(auth: Auth, token: str) -> None:
    """Neither cookie nor header: what the browser has stays."""
    answer = auth.login("user", "wrong", token=token)
    assert not {"Set-Cookie", "satoken"} & set(answer.headers.keys())


# Who am I


def test_who_am_i_answers_like_login(auth: Auth) -> None:
    """The same data, and no new session: no cookie, no token."""
    login = auth.login("user", PASSWORD)
    answer = auth.whoami(login.headers["satoken"])
    assert answer.body == login.body
    assert not {"Set-Cookie", "satoken"} & set(answer.headers.keys())


@pytest.mark.parametrize("sent", ["username=user", "username=", "password=x", "password"])
def test_with_name_or_password_it_is_a_login(sent: str, auth: Auth, token: str) -> None:
    """A token makes up for neither of them."""
    assert auth.ask("/login", Ask(body=sent), token).status == 400


# Verify


def test_verify_answers_like_login(auth: Auth, command: Commands) -> None:
    """With the account in the body, and in headers for nginx to pass on."""
    command("account", "set", "user", "--permission", "5")
    login = auth.login("user", PASSWORD)
    answer = auth.verify(login.headers["satoken"])
    assert (answer.body, answer.data["permission"]) == (login.body, 5)
    assert [answer.headers[f"Remote-{name}"] for name in ("Id", "User", "Role")] == ["2", "user", "user"]


def test_verify_answers_head(auth: Auth, token: str) -> None:
    """With the same status and headers, and nothing else."""
    answers = [auth.verify(token, method=method) for method in ("GET", "HEAD")]
    names = ("Remote-Id", "Remote-User", "Remote-Role", "Content-Type", "Content-Length")
    assert [[answer.headers[name] for name in names] for answer in answers] == [
        [answers[0].headers[name] for name in names]
    ] * 2
    assert answers[1].body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_verify_takes_no_other_method(method: str, auth: Auth, token: str) -> None:
    """It changes nothing."""
    answer = auth.verify(token, method=method)
    assert (answer.status, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS"})


@pytest.mark.parametrize("name", ["Zoë", "张三", "50%", "100%25", "a b", "o'brien&co", "😀"])
def test_any_name_fits_in_a_header(name: str, auth: Auth, command: Commands) -> None:
    """Percent-encoded where it is not plain ASCII, so that two names never look alike."""
    command("account", "add", "--password-stdin", "--", name, stdin=PASSWORD)
    user = auth.verify(auth.token(name, PASSWORD)).headers["Remote-User"]
    assert (user.isascii(), unquote(user)) == (True, name)


def test_a_refused_verify_names_the_scheme(auth: Auth) -> None:
    """As RFC 6750 has it, and without a word about any account."""
    answer = auth.verify("garbage")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert not [name for name in answer.headers.keys() if name.startswith("Remote-")]  # noqa: SIM118


@pytest.mark.parametrize(
    ("permission", "verdict"),
    [
        ("in-system", (200, None)),
        ("IN-SYSTEM", PERMISSION_MISSING.auth),
        ("in", PERMISSION_MISSING.auth),
        ("bas dev", PERMISSION_MISSING.auth),
        ("", BAD_PARAMETER.of("permission is empty").auth),
        ("x" * 257, BAD_PARAMETER.of("permission is longer than 256 characters").auth),
        ("a\0", BAD_PARAMETER.of("permission is not text").auth),
    ],
)
def test_verify_asks_for_a_permission(permission: str, verdict: tuple[int, str | None], auth: Auth) -> None:
    """The role grants this very code, or it does not."""
    assert auth.verdict(auth.verify(auth.token("admin", PASSWORD), permission)) == verdict


def test_a_permission_is_asked_for_once(auth: Auth, token: str) -> None:
    """A proxy that appends its own to a caller's must not be fooled by either."""
    answer = auth.call("GET", "/verify?permission=bas&permission=x", token=token)
    assert auth.verdict(answer) == BAD_PARAMETER.of("permission is sent more than once").auth


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}])
def test_looking_is_allowed_to_every_site(headers: dict[str, str], auth: Auth, token: str) -> None:
    """Only what changes something is refused."""
    assert auth.call("GET", "/verify", token=token, headers=headers).status == 200

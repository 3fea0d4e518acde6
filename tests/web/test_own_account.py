"""What `/api/auth` and the console's password page answer to whoever changes the own account."""

import json
from typing import Any
from urllib.parse import urlencode

import pyotp
import pytest
from flask import Flask

from tests.conftest import Authenticator, Clock, Commands, Log, World
from tests.databases import PASSWORD
from tests.description import described
from tests.dialects import FORM, JSON, Answer, Ask, Auth, Console, in_process
from tests.doors import IN, WRONG, Door
from tests.refusals import (
    BAD_PARAMETER,
    CODE_REQUIRED,
    CROSS_SITE,
    OTP_IS_OFF,
    OTP_IS_ON,
    OTP_NOT_BEGUN,
    THROTTLED,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKEN_REVOKED,
    TOO_LARGE,
    UNKNOWN_PATH,
    UNREADABLE_BODY,
    WRONG_CODE,
    WRONG_CREDENTIALS,
    WRONG_METHOD,
    WRONG_TYPE,
    Refused,
)

NEW, GUESS, HOME = "a-new-password-of-mine", "not-the-password", "127.0.0.1"
POSTED = {
    "/sessions/end": {"password": PASSWORD, "session": "others"},
    "/otp": {"password": PASSWORD},
    "/otp/confirm": {"otp_code": "123456"},
    "/otp/recovery": {"password": PASSWORD, "otp_code": "123456"},
    "/otp/off": {"password": PASSWORD, "otp_code": "123456"},
}
"""What is posted, and all that it takes."""
CLEARED = ["satoken", "", "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "HttpOnly", "Max-Age=0", "Path=/", "SameSite=Lax"]


class PasswordPage(Console):
    """`/AdminPassword`."""

    prefix = "/AdminPassword"

    def update(self, token: str | None, old: str = PASSWORD, new: str = NEW, **headers: str) -> Answer:
        """Ask for a new password."""
        return self.call("POST", "/update", form={"oldPwd": old, "newPwd": new}, token=token, headers=headers)


@pytest.fixture
def page(app: Flask) -> PasswordPage:
    """The console's own password page; every answer must be as described."""
    return PasswordPage(described(in_process(app)))


def post(auth: Auth, path: str, token: str | None, **form: str) -> Answer:
    """Post a form."""
    return auth.call("POST", path, form=form, token=token)


def exactly(document: object) -> str:
    """The very text of a JSON answer, order and types included."""
    return json.dumps(document, ensure_ascii=False)


# Documents


def test_sessions_are_listed_as_promised(auth: Auth, clock: Clock, query: Any) -> None:
    """Every field in its order; what was used last comes first; neither idle ones nor other accounts' are there."""
    auth.token("user", PASSWORD)  # idles out
    clock.advance(3500)
    first, second = (
        auth.login("user", PASSWORD, headers={"User-Agent": agent}).headers["satoken"] for agent in ("one", "Zoë\x7f")
    )
    auth.token("admin", PASSWORD)
    clock.advance(70)
    auth.verify(second)
    clock.advance(30)
    auth.verify(first)
    answer = auth.call("GET", "/sessions", token=second)
    used, asking = (session["id"] for session in answer.data["sessions"])
    opened, ends = "2026-02-02T03:38:20+00:00", {"ends": "2026-02-02T15:38:20+00:00", "address": HOME}
    sessions = [
        {
            "id": used,
            "opened": opened,
            "last_seen": "2026-02-02T03:40:00+00:00",
            **ends,
            "user_agent": "one",
            "current": False,
        },
        {
            "id": asking,
            "opened": opened,
            "last_seen": "2026-02-02T03:39:30+00:00",
            **ends,
            "user_agent": "Zoë?",
            "current": True,
        },
    ]
    assert answer.body.decode() == exactly({"code": 200, "data": {"sessions": sessions}})
    hashes = {bytes(row.id_hash).hex()[:32] for row in query("SELECT id_hash FROM session WHERE account_id = 2")}
    assert {used, asking} < hashes


def test_ending_says_how_many(auth: Auth, token: str) -> None:
    """All others, one, none."""
    others = [auth.token("user", PASSWORD) for _ in range(3)]
    (mine,) = (each for each in auth.call("GET", "/sessions", token=others[0]).data["sessions"] if each["current"])

    def end(session: str) -> str:
        answer = post(auth, "/sessions/end", token, password=PASSWORD, session=session)
        assert "Set-Cookie" not in answer.headers
        return answer.body.decode()

    assert [end(each) for each in (mine["id"], mine["id"], "others", "others")] == [
        exactly({"code": 200, "data": {"ended": number}}) for number in (1, 0, 2, 0)
    ]


def test_ending_ones_own_session_is_a_logout(auth: Auth, token: str, log: Log) -> None:
    """The cookie is cleared, the token is dead, and the log calls it a logout."""
    (mine,) = auth.call("GET", "/sessions", token=token).data["sessions"]
    answer = post(auth, "/sessions/end", token, password=PASSWORD, session=mine["id"])
    assert (answer.data, answer.cookie) == ({"ended": 1}, CLEARED)
    assert auth.verdict(auth.whoami(token)) == TOKEN_REVOKED.auth
    assert [line["account_id"] for line in log.lines("logout", "session.ended")] == [2]
    assert len(log.lines("logout")) == 1


def test_two_step_verification_from_beginning_to_end(auth: Auth, token: str, clock: Clock) -> None:
    """Begin, confirm, new recovery codes, off: each answers with what is promised, in its order, and nothing else."""
    begun = post(auth, "/otp", token, password=PASSWORD)
    assert list(begun.data) == ["secret", "uri", "qr"]
    totp = pyotp.parse_uri(begun.data["uri"])
    assert isinstance(totp, pyotp.TOTP)
    assert (totp.secret, totp.name, totp.issuer) == (begun.data["secret"], "user", "authsvc")
    confirmed = post(auth, "/otp/confirm", token, otp_code=totp.at(int(clock())))
    clock.advance(30)
    renewed = post(auth, "/otp/recovery", token, password=PASSWORD, otp_code=totp.at(int(clock())))
    assert [list(answer.data) for answer in (confirmed, renewed)] == [["recovery_codes"]] * 2
    assert len({*confirmed.data["recovery_codes"], *renewed.data["recovery_codes"]}) == 20
    clock.advance(30)
    off = post(auth, "/otp/off", token, password=PASSWORD, otp_code=totp.at(int(clock())))
    assert off.body.decode() == exactly({"code": 200})
    assert auth.whoami(token).data["otp"] is False


def test_json_does_as_well(auth: Auth, token: str) -> None:
    """As of a form, each parameter must be text there."""
    for value, verdict in ((PASSWORD, (200, None)), (1, BAD_PARAMETER.of("password is not text").auth)):
        body = json.dumps({"password": value, "session": "others"}).encode()
        answer = auth.call("POST", "/sessions/end", body=body, headers={"Content-Type": JSON}, token=token)
        assert auth.verdict(answer) == verdict


# Refusals

DEAD = [
    pytest.param(lambda _, __: None, TOKEN_MISSING, id="missing"),
    pytest.param(lambda _, token: token[:-5], TOKEN_INVALID, id="invalid"),
    pytest.param(lambda world, token: world.auth.logout(token) and token, TOKEN_REVOKED, id="revoked"),
    pytest.param(lambda world, token: world.clock.advance(43201) or token, TOKEN_EXPIRED, id="expired"),
    pytest.param(
        lambda world, token: world.command("account", "disable", "user") and token, TOKEN_REVOKED, id="disabled"
    ),
]


@pytest.mark.parametrize(("spoil", "refused"), DEAD)
def test_without_a_live_token_nothing_else_matters(
    world: World, token: str, spoil: Any, refused: Refused, query: Any
) -> None:
    """403 and the token's reason, whatever the parameters are, and whether there are any; nothing is charged."""
    auth, dead = world.auth, spoil(world, token)
    answers = [auth.call("GET", "/sessions", token=dead)]
    answers += [post(auth, path, dead, **form) for path, form in POSTED.items()]
    answers += [post(auth, path, dead, password=GUESS, otp_code="") for path in POSTED]
    answers += [
        auth.call("POST", path, body=b"[", headers={"Content-Type": "text/plain"}, token=dead) for path in POSTED
    ]
    assert {auth.verdict(answer) for answer in answers} == {refused.auth}
    assert query("SELECT * FROM counter") == []


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    "header",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Sec-Purpose": "prefetch"},
    ],
)
def test_other_sites_change_nothing(auth: Auth, token: str, path: str, header: dict[str, str]) -> None:
    """A browser that is sent by another site is refused."""
    answer = auth.call("POST", path, form=POSTED[path], token=token, headers=header)
    assert auth.verdict(answer) == CROSS_SITE.auth


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_what_changes_something_is_posted(auth: Auth, token: str, path: str, method: str) -> None:
    """Any other method is not allowed, and says which is."""
    answer = auth.call(method, f"{path}?{urlencode(POSTED[path])}", token=token)
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT"])
def test_the_list_is_got(auth: Auth, token: str, method: str) -> None:
    """Any other method is not allowed."""
    answer = auth.call(method, "/sessions", token=token)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, OPTIONS")


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, form in POSTED.items() for name in form if name != "otp_code"]
)  # fmt: skip
@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ("", "is missing"),
        ("NAME=", "is empty"),
        ("NAME=x&NAME=x", "is sent more than once"),
        ("NAME=%00", "is not text"),
        ("NAME=%ff", "is not text"),
        ("NAME=%ED%A0%80", "is not text"),
        (f"NAME={'x' * 257}", "is longer than 256 characters"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(
    auth: Auth, token: str, path: str, name: str, sent: str, problem: str
) -> None:
    """400 says which and why."""
    rest = urlencode({other: text for other, text in POSTED[path].items() if other != name})
    body = "&".join(filter(None, [rest, sent.replace("NAME", name)])).encode()
    answer = auth.call("POST", path, body=body, headers={"Content-Type": FORM}, token=token)
    assert auth.verdict(answer) == BAD_PARAMETER.of(f"{name} {problem}").auth


@pytest.mark.parametrize(
    ("sent", "problem"), [("", "is missing"), ("otp_code=", "is empty"), ("otp_code=%00", "is not text")]
)
def test_to_confirm_takes_a_code(auth: Auth, token: str, sent: str, problem: str) -> None:
    """There an empty one is none, too."""
    answer = auth.call("POST", "/otp/confirm", body=sent.encode(), headers={"Content-Type": FORM}, token=token)
    assert auth.verdict(answer) == BAD_PARAMETER.of(f"otp_code {problem}").auth


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    ("ask", "refused"),
    [
        (Ask(body="[", type=JSON), UNREADABLE_BODY),
        (Ask(body='{"password": 1', type=JSON), UNREADABLE_BODY),
        (Ask(body="x", type="text/plain"), WRONG_TYPE),
        (Ask(body="x=", length=16385), TOO_LARGE),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(auth: Auth, token: str, path: str, ask: Ask, refused: Refused) -> None:
    """In the words of the dialect."""
    assert auth.verdict(auth.ask(path, ask, token)) == refused.auth


def test_two_step_verification_is_where_it_has_to_be(auth: Auth, token: str, clock: Clock) -> None:
    """What is off is neither renewed nor turned off, what was not begun not confirmed, what is on not begun: 400."""
    for path in ("/otp/recovery", "/otp/off"):
        assert auth.verdict(post(auth, path, token, **POSTED[path])) == OTP_IS_OFF.auth
    assert auth.verdict(post(auth, "/otp/confirm", token, otp_code="123456")) == OTP_NOT_BEGUN.auth
    secret = post(auth, "/otp", token, password=PASSWORD).data["secret"]
    post(auth, "/otp/confirm", token, otp_code=pyotp.TOTP(secret).at(int(clock())))
    for path in ("/otp", "/otp/confirm"):
        assert auth.verdict(post(auth, path, token, **POSTED[path])) == OTP_IS_ON.auth


# The console's password page


def test_the_console_changes_its_password(page: PasswordPage, world: World, door: Door) -> None:
    """The answer says just that it is done; the console's session lives on under its token, the others end."""
    token, other = (world.console.token("user", PASSWORD) for _ in range(2))
    answer = page.update(token)
    assert answer.body.decode() == exactly({"code": 200, "msg": "ok", "data": None})
    assert "Set-Cookie" not in answer.headers
    assert world.console.info(token).json["code"] == 200
    assert world.auth.verdict(world.auth.whoami(other)) == TOKEN_REVOKED.auth
    assert [door(password) for password in (NEW, PASSWORD)] == [IN, WRONG]


@pytest.mark.parametrize(
    "ask",
    [
        Ask(method="GET", query=f"oldPwd={PASSWORD}&newPwd={NEW}"),
        Ask(query=f"oldPwd={PASSWORD}&newPwd={NEW}"),
        Ask(body=f"oldPwd={PASSWORD}&newPwd={NEW}&id=7&newPwd2={'x' * 300}"),
        Ask(body=json.dumps({"oldPwd": PASSWORD, "newPwd": NEW, "id": None}), type=JSON),
    ],
    ids=["GET", "query", "form", "JSON"],
)
def test_the_console_may_get_and_post(page: PasswordPage, token: str, door: Door, ask: Ask) -> None:
    """Parameters come as at doLogin, and others are ignored."""
    assert page.verdict(page.ask("/update", ask, token)) == (200, "ok")
    assert door(NEW) == IN


@pytest.mark.parametrize(("spoil", "refused"), DEAD)
def test_the_console_without_a_live_token_is_logged_out(
    page: PasswordPage, world: World, token: str, spoil: Any, refused: Refused
) -> None:
    """Code 401, whatever else is sent."""
    dead = spoil(world, token)
    assert {page.verdict(page.update(dead, *words)) for words in ((), (GUESS, "x"), ("", ""))} == {refused.console}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (GUESS, NEW, "旧密码输入错误"),
        (GUESS, "short", "旧密码输入错误"),
        (PASSWORD, "short-1", "新密码太短或太长"),
        (PASSWORD, "Password1", "新密码过于常见，请换一个"),
        (PASSWORD, "user-satoken-1", "新密码与账号、手机号或系统名称过于相近，请换一个"),
        (PASSWORD, "13800000000a", "新密码与账号、手机号或系统名称过于相近，请换一个"),
        ("", NEW, "请提供oldPwd与newPwd参数"),
        (PASSWORD, "", "请提供oldPwd与newPwd参数"),
        (PASSWORD, "x" * 257, "参数错误"),
        (PASSWORD, "a\x00bcdefgh", "参数错误"),
    ],
)
def test_the_console_is_told_why_in_chinese(
    page: PasswordPage, token: str, door: Door, old: str, new: str, message: str
) -> None:
    """Code 500, and nothing changes."""
    assert page.verdict(page.update(token, old, new)) == (500, message)
    assert door(PASSWORD) == IN


def test_the_consoles_wrong_password_is_a_wrong_guess(page: PasswordPage, auth: Auth, token: str, door: Door) -> None:
    """Here, at the other dialect's, and at a login, five in all."""
    wrong = {page.verdict(page.update(token, GUESS)) for _ in range(2)}
    assert wrong == {(500, "旧密码输入错误")}
    post(auth, "/otp", token, password=GUESS)
    assert [door(GUESS, at=HOME) for _ in range(2)] == [WRONG] * 2
    blocked = page.update(token)
    assert (page.verdict(blocked), blocked.headers["Retry-After"]) == (THROTTLED.of(300).console, "300")


def test_the_console_appends_the_code(page: PasswordPage, auth: Auth, command: Commands, clock: Clock) -> None:
    """As at a login; what is missing or wrong is told as there."""
    owner = Authenticator(command.json("account", "otp", "user"), clock)
    token = auth.token("user", f"{PASSWORD},{owner.code()}")
    olds = [PASSWORD, f"{PASSWORD},{owner.code()}", f"{PASSWORD},{owner.code(1)}"]
    assert [page.verdict(page.update(token, old)) for old in olds] == [
        CODE_REQUIRED.console, WRONG_CODE.console, (200, "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("header", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}])
def test_other_sites_do_not_reach_the_password_page(
    page: PasswordPage, token: str, door: Door, header: dict[str, str]
) -> None:
    """Code 403, and nothing changes."""
    assert page.verdict(page.update(token, **header)) == CROSS_SITE.console
    assert door(PASSWORD) == IN


def test_around_the_password_page_the_console_is_understood(page: PasswordPage, token: str) -> None:
    """Other paths and methods are told in its dialect."""
    assert page.verdict(page.call("POST", "/other", token=token)) == UNKNOWN_PATH.console
    assert page.verdict(page.call("PUT", "/update", token=token)) == WRONG_METHOD.console


# Logs


def test_no_secret_is_in_the_log(auth: Auth, page: PasswordPage, token: str, clock: Clock, log: Log) -> None:
    """Whatever is begun, confirmed, renewed, turned off, refused."""
    secret = post(auth, "/otp", token, password=PASSWORD).data["secret"]
    owner = Authenticator({"secret": secret, "recovery_codes": []}, clock)
    codes = [wrong := owner.wrong_code(), owner.code()]
    recovery = [
        *(post(auth, "/otp/confirm", token, otp_code=code).data.get("recovery_codes", []) for code in codes),
        post(auth, "/otp/recovery", token, password=PASSWORD, otp_code=wrong).data.get("recovery_codes", []),
    ]
    used = next(filter(None, recovery))
    post(auth, "/sessions/end", token, password=GUESS, session="others")
    post(auth, "/otp/off", token, password=f"{PASSWORD},{used[0]}")
    page.update(token, GUESS)
    page.update(token)
    assert [line["event"] for line in log.lines() if line["event"] != "request"] == [
        "reauthentication.refused", "otp.enabled", "reauthentication.refused", "reauthentication.refused",
        "otp.recovery_code_used", "otp.disabled", "password.refused", "password.changed",
    ]  # fmt: skip
    assert not [text for text in (secret, *codes, *used, PASSWORD, GUESS, NEW) if text in log.text]
    assert WRONG_CREDENTIALS.reason not in log.text

"""`POST /api/auth/password`: an account gives itself a new password."""

import json
from typing import Any

import pytest

from authsvc.passwords import Passwords
from tests.conftest import Authenticator, Clock, Commands, Log, MakeApp, World
from tests.databases import PASSWORD
from tests.dialects import JSON, Answer, Auth, in_process
from tests.doors import IN, WRONG, Door, at_once, throttled
from tests.hashers import WatchedHasher
from tests.refusals import (
    BAD_PARAMETER,
    CODE_REQUIRED,
    CROSS_SITE,
    THROTTLED,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKEN_REVOKED,
    WRONG_CODE,
    WRONG_CREDENTIALS,
    Refused,
)

NEW = "a-new-password-of-mine"
GUESS = "not-the-password"
HOME = "127.0.0.1"
WRONG_GUESS = WRONG_CREDENTIALS.auth
COMMON = "new_password is one of the most common passwords"
BLOCKED = THROTTLED.of(300).auth


def change(auth: Auth, token: str | None, password: str = PASSWORD, new: str = NEW, **more: Any) -> Answer:
    """Ask for a new password."""
    return auth.call("POST", "/password", form={"password": password, "new_password": new}, token=token, **more)


def test_the_new_password_is_in_force(auth: Auth, token: str, door: Door) -> None:
    """The answer says just that it is done; from then on only the new one is right."""
    assert change(auth, token).json == {"code": 200}
    assert [door(password) for password in (NEW, PASSWORD)] == [IN, WRONG]


def test_json_does_as_well(auth: Auth, token: str, door: Door) -> None:
    """Form or JSON."""
    body = json.dumps({"password": PASSWORD, "new_password": NEW}).encode()
    answer = auth.call("POST", "/password", body=body, headers={"Content-Type": JSON}, token=token)
    assert auth.verdict(answer) == (200, None)
    assert door(NEW) == IN


def test_every_session_ends_and_a_new_one_begins(world: World, token: str) -> None:
    """Its token is answered as a login's is, and good in both dialects; other accounts' sessions live on."""
    auth, console = world.auth, world.console
    others = [auth.token("user", PASSWORD), console.token("user", PASSWORD)]
    admin = auth.token("admin", PASSWORD)
    changed = change(auth, token)
    new_token = changed.headers["satoken"]
    assert changed.cookie == ["satoken", new_token, "HttpOnly", "Path=/", "SameSite=Lax"]
    assert [auth.verdict(auth.whoami(each)) for each in (token, *others)] == [TOKEN_REVOKED.auth] * 3
    assert [auth.verify(each).status for each in (new_token, admin)] == [200, 200]
    assert console.info(new_token).json["code"] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_it_is_posted(auth: Auth, token: str, door: Door, method: str) -> None:
    """Any other method is not allowed and changes nothing."""
    answer = auth.call(method, f"/password?password={PASSWORD}&new_password={NEW}", token=token)
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")
    assert door(PASSWORD) == IN


@pytest.mark.parametrize(
    ("spoil", "refused"),
    [
        pytest.param(lambda _, __: None, TOKEN_MISSING, id="missing"),
        pytest.param(lambda _, token: token[:-5], TOKEN_INVALID, id="invalid"),
        pytest.param(lambda world, token: world.auth.logout(token) and token, TOKEN_REVOKED, id="revoked"),
        pytest.param(lambda world, token: world.clock.advance(43201) or token, TOKEN_EXPIRED, id="expired"),
        pytest.param(
            lambda world, token: world.command("account", "disable", "user") and token,
            TOKEN_REVOKED,
            id="disabled",
        ),
    ],
)
def test_without_a_live_token_nothing_else_matters(
    world: World, token: str, spoil: Any, refused: Refused, query: Any
) -> None:
    """403 and the token's reason, whatever the parameters are; nobody guesses without a session."""
    assert world.auth.verdict(change(world.auth, spoil(world, token), GUESS, "short")) == refused.auth
    assert query("SELECT * FROM counter") == []


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"new_password": NEW}, "password is missing"),
        ({"password": PASSWORD}, "new_password is missing"),
        ({"password": PASSWORD, "new_password": ""}, "new_password is empty"),
        ({"password": PASSWORD, "new_password": "x" * 257}, "new_password is longer than 256 characters"),
        ({"password": PASSWORD, "new_password": "a\x00bcdefgh"}, "new_password is not text"),
        ({"password": PASSWORD, "new_password": "short-1"}, "new_password must have 8 to 256 characters"),
        ({"password": PASSWORD, "new_password": "Password1"}, COMMON),
        ({"password": PASSWORD, "new_password": "ａａａａａａａａ"}, COMMON),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_used_is_named(
    auth: Auth, token: str, door: Door, form: dict[str, str], reason: str, query: Any
) -> None:
    """400 says which and why; nothing changes, no guess is counted, the session lives on."""
    answer = auth.call("POST", "/password", form=form, token=token)
    assert auth.verdict(answer) == BAD_PARAMETER.of(reason).auth
    assert query("SELECT * FROM counter") == []
    assert door(PASSWORD) == IN
    assert auth.verify(token).status == 200


def test_the_present_password_is_looked_at_first(auth: Auth, token: str) -> None:
    """A wrong one is told before the new one is looked at."""
    assert auth.verdict(change(auth, token, GUESS, "short")) == WRONG_GUESS


def test_a_wrong_present_password_is_a_wrong_guess(auth: Auth, token: str, door: Door, query: Any) -> None:
    """Five here or at a login are five in all; then the right one is refused here and there."""
    for _ in range(2):
        assert auth.verdict(change(auth, token, GUESS)) == WRONG_GUESS
    assert [door(GUESS, at=HOME) for _ in range(3)] == [WRONG] * 3
    assert set(map(tuple, query("SELECT scope, count FROM counter"))) == {
        ("account_address", 5),
        ("address", 5),
        ("account", 5),
    }
    blocked = change(auth, token)
    assert (auth.verdict(blocked), blocked.headers["Retry-After"]) == (BLOCKED, "300")
    assert door(PASSWORD, at=HOME) == throttled(300)


def test_the_block_ends_with_its_window(auth: Auth, token: str, clock: Clock) -> None:
    """It stops no session: after five minutes the same one changes the password."""
    for _ in range(5):
        change(auth, token, GUESS)
    assert auth.verify(token).status == 200
    clock.advance(300)
    assert auth.verdict(change(auth, token)) == (200, None)


def test_a_change_forgives_nothing(auth: Auth, token: str, door: Door) -> None:
    """Only an opened session does."""
    for _ in range(4):
        change(auth, token, GUESS)
    change(auth, token)
    assert door(GUESS, at=HOME) == WRONG
    assert door(NEW, at=HOME) == throttled(300)


@pytest.mark.parametrize(("password", "hashes"), [(PASSWORD, 2), (GUESS, 1)])
def test_what_a_change_costs(make_app: MakeApp, hasher: WatchedHasher, password: str, hashes: int) -> None:
    """One hash to match and, if it matches, one to make; none at all once the counter is full."""
    auth = Auth(in_process(make_app(Passwords(hasher))))
    token = auth.token("user", PASSWORD)
    before = hasher.asked
    token = change(auth, token, password).headers.get("satoken", token)
    assert hasher.asked == before + hashes
    for _ in range(5):
        change(auth, token, GUESS)
    before = hasher.asked
    assert auth.verdict(change(auth, token)) == BLOCKED
    assert hasher.asked == before


def test_two_step_verification_is_asked_as_at_login(auth: Auth, command: Commands, clock: Clock) -> None:
    """In `otp_code` or behind the password; a code that is wrong, or was used, changes nothing."""
    owner = Authenticator(command.json("account", "otp", "user"), clock)
    code = owner.code()
    token = auth.token("user", f"{PASSWORD},{code}")
    form = {"password": PASSWORD, "new_password": NEW}
    assert auth.verdict(change(auth, token)) == CODE_REQUIRED.auth
    for wrong in (code, owner.wrong_code()):
        refused = auth.call("POST", "/password", form={**form, "otp_code": wrong}, token=token)
        assert auth.verdict(refused) == WRONG_CODE.auth
    changed = auth.call("POST", "/password", form={**form, "otp_code": owner.code(1)}, token=token)
    assert auth.verdict(changed) == (200, None)
    clock.advance(60)
    again = change(auth, changed.headers["satoken"], f"{NEW},{owner.code()}", PASSWORD)
    assert auth.verdict(again) == (200, None)


@pytest.mark.parametrize("header", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}])
def test_other_sites_change_nothing(auth: Auth, token: str, door: Door, header: dict[str, str]) -> None:
    """A browser that is sent by another site is refused."""
    assert auth.verdict(change(auth, token, headers=header)) == CROSS_SITE.auth
    assert door(PASSWORD) == IN


def test_the_log_says_what_happened(auth: Auth, token: str, log: Log) -> None:
    """Changed, or refused and why; with the account, and without a password."""
    for password, new in ((GUESS, NEW), (PASSWORD, "short"), (PASSWORD, NEW)):
        change(auth, token, password, new)
    lines = log.lines("password.refused", "password.changed")
    assert [(line["event"], line.get("cause"), line["account_id"]) for line in lines] == [
        ("password.refused", "wrong_password", 2),
        ("password.refused", "refused_password", 2),
        ("password.changed", None, 2),
    ]
    assert not any(password in log.text for password in (GUESS, PASSWORD, NEW))


# The new token, and the code


def test_whoever_changes_it_goes_on_under_a_new_token(world: World, token: str) -> None:
    """In header and cookie, as after a login; the old one, which may be in other hands, is refused at once."""
    auth = world.auth
    answer = change(auth, token)
    new = answer.headers["satoken"]
    (cookie,) = answer.headers.getlist("Set-Cookie")
    assert cookie == f"satoken={new}; HttpOnly; Path=/; SameSite=Lax"
    assert answer.json == {"code": 200}
    assert new != token
    assert auth.verdict(auth.verify(token)) == (401, TOKEN_REVOKED.reason)
    assert auth.verify(new).status == 200
    assert world.console.info(new).json["code"] == 200


def test_the_new_session_is_a_whole_one(world: World, token: str) -> None:
    """It lasts as long as one that was opened by a login, and is the account's only one."""
    world.clock.advance(3000)
    world.auth.verify(token)
    new = change(world.auth, token).headers["satoken"]
    (session,) = world.command.json("account", "sessions", "user")
    assert (session["opened"], session["ends"]) == ("2026-02-02T03:30:00+00:00", "2026-02-02T15:30:00+00:00")
    world.clock.advance(3599)
    assert world.auth.verify(new).status == 200


def test_a_refused_change_gives_no_token(auth: Auth, token: str) -> None:
    """And leaves the old one good."""
    for answer in (change(auth, token, GUESS), change(auth, token, new="short")):
        assert "satoken" not in answer.headers
        assert "Set-Cookie" not in answer.headers
    assert auth.verify(token).status == 200


def test_a_change_takes_the_one_time_code(
    auth: Auth, authenticator: Authenticator, door: Door, clock: Clock, query: Any
) -> None:
    """Where two-step verification is on: separate or appended, a wrong one is a wrong code, a used one, too."""
    login_code = authenticator.code()
    token = auth.token("user", f"{PASSWORD},{login_code}")

    def tried(**form: str) -> Any:
        answer = auth.call("POST", "/password", form={"password": PASSWORD, "new_password": NEW, **form}, token=token)
        return auth.verdict(answer), answer.headers.get("satoken")

    assert tried() == (CODE_REQUIRED.auth, None)
    assert tried(otp_code=authenticator.wrong_code()) == (WRONG_CODE.auth, None)
    assert tried(otp_code=login_code) == (WRONG_CODE.auth, None)
    assert query("SELECT count FROM counter WHERE scope = 'otp'") == [(2,)]
    assert query("SELECT otp_row FROM account WHERE id = 2") == [(2,)]
    clock.advance(30)
    verdict, new = tried(password=f"{PASSWORD},{authenticator.code()}")
    assert verdict == (200, None)
    assert auth.verify(new).status == 200
    assert query("SELECT otp_row FROM account WHERE id = 2") == [(0,)]
    clock.advance(30)
    assert door(NEW, code=authenticator.code()) == IN


def test_a_code_is_not_used_up_by_a_refused_new_password(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    """The new password is looked at before the code is."""
    token = auth.token("user", f"{PASSWORD},{authenticator.code()}")
    clock.advance(30)
    code = authenticator.code()
    statuses = [
        auth.call(
            "POST", "/password", form={"password": PASSWORD, "new_password": new, "otp_code": code}, token=token
        ).status
        for new in ("short", "satoken1", NEW)
    ]
    assert statuses == [400, 400, 200]


def test_a_recovery_code_changes_a_password_once(auth: Auth, authenticator: Authenticator) -> None:
    """As it opens a session."""
    first, second = authenticator.recovery_codes[:2]
    token = auth.token("user", f"{PASSWORD},{first}")
    answer = auth.call(
        "POST", "/password", form={"password": PASSWORD, "new_password": NEW, "otp_code": first}, token=token
    )
    assert auth.verdict(answer) == WRONG_CODE.auth
    answer = auth.call(
        "POST", "/password", form={"password": PASSWORD, "new_password": NEW, "otp_code": second}, token=token
    )
    assert auth.verdict(answer) == (200, None)


@pytest.mark.parametrize("new", ["user-user-user", "13800000000", "satoken-2026", "Authsvc-user1"])
def test_words_of_the_context_are_refused(auth: Auth, token: str, new: str) -> None:
    """Name, phone and this service's words."""
    reason = "new_password is little more than the account's name or phone, or a word of this service"
    assert auth.verdict(change(auth, token, new=new)) == BAD_PARAMETER.of(reason).auth


def test_the_least_length_holds_here(make_app: MakeApp) -> None:
    """AUTHSVC_PASSWORD_MIN."""
    auth = Auth(in_process(make_app(Passwords(WatchedHasher(), minimum=15))))
    token = auth.token("user", PASSWORD)
    reason = "new_password must have 15 to 256 characters"
    assert auth.verdict(change(auth, token, new="fourteen chars")) == BAD_PARAMETER.of(reason).auth
    assert auth.verdict(change(auth, token, new="fifteen chars--")) == (200, None)


def test_of_parallel_changes_one_wins(app: Any, auth: Auth) -> None:
    """From two sessions at the same moment: one new password, one session left, and the loser is told."""
    tokens = [auth.token("user", PASSWORD) for _ in range(2)]
    answers = at_once(
        *[
            lambda token=token, n=n: change(Auth(in_process(app)), token, new=NEW + str(n))
            for n, token in enumerate(tokens)
        ]
    )
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200, 403]
    ((winner, new),) = [(n, each.headers["satoken"]) for n, each in enumerate(answers) if each.status == 200]
    assert auth.verify(new).status == 200
    assert [auth.login("user", NEW + str(n)).status for n in (winner, 1 - winner)] == [200, 403]

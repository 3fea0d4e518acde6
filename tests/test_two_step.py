"""Two-step verification: how it is switched on and off, and which codes let whom in."""

import base64
import hashlib
import hmac
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import pyotp
import pytest
import segno
from cryptography.fernet import Fernet
from flask import Flask

from authsvc.otp import Seeds
from authsvc.passwords import Passwords
from authsvc.store.repository import Repository
from tests.conftest import Authenticator, Clock, Commands, Log, MakeApp
from tests.databases import PASSWORD, SECRET_KEY
from tests.dialects import JSON, Auth, Console, in_process
from tests.doors import CODE_REQUIRED, DISABLED, IN, WRONG, WRONG_CODE, Door, door_of
from tests.hashers import WatchedHasher
from tests.refusals import BAD_PARAMETER, TOKEN_REVOKED
from tests.servers import wait_for

GUESS = "not-the-password"
NEW_KEY = "the-key-that-comes-after-a-rotation-of-keys"
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

Query = Callable[..., list[Any]]
Login = Callable[[str], str]


@pytest.fixture
def login(door: Door, authenticator: Authenticator) -> Login:  # noqa: ARG001 - it is enrolled
    """Logs `user` in with the right password and a code, in the two ways to send one by turns."""
    separately = cycle([True, False])

    def login(code: str) -> str:
        return door(PASSWORD, code=code) if next(separately) else door(f"{PASSWORD},{code}")

    return login


# On and off


def test_an_enrolment_is_told_once_and_whole(command: Commands) -> None:
    """`--json`: the URI that apps read, the secret in it, and ten different recovery codes."""
    enrolment = command.json("account", "otp", "user")
    assert list(enrolment) == ["uri", "secret", "recovery_codes"]
    totp = pyotp.parse_uri(enrolment["uri"])
    assert isinstance(totp, pyotp.TOTP)
    assert (totp.secret, totp.name, totp.issuer) == (enrolment["secret"], "user", "authsvc")
    assert (totp.digits, totp.interval, totp.digest) == (6, 30, hashlib.sha1)
    assert len(set(enrolment["recovery_codes"])) == 10


def test_a_person_gets_a_qr_code(command: Commands) -> None:
    """Without `--json` the URI is also drawn, and each recovery code has a line."""
    shown = command("account", "otp", "user")
    uri, _, heading, *rest = shown.splitlines()
    expected = io.StringIO()
    segno.make(uri, micro=False).terminal(expected, compact=True)
    assert heading == "Recovery codes, each good once:"
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in rest[:10])
    assert rest[10:] == expected.getvalue().splitlines()


def test_it_is_in_force_at_once(door: Door, authenticator: Authenticator) -> None:
    """From then on the password alone does not do, and each dialect says so."""
    assert [door(PASSWORD) for _ in range(2)] == [CODE_REQUIRED] * 2
    assert door(PASSWORD, code=authenticator.code()) == IN


@pytest.mark.parametrize("change", [[], ["--off"]], ids=["on", "off"])
@pytest.mark.parametrize("before", ["off", "on"])
def test_a_change_ends_the_accounts_sessions(
    auth: Auth, command: Commands, clock: Clock, before: str, change: list[str]
) -> None:
    """Switched on, reset or off: whoever was in is out, and other accounts stay in."""
    password = PASSWORD
    if before == "on":
        password = f"{PASSWORD},{Authenticator(command.json('account', 'otp', 'user'), clock).code()}"
    token, other = auth.token("user", password), auth.token("admin", PASSWORD)
    command("account", "otp", "user", *change)
    assert auth.verdict(auth.verify(token)) == (401, TOKEN_REVOKED.reason)
    assert auth.verify(other).status == 200


def test_a_reset_replaces_seed_and_recovery_codes(
    door: Door, authenticator: Authenticator, command: Commands, clock: Clock
) -> None:
    """What was enrolled before is worth nothing, even if it was never used; nor do its used steps matter."""
    assert door(PASSWORD, code=authenticator.code(1)) == IN
    new = Authenticator(command.json("account", "otp", "user"), clock)
    assert door(PASSWORD, code=authenticator.recovery_codes[0]) == WRONG_CODE
    assert door(PASSWORD, code=authenticator.code()) == WRONG_CODE
    assert door(PASSWORD, code=new.code()) == IN


def test_off_is_off(door: Door, authenticator: Authenticator, command: Commands, query: Query) -> None:
    """The password alone does again, what looks like a code is part of it, and nothing is kept."""
    assert json.loads(command("account", "show", "user", "--json"))["otp"] is True
    command("account", "otp", "user", "--off")
    assert door(f"{PASSWORD},{authenticator.code()}") == WRONG
    assert door(PASSWORD) == IN
    assert json.loads(command("account", "show", "user", "--json"))["otp"] is False
    assert query("SELECT otp_seed FROM account WHERE id = 2") == [(None,)]
    assert query("SELECT * FROM recovery_code") == []


def test_nobody_cannot_be_enrolled(command: Commands) -> None:
    """A key that no account has is one clear line."""
    assert command.refusal("account", "otp", "nobody") == "no account has this key"


def test_what_is_stored_gives_nothing_away(authenticator: Authenticator, query: Query) -> None:
    """Of a seed there is only its encryption, of a recovery code only its hash."""
    ((seed,),) = query("SELECT otp_seed FROM account WHERE id = 2")
    hashes = {bytes(row[0]) for row in query("SELECT code_hash FROM recovery_code WHERE account_id = 2")}
    assert authenticator.seed not in seed
    assert hashes == {hashlib.sha256(code.encode()).digest() for code in authenticator.recovery_codes}


# Codes


@pytest.mark.parametrize(
    ("steps", "verdicts"),
    [
        ([-1, 0, 1], [IN, IN, IN]),
        ([-2], [WRONG_CODE]),
        ([2], [WRONG_CODE]),
        ([0, 0], [IN, WRONG_CODE]),
        ([1, 0], [IN, WRONG_CODE]),
        ([0, -1], [IN, WRONG_CODE]),
        ([1, -1, 0, 1], [IN, WRONG_CODE, WRONG_CODE, WRONG_CODE]),
    ],
)
def test_a_step_works_once_and_never_after_a_newer_one(
    login: Login, authenticator: Authenticator, steps: list[int], verdicts: list[str]
) -> None:
    """One step of skew either way; a used code, or an older one after it, is a wrong code."""
    assert [login(authenticator.code(step)) for step in steps] == verdicts


def test_a_used_code_is_used_on_every_replica(make_app: MakeApp, door: Door, authenticator: Authenticator) -> None:
    """What one process let in, another one, or the same after a restart, does not."""
    assert door(PASSWORD, code=authenticator.code()) == IN
    assert door_of(make_app())(PASSWORD, code=authenticator.code()) == WRONG_CODE


def test_a_wrong_password_uses_up_no_code(door: Door, authenticator: Authenticator) -> None:
    """The owner who mistypes the password can send the same code again."""
    assert door(GUESS, code=authenticator.code()) == WRONG
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_a_code_of_another_account_is_wrong(door: Door, authenticator: Authenticator, command: Commands) -> None:
    """Codes and recovery codes are good for their own account only."""
    command("account", "otp", "admin")
    for code in (authenticator.code(), authenticator.recovery_codes[0]):
        assert door(PASSWORD, "admin", code=code) == WRONG_CODE


@pytest.mark.parametrize(
    "garble",
    [
        lambda code: code.translate({ord("0") + digit: ord("０") + digit for digit in range(10)}),
        lambda code: code.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)}),
        lambda code: f"{code[:3]} {code[3:]}",
        lambda code: f" {code}",
        lambda code: f"{code} ",
        lambda code: code[:5],
        lambda code: f"{code}0",
        lambda code: f"0{code}",
        lambda code: f"+{code}",
        lambda code: f"{code},{code}",
    ],
    ids=["full-width", "Arabic", "spaced", "space before", "space after", "5", "7", "0 before", "sign", "twice"],
)
def test_only_six_ascii_digits_are_a_code(
    door: Door, authenticator: Authenticator, garble: Callable[[str], str]
) -> None:
    """Whatever else reads like the right code is a wrong one, in both dialects; the right one is still good then."""
    assert [door(PASSWORD, code=garble(authenticator.code())) for _ in range(2)] == [WRONG_CODE] * 2
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_leading_zeros_belong_to_a_code(login: Login, authenticator: Authenticator, clock: Clock) -> None:
    """A code that begins with 0 is good as it is shown; a number that has lost the 0 is not."""
    while not authenticator.code().startswith("0"):
        clock.advance(30)
    assert login(authenticator.code()) == IN


@pytest.mark.parametrize("value", ["{}", '"{}\\u0000"', '["{}"]', "true", "null", "{}.0"])
def test_a_code_that_is_no_text_is_no_parameter(
    app: Flask, authenticator: Authenticator, clock: Clock, value: str
) -> None:
    """A JSON number, to begin with: it is refused by name, before anything is charged or used up."""
    while authenticator.code().startswith("0"):  # no number in JSON
        clock.advance(30)
    code = authenticator.code()
    auth, console = Auth(in_process(app)), Console(in_process(app))
    for dialect, refusal in zip((auth, console), BAD_PARAMETER.of("otp_code is not text"), strict=True):
        text = value.replace("{}", code)
        body = f'{{"{dialect.name_parameter}": "user", "password": "{PASSWORD}", "otp_code": {text}}}'.encode()
        answer = dialect.call("POST", dialect.login_path, body=body, headers={"Content-Type": JSON})
        assert dialect.verdict(answer) == refusal
    assert door_of(app)(PASSWORD, code=code) == IN


def test_an_empty_code_is_none(door: Door, authenticator: Authenticator) -> None:
    """A field that was left empty counts as not sent; what is appended counts then."""
    assert [door(PASSWORD, code="") for _ in range(2)] == [CODE_REQUIRED] * 2
    assert door(f"{PASSWORD},{authenticator.code()}", code="") == IN


def test_a_code_for_an_account_without_is_not_looked_at(door: Door) -> None:
    """A client that always sends the field logs everybody in."""
    assert door(PASSWORD, code="123456") == IN


def test_disabled_is_told_only_after_the_code(door: Door, authenticator: Authenticator, command: Commands) -> None:
    """Whoever has only the password does not learn that the account is disabled."""
    command("account", "disable", "user")
    codes = [None, authenticator.wrong_code(), authenticator.code()]
    assert [door(PASSWORD, code=code) for code in codes] == [CODE_REQUIRED, WRONG_CODE, DISABLED]


def test_a_clock_that_is_off_is_told_to_the_log(
    login: Login, authenticator: Authenticator, clock: Clock, log: Log
) -> None:
    """Ninety seconds are refused; the log says by how much the clocks differ, and not what was sent."""
    code = authenticator.code()
    clock.advance(90)
    assert login(code) == WRONG_CODE
    (line,) = log.lines("otp.clock_suspected")
    assert (line["level"], line["account_id"], line["seconds_off"]) == ("WARNING", 2, -90)
    assert code not in log.text


@pytest.mark.parametrize("steps", [[0], [0, 0]], ids=["good", "used"])
def test_a_clock_that_is_right_is_not_suspected(
    login: Login, authenticator: Authenticator, log: Log, steps: list[int]
) -> None:
    """Neither a good code nor a used one says anything about clocks."""
    for step in steps:
        login(authenticator.code(step))
    assert log.lines("otp.clock_suspected") == []


# Appended


@pytest.mark.parametrize(("password", "verdict"), [(PASSWORD, IN), (GUESS, WRONG)])
def test_an_appended_code_costs_no_second_hash(
    make_app: MakeApp, authenticator: Authenticator, hasher: WatchedHasher, password: str, verdict: str
) -> None:
    """Right or wrong: the password is matched once, without what follows its last comma."""
    assert door_of(make_app(Passwords(hasher)))(f"{password},{authenticator.code()}") == verdict
    assert hasher.asked == 1


@pytest.mark.parametrize("password", ["horse,battery", "horse,battery,123456", f"p{'ä' * 247},"])
class TestPasswordsWithCommas:
    """Passwords that could be mistaken for a password and a code."""

    @pytest.fixture(autouse=True)
    def _set(self, command: Commands, password: str) -> None:
        command("account", "password", "user", "--password-stdin", stdin=password)

    def test_alone(self, door: Door, password: str) -> None:
        """Without two-step verification nothing is split off."""
        assert [door(password) for _ in range(2)] == [IN] * 2

    def test_with_a_separate_code(self, door: Door, password: str, authenticator: Authenticator) -> None:
        """With a separate code neither."""
        assert door(password, code=authenticator.code()) == IN

    def test_with_an_appended_code(self, door: Door, password: str, authenticator: Authenticator) -> None:
        """Only the last comma parts, and what is appended is the code."""
        assert door(f"{password},{authenticator.code()}") == IN


def test_a_password_that_ends_like_a_code_is_split(
    make_app: MakeApp, authenticator: Authenticator, hasher: WatchedHasher, command: Commands
) -> None:
    """Sent without a code, its `,123456` is taken for one: to try both readings would cost a second hash."""
    command("account", "password", "user", "--password-stdin", stdin=f"{PASSWORD},123456")
    door = door_of(make_app(Passwords(hasher)))
    assert door(f"{PASSWORD},123456") == WRONG
    assert hasher.asked == 1
    assert door(f"{PASSWORD},123456", code=authenticator.code()) == IN


def test_with_a_separate_code_nothing_is_split(door: Door, authenticator: Authenticator) -> None:
    """What is sent twice is a password that is wrong."""
    assert door(f"{PASSWORD},{authenticator.code()}", code=authenticator.code()) == WRONG


# Recovery codes


def test_each_recovery_code_is_good_once(login: Login, authenticator: Authenticator) -> None:
    """All ten, in any order; each a second time is a wrong code."""
    codes = authenticator.recovery_codes
    assert [login(code) for code in reversed(codes)] == [IN] * 10
    assert [login(code) for code in codes[:3]] == [WRONG_CODE] * 3


def test_a_recovery_code_does_not_touch_the_steps(door: Door, authenticator: Authenticator) -> None:
    """The app goes on as before."""
    for code in (authenticator.recovery_codes[0], authenticator.code(-1), authenticator.recovery_codes[1]):
        assert door(PASSWORD, code=code) == IN


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_an_enrolment_and_a_recovery_at_the_same_moment_both_succeed(
    app: Flask, authenticator: Authenticator, command: Commands, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset that begins while a recovery code is being used waits for it, and then ends its session.

    Only PostgreSQL locks rows, and could let the two wait for each other.
    """
    auth, count_login = Auth(in_process(app)), Repository.count_login
    with ThreadPoolExecutor(1) as administrator:
        reset = []

        def count_login_when_the_reset_waits(*arguments: Any, **values: Any) -> bool:
            reset.append(administrator.submit(command, "account", "otp", "user"))
            wait_for(lambda: query(WAITING))
            return count_login(*arguments, **values)

        monkeypatch.setattr(Repository, "count_login", count_login_when_the_reset_waits)
        token = auth.token("user", f"{PASSWORD},{authenticator.recovery_codes[0]}")
        reset[0].result()
    assert auth.verdict(auth.verify(token)) == (401, TOKEN_REVOKED.reason)


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
@pytest.mark.parametrize("change", [[], ["--off"]], ids=["on", "off"])
def test_a_recovery_during_a_change_comes_too_late(
    app: Flask,
    authenticator: Authenticator,
    command: Commands,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
) -> None:
    """The other way round: it waits, and its code is void then."""
    door, replace = door_of(app), Repository.replace_recovery_codes
    with ThreadPoolExecutor(1) as owner:
        login = []

        def replace_while_a_login_waits(*arguments: Any) -> None:
            replace(*arguments)
            login.append(owner.submit(door, PASSWORD, code=authenticator.recovery_codes[0]))
            wait_for(lambda: query(WAITING))

        monkeypatch.setattr(Repository, "replace_recovery_codes", replace_while_a_login_waits)
        command("account", "otp", "user", *change)
        assert login[0].result() == WRONG_CODE


@pytest.mark.parametrize("cut", [slice(0, -1), slice(1, None), slice(0, 14)])
def test_part_of_a_recovery_code_is_none(door: Door, authenticator: Authenticator, cut: slice) -> None:
    """Nothing but the whole."""
    assert door(PASSWORD, code=authenticator.recovery_codes[0][cut]) == WRONG_CODE


# Seeds


@pytest.mark.parametrize("stored", ["", "damaged", "gAAAAABdamaged="])
def test_a_damaged_seed_is_a_refused_code(
    login: Login, authenticator: Authenticator, query: Query, log: Log, stored: str
) -> None:
    """And an error in the log, by the account's id; a recovery code still opens the door."""
    query("UPDATE account SET otp_seed = :stored WHERE id = 2", stored=stored)
    assert [login(authenticator.code()) for _ in range(2)] == [WRONG_CODE] * 2
    lines = {(line["level"], line["account_id"], line["what"]) for line in log.lines("account.damaged")}
    assert lines == {("ERROR", 2, "two-step seed")}
    assert login(authenticator.recovery_codes[0]) == IN


@pytest.mark.parametrize("way", ["code", "recovery code"])
def test_seeds_survive_a_rotation_of_keys(
    make_app: MakeApp, authenticator: Authenticator, clock: Clock, way: str
) -> None:
    """While the old key is a fallback the seed is read; after one login it needs the old key no more."""
    both = {"AUTHSVC_SECRET_KEY": NEW_KEY, "AUTHSVC_SECRET_KEY_FALLBACKS": SECRET_KEY}
    code = authenticator.code() if way == "code" else authenticator.recovery_codes[0]
    assert door_of(make_app(None, **both))(PASSWORD, code=code) == IN
    clock.advance(30)
    assert door_of(make_app(AUTHSVC_SECRET_KEY=NEW_KEY))(PASSWORD, code=authenticator.code()) == IN


def test_without_its_key_a_seed_is_damaged(make_app: MakeApp, authenticator: Authenticator, log: Log) -> None:
    """A key that is dropped before the account's next login is told like any damage, not as a 500."""
    assert door_of(make_app(AUTHSVC_SECRET_KEY=NEW_KEY))(PASSWORD, code=authenticator.code()) == WRONG_CODE
    assert len(log.lines("account.damaged")) == 1


def test_a_seed_of_another_account_is_damaged(
    door: Door, authenticator: Authenticator, command: Commands, query: Query, log: Log
) -> None:
    """Whoever can write to the database cannot give one account the seed of another."""
    command("account", "otp", "admin")
    query("UPDATE account SET otp_seed = (SELECT otp_seed FROM account WHERE id = 2) WHERE id = 1")
    assert door(PASSWORD, "admin", code=authenticator.code()) == WRONG_CODE
    assert [line["account_id"] for line in log.lines("account.damaged")] == [1]
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_a_seed_of_an_older_release_is_renewed_at_login(
    door: Door, authenticator: Authenticator, query: Query, clock: Clock
) -> None:
    """It was under Fernet; one login later it is bound to its account, and good as before."""
    key = base64.urlsafe_b64encode(hmac.digest(SECRET_KEY.encode(), b"authsvc.otp-seed", "sha256"))
    stored = Fernet(key).encrypt(authenticator.seed.encode()).decode()
    query("UPDATE account SET otp_seed = :stored WHERE id = 2", stored=stored)
    for _ in range(2):
        assert door(PASSWORD, code=authenticator.code()) == IN
        clock.advance(30)
    ((renewed,),) = query("SELECT otp_seed FROM account WHERE id = 2")
    assert Seeds([SECRET_KEY]).decrypt(renewed, 2) == authenticator.seed
    assert renewed.startswith("aes256gcm:")


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_a_recovery_code_of_an_older_release_is_good(
    login: Login, query: Query, spelling: Callable[[str], str]
) -> None:
    """Of 80 bits, and once."""
    old = "abcd-2345-efgh-67ij"
    query("INSERT INTO recovery_code VALUES (2, :hash)", hash=hashlib.sha256(old.encode()).digest())
    assert [login(spelling(old)), login(old)] == [IN, WRONG_CODE]

"""What a live session may do with its account, what it has to prove for that, and who wins where two are at it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from authsvc.authentication import Authenticator as Matcher
from authsvc.own_account import PENDING_SECONDS
from tests.conftest import Authenticator, Clock, Commands, Log, MakeApp, World
from tests.databases import PASSWORD, SECRET_KEY
from tests.dialects import FORM, Answer, Auth, in_process
from tests.doors import CODE_REQUIRED, DISABLED, IN, WRONG, WRONG_CODE, Door, at_once, door_of, throttled
from tests.refusals import CODE_REQUIRED as NO_CODE
from tests.refusals import (
    OTP_IS_OFF,
    OTP_IS_ON,
    OTP_NOT_BEGUN,
    THROTTLED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKEN_REVOKED,
    WRONG_CREDENTIALS,
    Verdict,
)
from tests.refusals import WRONG_CODE as BAD_CODE

Query = Callable[..., list[Any]]

NEW, GUESS, HOME = "a-new-password-of-mine", "not-the-password", "127.0.0.1"
DONE = (200, None)
NEW_KEY = "the-key-that-comes-after-a-rotation-of-keys"


class Person:
    """Somebody with a live session."""

    def __init__(self, auth: Auth, clock: Clock, token: str | None = None) -> None:
        self._auth, self._clock = auth, clock
        self.token = token or auth.token("user", PASSWORD)

    def post(self, path: str, **form: str) -> Answer:
        """Ask for something."""
        return self._auth.call("POST", path, form=form, token=self.token)

    def told(self, path: str, **form: str) -> Verdict:
        """Ask for something; return the verdict."""
        return self._auth.verdict(self.post(path, **form))

    def begin(self) -> Authenticator:
        """Begin two-step verification; return the owner's app with the new seed."""
        secret = self.post("/otp", password=PASSWORD).data["secret"]
        return Authenticator({"secret": secret, "recovery_codes": []}, self._clock)

    def enrol(self) -> Authenticator:
        """Turn two-step verification on; the code that does it is used up."""
        app = self.begin()
        app.recovery_codes = self.post("/otp/confirm", otp_code=app.code()).data["recovery_codes"]
        return app

    def sessions(self) -> list[dict[str, Any]]:
        """The account's live sessions."""
        found: list[dict[str, Any]] = self._auth.call("GET", "/sessions", token=self.token).data["sessions"]
        return found

    def handle(self) -> str:
        """The current one's."""
        (own,) = (session["id"] for session in self.sessions() if session["current"])
        return str(own)

    def is_in(self) -> bool:
        """Whether the session is alive."""
        return self._auth.verify(self.token).status == 200

    def change_at_the_console(self, old: str = PASSWORD, new: str = NEW) -> int:
        """Change the password on the console's page; return the code."""
        body = f"oldPwd={old}&newPwd={new}".encode()
        headers = {"satoken": self.token, "Content-Type": FORM}
        code: int = self._auth._send("POST", "/AdminPassword/update", headers, body).json["code"]
        return code


@pytest.fixture
def person(auth: Auth, clock: Clock) -> Person:
    """The one whose account it is."""
    return Person(auth, clock)


@pytest.fixture
def elsewhere(auth: Auth, clock: Clock) -> Person:
    """A second session of the same account."""
    return Person(auth, clock)


# Sessions


def test_a_handle_is_no_token(auth: Auth, person: Person) -> None:
    """Good for nothing but to be ended by its owner."""
    handle = person.handle()
    assert auth.verdict(auth.whoami(handle)) == TOKEN_INVALID.auth
    assert auth.verify(None).status == auth.call("GET", "/verify", headers={"Authorization": f"Bearer {handle}"}).status
    assert auth.verdict(auth.logout(handle)) == TOKEN_INVALID.auth
    assert person.is_in()


@pytest.mark.parametrize("spell", [str.upper, lambda each: each + " ", lambda each: each[:-1], lambda each: each + "0"])
def test_a_handle_has_one_spelling(person: Person, elsewhere: Person, spell: Callable[[str], str]) -> None:
    """Any other is an unknown one, and ends nothing."""
    wanted = spell(elsewhere.handle()) if elsewhere.handle() != spell(elsewhere.handle()) else "no handle"
    assert person.post("/sessions/end", password=PASSWORD, session=wanted).data == {"ended": 0}
    assert elsewhere.is_in()


@pytest.mark.parametrize("wanted", ["%", "_" * 32, "0" * 32, "OTHERS", "*", "' OR 1=1 --", "é" * 256])
def test_an_unknown_handle_ends_nothing(person: Person, elsewhere: Person, wanted: str) -> None:
    """Nor does anything that could be mistaken for a pattern."""
    assert person.post("/sessions/end", password=PASSWORD, session=wanted).data == {"ended": 0}
    assert elsewhere.is_in()


def test_another_accounts_session_is_an_unknown_one(auth: Auth, person: Person, clock: Clock) -> None:
    """Whose ever it is: only one's own end, `others` too."""
    admin = Person(auth, clock, auth.token("admin", PASSWORD))
    for wanted in (admin.handle(), "others"):
        assert person.post("/sessions/end", password=PASSWORD, session=wanted).data == {"ended": 0}
    assert admin.is_in()


def test_sessions_that_are_over_are_neither_listed_nor_counted(person: Person, auth: Auth, clock: Clock) -> None:
    """What idled out is no live session, though its row is still there."""
    idle = Person(auth, clock)
    handle = idle.handle()
    clock.advance(3000)
    assert person.is_in()
    clock.advance(700)
    assert [session["current"] for session in person.sessions()] == [True]
    for wanted in (handle, "others"):
        assert person.post("/sessions/end", password=PASSWORD, session=wanted).data == {"ended": 0}


@pytest.mark.parametrize("wanted", ["others", "0" * 32])
def test_to_end_sessions_takes_no_code(person: Person, clock: Clock, wanted: str) -> None:
    """Only the password, with two-step verification too; and what is appended to it is part of it."""
    app = person.enrol()
    clock.advance(30)
    assert person.told("/sessions/end", password=PASSWORD, session=wanted) == DONE
    assert person.told("/sessions/end", password=f"{PASSWORD},{app.code()}", session=wanted) == WRONG_CREDENTIALS.auth


@pytest.mark.parametrize(
    ("act", "cause", "count"),
    [
        (lambda person: person.post("/sessions/end", password=PASSWORD, session="others"), "owner", 1),
        (lambda person: person.enrol(), "otp.enabled", 1),
        (lambda person: person.change_at_the_console(), "password.changed", 1),
        (lambda person: person.post("/password", password=PASSWORD, new_password=NEW), "password.changed", 2),
    ],
    ids=["others", "two-step verification", "the console's page", "password"],
)
@pytest.mark.usefixtures("elsewhere")
def test_the_log_tells_why_sessions_ended(
    person: Person, log: Log, act: Callable[[Person], object], cause: str, count: int
) -> None:
    """And whose and how many they were."""
    act(person)
    (line,) = log.lines("session.ended")
    assert (line["cause"], line["account_id"], line["count"]) == (cause, 2, count)


# Guesses

VERBS = {
    "/sessions/end": {"session": "others"},
    "/otp": {},
    "/otp/recovery": {"otp_code": "123456"},
    "/otp/off": {"otp_code": "123456"},
}


@pytest.mark.parametrize("path", VERBS)
def test_a_wrong_password_is_a_wrong_guess(person: Person, door: Door, query: Query, log: Log, path: str) -> None:
    """Here or at a login, five in all; then the right one is refused here and there, and the session lives on."""
    if path in {"/otp/recovery", "/otp/off"}:
        person.enrol()
    before = person.sessions()
    guesses = [person.told(path, password=GUESS, **VERBS[path]) for _ in range(3)]
    assert guesses == [WRONG_CREDENTIALS.auth] * 3
    assert [door(GUESS, at=HOME) for _ in range(2)] == [WRONG] * 2
    assert set(map(tuple, query("SELECT scope, count FROM counter"))) == {
        ("account_address", 5),
        ("address", 5),
        ("account", 5),
    }
    blocked = person.post(path, password=PASSWORD, **VERBS[path])
    assert (blocked.status, blocked.headers["Retry-After"]) == (429, "300")
    assert door(PASSWORD, at=HOME) == throttled(300)
    assert len(person.sessions()) == len(before)
    lines = log.lines("reauthentication.refused")
    assert [(line["level"], line["cause"], line["account_id"]) for line in lines] == [
        ("WARNING", cause, 2) for cause in ["wrong_password"] * 3 + ["throttled"]
    ]


def test_the_right_password_forgives_nothing(person: Person, door: Door) -> None:
    """Only an opened session does."""
    for _ in range(4):
        person.told("/sessions/end", password=GUESS, session="others")
    assert person.told("/sessions/end", password=PASSWORD, session="others") == DONE
    assert [door(GUESS, at=HOME) for _ in range(2)] == [WRONG, throttled(300)]


@pytest.mark.parametrize("path", ["/otp/recovery", "/otp/off"])
def test_a_wrong_code_is_a_wrong_guess(person: Person, clock: Clock, query: Query, path: str) -> None:
    """None, a wrong one, a used one: as at a login; the right one is used up, and good once."""
    app = person.enrol()
    used = app.code()
    clock.advance(30)
    assert person.told(path, password=PASSWORD) == NO_CODE.auth
    assert query("SELECT * FROM counter") == []
    for code in (used, app.wrong_code(), "12345", "１２３４５６", "0" * 256):
        assert person.told(path, password=PASSWORD, otp_code=code) == BAD_CODE.auth
    assert {row.scope: row.count for row in query("SELECT scope, count FROM counter")} == {
        "account_address": 5, "address": 5, "account": 5, "otp": 5,
    }  # fmt: skip
    assert person.told(path, password=PASSWORD, otp_code=app.code()) == THROTTLED.of(300).auth
    clock.advance(300)
    assert person.told(path, password=PASSWORD, otp_code=app.code()) == DONE


# Two-step verification: on


def test_what_is_begun_is_not_in_force(person: Person, auth: Auth, elsewhere: Person) -> None:
    """The password alone opens the door, and no session ends."""
    person.begin()
    assert auth.login("user", PASSWORD).data["otp"] is False
    assert elsewhere.is_in()


def test_what_is_confirmed_is_in_force(person: Person, elsewhere: Person, auth: Auth, door: Door, clock: Clock) -> None:
    """A login takes a code from then on, and not the one that confirmed it; one's own session is the only one left."""
    app = person.enrol()
    assert auth.verdict(auth.whoami(elsewhere.token)) == TOKEN_REVOKED.auth
    assert auth.whoami(person.token).data["otp"] is True
    assert [door(PASSWORD), door(PASSWORD, code=app.code()), door(PASSWORD, code=app.code(-1))] == [
        CODE_REQUIRED, WRONG_CODE, WRONG_CODE,
    ]  # fmt: skip
    clock.advance(30)
    assert door(PASSWORD, code=app.code()) == IN
    assert door(PASSWORD, code=app.recovery_codes[9]) == IN


def test_the_next_beginning_replaces_the_last(person: Person, elsewhere: Person) -> None:
    """In whatever session; of two secrets the later one counts."""
    first, second = person.begin(), elsewhere.begin()
    assert person.told("/otp/confirm", otp_code=first.code()) == BAD_CODE.auth
    assert person.told("/otp/confirm", otp_code=second.code()) == DONE


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(PENDING_SECONDS - 1, DONE), (PENDING_SECONDS, OTP_NOT_BEGUN.auth), (-60, DONE)]
)
def test_what_is_begun_lapses(person: Person, clock: Clock, seconds: float, verdict: Verdict) -> None:
    """After ten minutes; a replica whose clock is behind the one that began it confirms it, too."""
    app = person.begin()
    clock.advance(seconds)
    assert person.told("/otp/confirm", otp_code=app.code()) == verdict


def test_it_is_confirmed_once(person: Person, clock: Clock) -> None:
    """What is in force cannot be confirmed again, nor can it be once it is off."""
    app = person.enrol()
    clock.advance(30)
    assert person.told("/otp/confirm", otp_code=app.code()) == OTP_IS_ON.auth
    assert person.told("/otp/off", password=PASSWORD, otp_code=app.code()) == DONE
    clock.advance(30)
    assert person.told("/otp/confirm", otp_code=app.code()) == OTP_NOT_BEGUN.auth


def test_a_wrong_confirmation_is_a_wrong_guess(person: Person, door: Door, clock: Clock, query: Query) -> None:
    """Five codes, of whatever kind; the sixth is refused although right, and so is a login; later it is good."""
    app = person.begin()
    recovery_code = "-".join(["abcd"] * 6)
    for code in (app.wrong_code(), app.code(2), recovery_code, f"{app.code()} ", "１２３４５６"):
        assert person.told("/otp/confirm", otp_code=code) == BAD_CODE.auth
    assert {row.scope: row.count for row in query("SELECT scope, count FROM counter")} == {
        "account_address": 5, "address": 5, "account": 5, "otp": 5,
    }  # fmt: skip
    blocked = person.post("/otp/confirm", otp_code=app.code())
    assert (blocked.status, blocked.headers["Retry-After"]) == (429, "300")
    assert door(PASSWORD, at=HOME) == throttled(300)
    clock.advance(300)
    assert person.told("/otp/confirm", otp_code=app.code()) == DONE


def test_wrong_confirmations_are_limited_at_home_too(make_app: MakeApp, clock: Clock) -> None:
    """By the day's limit of wrong codes: only a recovery code gets past that, and none confirms."""
    person = Person(Auth(in_process(make_app(AUTHSVC_LIMIT_OTP="2/86400"))), clock)
    app = person.begin()
    verdicts = [person.told("/otp/confirm", otp_code=app.wrong_code()) for _ in range(3)]
    assert verdicts == [BAD_CODE.auth] * 2 + [THROTTLED.of(86400).auth]


@pytest.mark.parametrize(("at", "status"), [(HOME, 200), ("203.0.113.9", 429)])
def test_strangers_do_not_keep_an_owner_at_home_from_confirming(
    make_app: MakeApp, clock: Clock, at: str, status: int
) -> None:
    """They fill the account's counter, which stops whoever is not at a known address."""
    app = make_app(AUTHSVC_LIMIT_ACCOUNT="3/86400")
    person = Person(Auth(in_process(app)), clock)
    owner, strangers = person.begin(), door_of(app)
    assert [strangers(GUESS, at=f"198.51.100.{number}") for number in range(3)] == [WRONG] * 3
    here = Person(Auth(in_process(app, at)), clock, person.token)
    assert here.post("/otp/confirm", otp_code=owner.code()).status == status


def test_seeds_are_stored_encrypted_and_for_one_account(person: Person, auth: Auth, clock: Clock, query: Query) -> None:
    """Begun or in force; a seed that is copied to another account's row is good for nothing there."""
    app = person.begin()
    (pending,) = query("SELECT otp_pending_seed AS seed, otp_pending_at AS at FROM account WHERE id = 2")
    assert app.seed not in pending.seed
    query(
        "UPDATE account SET otp_pending_seed = :seed, otp_pending_at = :at WHERE id = 1",
        seed=pending.seed,
        at=pending.at,
    )
    admin = Person(auth, clock, auth.token("admin", PASSWORD))
    assert admin.told("/otp/confirm", otp_code=app.code()) == OTP_NOT_BEGUN.auth
    assert person.told("/otp/confirm", otp_code=app.code()) == DONE
    (stored,) = query("SELECT otp_seed AS seed, otp_pending_seed AS pending FROM account WHERE id = 2")
    assert (app.seed in stored.seed, stored.pending) == (False, None)


def test_what_is_begun_survives_a_rotation_of_keys(make_app: MakeApp, person: Person, clock: Clock) -> None:
    """The old key is a fallback; what is put in force is under the new one."""
    app = person.begin()
    both = make_app(AUTHSVC_SECRET_KEY=NEW_KEY, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY)
    assert Person(Auth(in_process(both)), clock, person.token).told("/otp/confirm", otp_code=app.code()) == DONE
    clock.advance(30)
    assert door_of(make_app(AUTHSVC_SECRET_KEY=NEW_KEY))(PASSWORD, code=app.code()) == IN


def test_what_was_begun_is_gone_with_an_administrators_enrolment(
    person: Person, command: Commands, auth: Auth, clock: Clock
) -> None:
    """Its secret is good for nothing then."""
    app = person.begin()
    command("account", "otp", "user")
    command("account", "otp", "user", "--off")
    again = Person(auth, clock)
    assert again.told("/otp/confirm", otp_code=app.code()) == OTP_NOT_BEGUN.auth


# Two-step verification: recovery codes, and off


def test_renewed_recovery_codes_void_the_old(person: Person, elsewhere: Person, door: Door, clock: Clock) -> None:
    """Used or not; the sessions go on."""
    app = person.enrol()
    clock.advance(30)
    other = Person(person._auth, clock, person._auth.token("user", f"{PASSWORD},{app.code()}"))
    renewed = person.post("/otp/recovery", password=f"{PASSWORD},{app.recovery_codes[0]}").data["recovery_codes"]
    assert [door(PASSWORD, code=code) for code in app.recovery_codes[:3]] == [WRONG_CODE] * 3
    assert [door(PASSWORD, code=code) for code in (renewed[0], renewed[0], renewed[9])] == [IN, WRONG_CODE, IN]
    assert (person.is_in(), other.is_in(), elsewhere.is_in()) == (True, True, False)


@pytest.mark.parametrize("kind", ["code", "recovery code"])
def test_off_is_off(person: Person, auth: Auth, door: Door, clock: Clock, query: Query, log: Log, kind: str) -> None:
    """By a code or a recovery code; other sessions end, one's own goes on, nothing is left of it."""
    app = person.enrol()
    clock.advance(30)
    other = auth.token("user", f"{PASSWORD},{app.code()}")
    clock.advance(30)
    code = app.code() if kind == "code" else app.recovery_codes[0]
    assert person.told("/otp/off", password=PASSWORD, otp_code=code) == DONE
    assert (auth.verify(other).status, person.is_in()) == (401, True)
    assert [line["cause"] for line in log.lines("session.ended")] == ["otp.disabled"]
    assert door(PASSWORD) == IN
    assert query("SELECT * FROM recovery_code") == []
    assert [row.otp_seed for row in query("SELECT otp_seed FROM account")] == [None, None]


def test_it_can_be_turned_on_anew(person: Person, door: Door, clock: Clock) -> None:
    """With another secret; neither codes nor recovery codes of the first are good then."""
    first = person.enrol()
    clock.advance(30)
    person.post("/otp/off", password=PASSWORD, otp_code=first.code())
    second = person.enrol()
    clock.advance(30)
    assert door(PASSWORD, code=first.recovery_codes[0]) == WRONG_CODE
    assert door(PASSWORD, code=second.code()) == IN


def test_wrong_codes_of_before_are_not_in_the_new_row(make_app: MakeApp, clock: Clock) -> None:
    """Two-step verification that is turned on anew has all its tries."""
    person = Person(Auth(in_process(make_app(AUTHSVC_LIMIT_OTP_ROW="3"))), clock)
    for kind in ("recovery code", "code"):
        app = person.enrol()
        clock.advance(30)
        for _ in range(2):
            assert person.told("/otp/off", password=PASSWORD, otp_code=app.wrong_code()) == BAD_CODE.auth
        code = app.code() if kind == "code" else app.recovery_codes[0]
        assert person.told("/otp/off", password=PASSWORD, otp_code=code) == DONE


def test_what_is_out_of_place_is_no_guess(person: Person, query: Query, log: Log) -> None:
    """Right or wrong, nothing is charged; the log tells whose account it was."""
    assert person.told("/otp/confirm", otp_code="123456") == OTP_NOT_BEGUN.auth
    assert person.told("/otp/off", password=GUESS, otp_code="123456") == OTP_IS_OFF.auth
    assert query("SELECT * FROM counter") == []
    lines = log.lines("reauthentication.refused")
    assert [(line["cause"], line["account_id"]) for line in lines] == [("otp_not_begun", 2), ("otp_is_off", 2)]


# Somebody is faster

Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Lets something happen right after the next password matched, before anything comes of it."""
    acts: list[Callable[[], object]] = []
    match = Matcher.match

    def match_and_act(*arguments: Any, **named: Any) -> Any:
        act = acts.pop() if acts else None
        matched = match(*arguments, **named)
        if act:
            act()
        return matched

    monkeypatch.setattr(Matcher, "match", match_and_act)
    return acts.append


ENDINGS: dict[str, Callable[[World, Person], object]] = {
    "logout": lambda world, person: world.auth.logout(person.token),
    "an administrator's logout": lambda world, _: world.command("account", "logout", "user"),
    "disabled": lambda world, _: world.command("account", "disable", "user"),
    "password": lambda world, _: world.command("account", "password", "user", "--password-stdin", stdin=NEW),
    "two-step verification": lambda world, _: world.command("account", "otp", "user"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/sessions/end", {"session": "others"}),
        ("/otp", {}),
        ("/password", {"new_password": "yet-another-one"}),
    ],
)
def test_a_session_that_ends_meanwhile_does_nothing_more(
    world: World, person: Person, meanwhile: Meanwhile, query: Query, ending: str, path: str, form: dict[str, str]
) -> None:
    """The password was right, and it is too late."""
    meanwhile(lambda: ENDINGS[ending](world, person))
    assert person.told(path, password=PASSWORD, **form) == TOKEN_REVOKED.auth
    assert [row.otp_pending_seed for row in query("SELECT otp_pending_seed FROM account")] == [None, None]
    word = {"disabled": DISABLED, "password": WRONG, "two-step verification": CODE_REQUIRED}.get(ending, IN)
    assert door_of_world(world)(PASSWORD) == word


def door_of_world(world: World) -> Callable[[str], str]:
    """Its door, in one dialect."""
    return Door(lambda _: world.auth._send, Auth)


def test_a_password_that_is_changed_meanwhile_is_wrong(
    person: Person, elsewhere: Person, auth: Auth, door: Door, meanwhile: Meanwhile
) -> None:
    """The console's page leaves its session alive: whoever has that, and knew the old password, comes too late."""
    meanwhile(person.change_at_the_console)
    assert person.told("/password", password=PASSWORD, new_password="the-thiefs-own-one") == WRONG_CREDENTIALS.auth
    assert person.is_in()
    assert [door(password) for password in (NEW, "the-thiefs-own-one")] == [IN, WRONG]
    assert auth.verdict(auth.whoami(elsewhere.token)) == TOKEN_REVOKED.auth


def test_a_code_is_required_where_it_became_so_meanwhile(
    person: Person, door: Door, clock: Clock, meanwhile: Meanwhile
) -> None:
    """Two-step verification that was turned on while the password was matched is not passed by."""
    app = person.begin()
    meanwhile(lambda: person.post("/otp/confirm", otp_code=app.code()))
    assert person.told("/password", password=PASSWORD, new_password=NEW) == NO_CODE.auth
    clock.advance(30)
    assert door(PASSWORD, code=app.code()) == IN


def test_what_is_turned_off_meanwhile_is_not_renewed(
    person: Person, clock: Clock, meanwhile: Meanwhile, query: Query
) -> None:
    """No recovery codes are left for an account without two-step verification."""
    app = person.enrol()
    clock.advance(30)
    off, code = app.recovery_codes[0], app.code()
    meanwhile(lambda: person.post("/otp/off", password=PASSWORD, otp_code=off))
    assert person.told("/otp/recovery", password=PASSWORD, otp_code=code) == OTP_IS_OFF.auth
    assert query("SELECT * FROM recovery_code") == []


def test_what_is_turned_on_meanwhile_is_not_begun(person: Person, meanwhile: Meanwhile, query: Query) -> None:
    """The one that is in force stays the only one."""
    app = person.begin()
    meanwhile(lambda: person.post("/otp/confirm", otp_code=app.code()))
    assert person.told("/otp", password=PASSWORD) == OTP_IS_ON.auth
    assert [row.otp_pending_seed for row in query("SELECT otp_pending_seed FROM account")] == [None, None]


def test_a_login_that_renews_a_seed_meanwhile_changes_nothing(
    make_app: MakeApp, person: Person, clock: Clock, meanwhile: Meanwhile
) -> None:
    """After a rotation of keys each login brings its account's seed under the new one; that is no other seed."""
    app = person.enrol()
    rotated = make_app(AUTHSVC_SECRET_KEY=NEW_KEY, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY)
    here = Person(Auth(in_process(rotated)), clock, person.token)
    clock.advance(60)
    meanwhile(lambda: here._auth.token("user", f"{PASSWORD},{app.code(-1)}"))
    assert here.told("/otp/off", password=PASSWORD, otp_code=app.code()) == DONE


# The trail


def test_the_trail_has_what_the_owner_did(
    person: Person, elsewhere: Person, command: Commands, clock: Clock, query: Query
) -> None:
    """Newest first, refusals with their cause, by the owner and from where; no secret is in it."""
    person.post("/sessions/end", password=GUESS, session="others")
    person.post("/sessions/end", password=PASSWORD, session=elsewhere.handle())
    app = person.enrol()
    clock.advance(30)
    person.post("/otp/recovery", password=f"{PASSWORD},{app.recovery_codes[0]}")
    person.post("/otp/off", password=PASSWORD, otp_code=app.code())
    person.change_at_the_console()
    trail = command.json("account", "history", "user")
    assert [(row["event"], row["detail"]) for row in trail[:7]] == [
        ("password.changed", {}),
        ("otp.disabled", {}),
        ("otp.recovery_codes_renewed", {}),
        ("otp.recovery_code_used", {}),
        ("otp.enabled", {}),
        ("session.ended", {"cause": "owner", "count": 1}),
        ("reauthentication.refused", {"cause": "wrong_password"}),
    ]
    assert {(row["by"], row["address"], row["account_id"]) for row in trail[:7]} == {("self", HOME, 2)}
    kept = str(query("SELECT * FROM trail"))
    assert not [text for text in (app.seed, *app.recovery_codes, app.code(), PASSWORD, GUESS, NEW) if text in kept]


# At the same moment


def test_of_confirmations_with_one_code_one_is_told_the_recovery_codes(
    make_app: MakeApp, clock: Clock, door: Door
) -> None:
    """In one session and in two, on two replicas: the codes that are told are those that are good."""
    replicas = [Auth(in_process(make_app())) for _ in range(2)]
    people = [Person(auth, clock) for auth in replicas]
    people.append(Person(replicas[1], clock, people[0].token))
    app = people[0].begin()
    answers = at_once(*[lambda each=each: each.post("/otp/confirm", otp_code=app.code()) for each in people * 2])
    (told,) = [answer.data["recovery_codes"] for answer in answers if answer.status == 200]
    late = {replicas[0].verdict(answer) for answer in answers if answer.status != 200}
    assert late <= {OTP_IS_ON.auth, TOKEN_REVOKED.auth}
    assert [door(PASSWORD, code=code) for code in (told[0], app.code())] == [IN, WRONG_CODE]


def test_of_sixteen_wrong_confirmations_five_get_a_verdict(make_app: MakeApp, clock: Clock) -> None:
    """Whichever replica is asked."""
    replicas = [Auth(in_process(make_app())) for _ in range(2)]
    people = [Person(auth, clock) for auth in replicas]
    app = people[1].begin()
    code = app.wrong_code()
    verdicts = at_once(*[lambda each=each: each.told("/otp/confirm", otp_code=code) for each in people * 8])
    assert Counter(verdicts) == {BAD_CODE.auth: 5, THROTTLED.of(300).auth: 11}


def test_others_end_or_come_later(app: Flask, clock: Clock) -> None:
    """Each login at the same moment is either ended and counted, or alive."""
    auth = Auth(in_process(app))
    person, tokens = Person(auth, clock), list[str]()

    def log_in() -> int:
        tokens.append(auth.token("user", PASSWORD))
        return 0

    def end_others() -> int:
        return int(person.post("/sessions/end", password=PASSWORD, session="others").data["ended"])

    ended = sum(at_once(*[log_in, end_others] * 5))
    assert [auth.verify(token).status for token in tokens].count(401) == ended
    assert len(person.sessions()) == 1 + 5 - ended


def test_one_session_is_ended_once(app: Flask, clock: Clock, log: Log) -> None:
    """By whom ever, at the same moment: one is told so, and the log tells it once."""
    auth = Auth(in_process(app))
    people = [Person(auth, clock) for _ in range(4)]
    victim = Person(auth, clock)
    wanted = victim.handle()
    ends = [
        lambda each=each: each.post("/sessions/end", password=PASSWORD, session=wanted).data["ended"] for each in people
    ]
    out = at_once(*ends, lambda: int(auth.logout(victim.token).status == 200))
    assert sum(out) == 1
    assert len(log.lines("session.ended", "logout")) == 1


@pytest.mark.parametrize("way", ["/api/auth", "/AdminPassword"])
def test_a_change_of_password_never_outlives_a_disabling(app: Flask, clock: Clock, command: Commands, way: str) -> None:
    """Whoever is first: nobody is logged in afterwards, and the password is what the change was told."""
    auth = Auth(in_process(app))
    person = Person(auth, clock)
    tokens = [person.token]

    def change() -> bool:
        if way == "/AdminPassword":
            return person.change_at_the_console() == 200
        answer = person.post("/password", password=PASSWORD, new_password=NEW)
        assert auth.verdict(answer) in {DONE, TOKEN_REVOKED.auth}
        tokens.extend(answer.headers.getlist("satoken"))
        return answer.status == 200

    changed, _ = at_once(change, lambda: bool(command("account", "disable", "user")))
    assert {auth.verdict(auth.whoami(token)) for token in tokens} == {TOKEN_REVOKED.auth}
    command("account", "enable", "user")
    assert {auth.verdict(auth.whoami(token)) for token in tokens} == {TOKEN_REVOKED.auth}
    assert door_of(app)(NEW if changed else PASSWORD) == IN


def test_without_a_token_nothing_is_listed(auth: Auth) -> None:
    """Sessions are the account's own business."""
    assert auth.verdict(auth.call("GET", "/sessions")) == TOKEN_MISSING.auth

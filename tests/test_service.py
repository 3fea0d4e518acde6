"""The policy behind both dialects: sessions over time, races, and the order of login's steps."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NoReturn

import argon2
import pytest
from werkzeug.security import generate_password_hash

from authsvc import errors
from authsvc.passwords import Passwords
from authsvc.store import causes
from authsvc.store.repository import Repository
from tests.conftest import Clock, Commands, Log, MakeApp, World
from tests.databases import NOW, PASSWORD, SECRET_KEY
from tests.dialects import Auth, Console, in_process
from tests.refusals import ACCOUNT_DISABLED, TOKEN_EXPIRED, TOKEN_INVALID, TOKEN_REVOKED, WRONG_CREDENTIALS
from tests.test_passwords import DAMAGED, OLDER
from tests.test_tokens import spellings

LIFETIME, IDLE = 43_200, 3_600
EXPIRED, REVOKED, INVALID = TOKEN_EXPIRED.reason, TOKEN_REVOKED.reason, TOKEN_INVALID.reason

Query = Callable[..., list[Any]]


def refusal(auth: Auth, token: str) -> str | None:
    """Why a token is refused; None where it is good."""
    return auth.verdict(auth.verify(token))[1]


def last_seen(command: Commands) -> str:
    """When the one session of `user` was last seen."""
    (session,) = command.json("account", "sessions", "user")
    return str(session["last_seen"])


# Sessions over time


def test_a_session_lives_to_its_last_second(make_app: MakeApp, clock: Clock) -> None:
    """Its absolute lifetime is exact, however much it is used."""
    auth = Auth(in_process(make_app(AUTHSVC_SESSION_IDLE_TIMEOUT="0")))
    token = auth.token("user", PASSWORD)
    clock.advance(LIFETIME - 0.001)
    assert refusal(auth, token) is None
    clock.advance(0.001)
    assert refusal(auth, token) == EXPIRED


def test_use_does_not_outlast_the_lifetime(auth: Auth, clock: Clock, token: str) -> None:
    """A session in steady use ends all the same."""
    for _ in range(LIFETIME // 1800 - 1):
        clock.advance(1800)
        assert refusal(auth, token) is None
    clock.advance(1800)
    assert refusal(auth, token) == EXPIRED


def test_an_idle_session_ends(auth: Auth, clock: Clock, token: str) -> None:
    """A session that is not used for the idle limit is over, a moment earlier it is not."""
    clock.advance(IDLE - 1)
    assert refusal(auth, token) is None
    clock.advance(IDLE)
    assert refusal(auth, token) == EXPIRED


def test_an_idle_session_does_not_wake_up(auth: Auth, clock: Clock, token: str) -> None:
    """Asking about an idle session is no use of it."""
    clock.advance(IDLE)
    assert refusal(auth, token) == EXPIRED
    clock.advance(1)
    assert refusal(auth, token) == EXPIRED


def test_an_ended_session_is_revoked_until_it_would_have_been_over(auth: Auth, clock: Clock) -> None:
    """Then it is expired like any other. Tokens are dated in whole seconds, so that may be told up to one later."""
    clock.advance(0.75)
    token = auth.token("user", PASSWORD)
    auth.logout(token)
    clock.advance(LIFETIME)
    assert refusal(auth, token) == REVOKED
    clock.advance(0.25)
    assert refusal(auth, token) == EXPIRED


@pytest.mark.parametrize("use", ["verify", "whoami", "info"])
def test_every_use_keeps_a_session_alive(use: str, auth: Auth, console: Console, clock: Clock, token: str) -> None:
    """In either dialect."""
    uses: dict[str, Callable[[str], object]] = {"verify": auth.verify, "whoami": auth.whoami, "info": console.info}
    clock.advance(IDLE - 1)
    uses[use](token)
    clock.advance(IDLE - 1)
    assert refusal(auth, token) is None


@pytest.mark.parametrize(("idle", "interval"), [("3600", 60), ("100", 25)])
def test_last_seen_is_written_seldom(idle: str, interval: int, make_app: MakeApp, clock: Clock) -> None:
    """Once a minute at most, or once in a quarter of a shorter idle limit."""
    app = make_app(AUTHSVC_SESSION_IDLE_TIMEOUT=idle)
    auth, command = Auth(in_process(app)), Commands(app)
    token = auth.token("admin", PASSWORD)

    def seen_after(seconds: float) -> str:
        clock.advance(seconds)
        auth.verify(token)
        return str(command.json("account", "sessions", "admin")[0]["last_seen"])

    at_first = seen_after(0)
    assert seen_after(interval - 1) == at_first
    assert seen_after(1) > at_first


def test_a_use_that_cannot_be_noted_is_a_use(
    auth: Auth, clock: Clock, token: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full ends no session; the log says what is wrong."""

    def fail(*_: object) -> NoReturn:
        raise errors.Unavailable(causes.UNKNOWN)

    monkeypatch.setattr(Repository, "touch_session", fail)
    clock.advance(60)
    assert refusal(auth, token) is None
    assert [line["level"] for line in log.lines("session.touch_failed")] == ["ERROR"]


def test_a_clock_set_back_leaves_no_eternal_session(auth: Auth, clock: Clock, command: Commands, token: str) -> None:
    """A session last seen "in the future" is noted as seen now, so that it can idle out."""
    clock.advance(600)
    auth.verify(token)
    clock.advance(-630)
    assert refusal(auth, token) is None
    assert last_seen(command) == "2026-02-02T02:39:30+00:00"
    clock.advance(IDLE)
    assert refusal(auth, token) == EXPIRED


@pytest.mark.parametrize(("ahead", "reason"), [(60, None), (61, INVALID)])
def test_a_token_from_the_future_is_no_token(
    ahead: float, reason: str | None, auth: Auth, clock: Clock, token: str
) -> None:
    """Replicas' clocks may differ a little; a token dated further ahead was not issued."""
    clock.advance(-ahead)
    assert refusal(auth, token) == reason


def test_an_idle_session_is_remembered_as_such(auth: Auth, clock: Clock, token: str, query: Query) -> None:
    """Logins drop no session before its absolute end, so that the reason given stays true."""
    clock.advance(LIFETIME - 1)
    auth.login("admin", PASSWORD)
    assert refusal(auth, token) == EXPIRED
    assert query("SELECT count(*) FROM session") == [(2,)]


def test_ended_sessions_are_purged_by_logins(auth: Auth, clock: Clock, query: Query) -> None:
    """There is no cron job: one login in 16 drops what is past its absolute end, and the reason stays the same."""
    tokens, over = [auth.token("user", PASSWORD) for _ in range(5)], []
    clock.advance(LIFETIME + 61)
    for _ in range(16):
        auth.login("admin", PASSWORD)
        over += query("SELECT count(*) FROM session WHERE ends_at < :now", now=clock.now)
    assert over == [(5,)] * 11 + [(0,)] * 5
    assert {refusal(auth, token) for token in tokens} == {EXPIRED}


def test_a_session_that_another_replica_takes_for_alive_is_not_purged(make_app: MakeApp, clock: Clock) -> None:
    """Clocks differ by up to a minute: the one that is ahead leaves the reason to the one that is behind."""
    auth = Auth(in_process(make_app(AUTHSVC_SESSION_IDLE_TIMEOUT="0")))
    token = auth.token("user", PASSWORD)
    clock.advance(LIFETIME + 59)
    for _ in range(16):
        auth.login("admin", PASSWORD)
    clock.advance(-60)
    assert refusal(auth, token) is None


def test_a_login_purges_only_so_much(auth: Auth, query: Query) -> None:
    """Whatever a flood has left: nobody waits for all of it, and logins to come drop the rest."""
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)"
    query(f"{numbers} INSERT INTO counter SELECT 'key:' || n, '', 'account', 1, 0 FROM numbers")
    auth.login("user", PASSWORD)
    ((left,),) = query("SELECT count(*) FROM counter")
    assert 0 < left < 1000
    for _ in range(64):
        auth.login("user", PASSWORD)
    assert query("SELECT * FROM counter") == []


# Ending sessions


def test_a_login_ends_the_session_it_replaces(auth: Auth, token: str) -> None:
    """Who logs in again with a live token has one session, not two."""
    new = auth.login("user", PASSWORD, token=token).headers["satoken"]
    assert (refusal(auth, token), refusal(auth, new)) == (REVOKED, None)


def test_a_login_ends_another_accounts_session_too(auth: Auth, console: Console, token: str) -> None:
    """A browser has one session: who logs in as somebody else leaves the first account."""
    assert console.login("admin", PASSWORD, token=token).data["admin"]["id"] == 1
    assert refusal(auth, token) == REVOKED


def test_a_failed_login_ends_nothing(auth: Auth, token: str) -> None:
    """A mistyped password does not log out."""
    auth.login("user", "wrong", token=token)
    assert refusal(auth, token) is None


def test_a_login_leaves_other_sessions_alone(auth: Auth, token: str) -> None:
    """One account may be logged in from many places."""
    auth.login("user", PASSWORD)
    assert refusal(auth, token) is None


@pytest.mark.parametrize("dead", ["garbage", "revoked", "expired"])
def test_a_dead_token_never_blocks_a_login(dead: str, auth: Auth, clock: Clock, token: str) -> None:
    """Whatever a client still carries, the right password logs in."""
    if dead == "expired":
        clock.advance(LIFETIME)
    auth.logout(token)
    answer = auth.login("user", PASSWORD, token=dead if dead == "garbage" else token)
    assert answer.status == 200


@pytest.mark.parametrize("number", range(5))
def test_logout_ends_every_spelling_of_a_token(number: int, auth: Auth, token: str) -> None:
    """A token has several texts; a session ended by one is ended for all."""
    assert auth.logout(spellings(token)[number]).status == 200
    assert {refusal(auth, spelling) for spelling in spellings(token)} == {REVOKED}


def test_of_two_logouts_one_wins(auth: Auth, token: str) -> None:
    """Each session is ended once, however many ask at the same moment."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(auth.logout, [token] * 8))
    verdicts = sorted(auth.verdict(answer) for answer in answers)
    assert verdicts == [(200, None)] + [(403, REVOKED)] * 7


# Keys


def test_a_rotated_key_still_verifies(make_app: MakeApp, auth: Auth, token: str) -> None:
    """A token from before a rotation is good as long as its key is among the fallbacks, and no longer."""
    after = Auth(in_process(make_app(AUTHSVC_SECRET_KEY="r" * 32, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY)))
    without = Auth(in_process(make_app(AUTHSVC_SECRET_KEY="r" * 32)))
    assert (refusal(auth, token), refusal(after, token), refusal(without, token)) == (None, None, INVALID)


def test_a_rotated_key_signs(make_app: MakeApp, auth: Auth) -> None:
    """New tokens are signed with the newest key alone."""
    after = Auth(in_process(make_app(AUTHSVC_SECRET_KEY="r" * 32, AUTHSVC_SECRET_KEY_FALLBACKS=SECRET_KEY)))
    assert refusal(auth, after.token("user", PASSWORD)) == INVALID


# What changes is seen by the very next request, on any replica


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("account", "disable", "user"), ""),
        (("account", "logout", "user"), ""),
        (("account", "password", "user", "--password-stdin"), "another-password\n"),
    ],
    ids=["disabled", "ended", "new password"],
)
def test_a_revocation_is_seen_at_once(
    arguments: tuple[str, ...], stdin: str, make_app: MakeApp, command: Commands, token: str
) -> None:
    """No cache outlives it: a replica that has just answered for the session refuses it."""
    replica = Auth(in_process(make_app()))
    assert refusal(replica, token) is None
    command(*arguments, stdin=stdin)
    assert refusal(replica, token) == REVOKED


def test_enabling_again_does_not_revive_sessions(auth: Auth, command: Commands, token: str) -> None:
    """What was ended stays ended."""
    command("account", "disable", "user")
    command("account", "enable", "user")
    assert refusal(auth, token) == REVOKED


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("account", "set", "user", "--role", "admin"), "role", "admin"),
        (("account", "set", "user", "--permission", "5"), "permission", 5),
    ],
)
def test_account_fields_are_read_live(
    arguments: tuple[str, ...], field: str, value: object, auth: Auth, command: Commands, token: str
) -> None:
    """A session shows its account as it is now."""
    assert auth.verify(token).data[field] != value
    command(*arguments)
    assert auth.verify(token).data[field] == value


def test_permissions_are_read_live(world: World, token: str) -> None:
    """A permission granted to, and revoked from, the account's role counts for the next request."""
    seen = [world.console.info(token).data["perList"]]
    for verb in ("grant", "revoke"):
        world.command("role", verb, "user", "reports", "bas")
        seen.append(world.console.info(token).data["perList"])
    assert seen == [[], ["bas", "reports"], []]


# The order of login's steps


class CountingHasher(argon2.PasswordHasher):
    """Notes what it is asked to match."""

    matched: list[str]

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        """Note, and match."""
        self.matched.append(str(hash))
        return super().verify(hash, password)


@pytest.fixture
def hasher() -> CountingHasher:
    """A hasher with parameters of its own, that counts."""
    hasher = CountingHasher(time_cost=3, memory_cost=64, parallelism=2)
    hasher.matched = []
    return hasher


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("user", PASSWORD),
        ("user", "wrong"),
        ("nobody", PASSWORD),
        ("9" * 200, PASSWORD),
        ("disabled", "wrong"),
        ("disabled", PASSWORD),
    ],
)
def test_every_login_costs_the_same(
    username: str, password: str, make_app: MakeApp, hasher: CountingHasher, query: Query
) -> None:
    """Known or unknown, right or wrong, disabled or not: one match."""
    app = make_app(Passwords(hasher))
    Commands(app)("account", "add", "disabled", "--password-stdin", stdin=PASSWORD)
    Commands(app)("account", "disable", "disabled")
    assert query("SELECT count(*) FROM account") == [(3,)]
    Auth(in_process(app)).login(username, password)
    assert len(hasher.matched) == 1


def test_a_login_with_bad_parameters_costs_nothing(make_app: MakeApp, hasher: CountingHasher) -> None:
    """What is not well-formed is refused before anything is hashed."""
    Auth(in_process(make_app(Passwords(hasher)))).login("user", "x" * 257)
    assert hasher.matched == []


@pytest.mark.parametrize("stored", OLDER.values(), ids=OLDER)
def test_an_outdated_hash_is_upgraded_at_login(stored: str, auth: Auth, query: Query) -> None:
    """The right password is stored anew as today's argon2id, and keeps working."""
    query("UPDATE account SET password_hash = :stored WHERE name = 'user'", stored=stored)
    answers = [auth.login("user", PASSWORD).status for _ in range(2)]
    ((upgraded,),) = query("SELECT password_hash FROM account WHERE name = 'user'")
    assert answers == [200, 200]
    assert upgraded.startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_a_wrong_password_upgrades_nothing(auth: Auth, query: Query) -> None:
    """Only who knows the password can have it stored anew."""
    query("UPDATE account SET password_hash = :stored WHERE name = 'user'", stored=OLDER["scrypt"])
    auth.login("user", "wrong")
    assert query("SELECT password_hash FROM account WHERE name = 'user'") == [(OLDER["scrypt"],)]


def test_parallel_logins_with_an_outdated_hash_all_succeed(auth: Auth, console: Console, query: Query) -> None:
    """One of them stores the better hash; nobody is refused, nobody is lost from the count."""
    stored = generate_password_hash(PASSWORD, "scrypt:1024:8:1")
    query("UPDATE account SET password_hash = :stored WHERE name = 'user'", stored=stored)
    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(lambda _: auth.token("user", PASSWORD), range(24)))
    assert len(tokens) == 24
    assert console.info(tokens.pop()).data["admin"]["loginCount"] == 24


@pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_hash_is_a_wrong_password_and_an_error(stored: str, auth: Auth, query: Query, log: Log) -> None:
    """The caller learns nothing from it, the operator does."""
    query("UPDATE account SET password_hash = :stored WHERE name = 'user'", stored=stored)
    assert auth.verdict(auth.login("user", PASSWORD)) == WRONG_CREDENTIALS.auth
    (line,) = log.lines("account.damaged")
    assert (line["level"], line["account_id"], line["what"]) == ("ERROR", 2, "password hash")


class InterruptedPasswords(Passwords):
    """Lets something happen while a password is being matched."""

    def __init__(self) -> None:
        super().__init__(argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST))
        self.meanwhile: Iterator[Callable[[], object]] = iter(())

    def matches(self, stored: str, password: str) -> bool:
        """Match; then the next thing happens."""
        matching = super().matches(stored, password)
        for happen in self.meanwhile:
            happen()
            break
        return matching


@pytest.mark.parametrize(
    ("arguments", "stdin", "verdict"),
    [
        (("account", "disable", "user"), "", ACCOUNT_DISABLED.auth),
        (
            ("account", "password", "user", "--password-stdin"),
            "another-password\n",
            WRONG_CREDENTIALS.auth,
        ),
        (("account", "set", "user", "--permission", "1"), "", (200, None)),
    ],
    ids=["disabled", "new password", "nothing that matters"],
)
def test_what_happens_while_hashing_decides(
    arguments: tuple[str, ...], stdin: str, verdict: tuple[int, str | None], make_app: MakeApp, command: Commands
) -> None:
    """A login is decided by what holds when its session opens, not by what was read before its password was matched."""
    passwords = InterruptedPasswords()
    auth = Auth(in_process(make_app(passwords)))
    passwords.meanwhile = iter([lambda: command(*arguments, stdin=stdin)])
    assert auth.verdict(auth.login("user", PASSWORD)) == verdict


def test_no_connection_is_held_while_hashing(make_app: MakeApp) -> None:
    """Logins that wait for their hash do not keep session checks from the database."""
    passwords = InterruptedPasswords()
    app = make_app(passwords)
    in_use = []
    with app.app_context():
        pool = app.extensions["sqlalchemy"].engine.pool
    passwords.meanwhile = iter([lambda: in_use.append(pool.checkedout())])
    Auth(in_process(app)).login("user", PASSWORD)
    assert in_use == [0]


def test_logins_count_exactly(make_app: MakeApp, query: Query) -> None:
    """No login is lost from the count, and no failed one is in it."""
    # Ten wrong guesses may come before the first right one, and must not stop it.
    send = in_process(make_app(AUTHSVC_LIMIT_ACCOUNT_ADDRESS="20/300"))
    auth, console = Auth(send), Console(send)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: auth.login("user", PASSWORD if number % 2 else "wrong"), range(20)))
    assert console.login("user", PASSWORD).data["admin"]["loginCount"] == 11
    assert query("SELECT login_count, login_at FROM account WHERE name = 'user'") == [(11, NOW)]


def test_the_decoy_is_as_dear_as_a_new_hash(make_app: MakeApp, hasher: CountingHasher) -> None:
    """For an unknown account the same work is done: a hash with the parameters of new ones is matched."""
    Auth(in_process(make_app(Passwords(hasher)))).login("nobody", PASSWORD)
    assert [argon2.extract_parameters(stored) for stored in hasher.matched] == [
        argon2.extract_parameters(hasher.hash("x"))
    ]

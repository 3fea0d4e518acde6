"""Guessing, as whoever guesses sees it: which tries get a verdict, and what a verdict costs."""

import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from statistics import median
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from authsvc.identifiers import by_name
from authsvc.parts import parts
from authsvc.passwords import Passwords
from authsvc.store import db
from authsvc.throttle import by_key
from tests.conftest import Authenticator, Clock, Commands, Log, MakeApp
from tests.databases import PASSWORD, PHONE
from tests.dialects import Auth, Console, in_process
from tests.doors import BUSY, CODE_REQUIRED, DISABLED, HOME, IN, WRONG, WRONG_CODE, Door, door_of, throttled
from tests.hashers import WatchedHasher
from tests.servers import wait_for
from tests.test_passwords import NEVER, TOO_DEAR

GUESS = "not-the-password"
PAIR, ADDRESS, ACCOUNT = (f"AUTHSVC_LIMIT_{kind}" for kind in ("ACCOUNT_ADDRESS", "ADDRESS", "ACCOUNT"))
ELSEWHERE = "203.0.113.9"
DAY = 86400

Query = Callable[..., list[Any]]


def stranger(number: int) -> str:
    """One address of many."""
    return f"198.51.100.{number}"


def guess(door: Door, times: int = 1, **how: Any) -> None:
    """Guess wrong, and be told so."""
    assert [door(GUESS, **how) for _ in range(times)] == [WRONG] * times


@contextmanager
def waiting(hasher: WatchedHasher, passwords: Passwords, *logins: Callable[[], str]) -> Iterator[list[Future[str]]]:
    """While the block runs, all of these wait for their turn to be hashed."""
    hasher.hold()
    with ThreadPoolExecutor(len(logins)) as threads:
        try:
            verdicts = [threads.submit(login) for login in logins]
            wait_for(lambda: passwords._thread._waiting == len(logins))
            yield verdicts
        finally:
            hasher.let_go()


# How far, and for how long


@pytest.mark.parametrize(
    ("limit", "window", "guess_at", "victim"),
    [
        pytest.param(5, 300, lambda _: {}, {}, id="account and address"),
        pytest.param(50, 300, lambda n: {"key": f"nobody {n}"}, {}, id="address"),
        pytest.param(100, DAY, lambda n: {"at": stranger(n)}, {"at": ELSEWHERE}, id="account"),
    ],
)
def test_as_many_wrong_guesses_get_a_verdict_as_promised(
    door: Door, limit: int, window: int, guess_at: Callable[[int], dict[str, Any]], victim: dict[str, Any]
) -> None:
    """5 in 5 minutes for an account at an address, 50 in 5 for an address, 100 a day for an account: in all dialects
    together. Then the right password is refused like any other, and the seconds told are the window's.
    """
    for number in range(limit):
        guess(door, **guess_at(number))
    assert [door(PASSWORD, **victim) for _ in range(2)] == [throttled(window)] * 2


def test_as_many_wrong_codes_get_a_verdict_as_promised(door: Door, authenticator: Authenticator) -> None:
    """20 a day for an account, wherever they come from; then the right code is refused, too."""
    wrong = authenticator.wrong_code()
    for number in range(20):
        assert door(PASSWORD, code=wrong, at=stranger(number)) == WRONG_CODE
    assert [door(PASSWORD, code=authenticator.code()) for _ in range(2)] == [throttled(DAY)] * 2


@pytest.mark.parametrize(
    ("setting", "guesses"),
    [
        (PAIR, [{}, {}]),
        (ADDRESS, [{"key": "nobody"}, {"key": "admin"}]),
        (ACCOUNT, [{"at": stranger(1)}, {"at": stranger(2)}]),
    ],
)
def test_each_limit_has_its_setting(
    make_app: MakeApp, clock: Clock, setting: str, guesses: list[dict[str, Any]]
) -> None:
    """`2/60` lets two wrong guesses of that kind be told, and the next try wait until a minute after the first."""
    door = door_of(make_app(None, **{setting: "2/60"}))
    for each in guesses:
        guess(door, **each)
    assert door(PASSWORD) == throttled(60)
    clock.advance(60)
    assert door(PASSWORD) == IN


def test_the_limit_of_wrong_codes_has_its_setting(
    make_app: MakeApp, clock: Clock, authenticator: Authenticator
) -> None:
    """So does the one of wrong codes."""
    door = door_of(make_app(AUTHSVC_LIMIT_OTP="2/60"))
    assert [door(PASSWORD, code=authenticator.wrong_code()) for _ in range(2)] == [WRONG_CODE] * 2
    assert door(PASSWORD, code=authenticator.code()) == throttled(60)
    clock.advance(60)
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_a_window_begins_with_its_first_failure(door: Door, clock: Clock) -> None:
    """Four guesses late in a window do not move its end: five minutes after the first one all is open again."""
    guess(door)
    clock.advance(299)
    guess(door, times=4)
    assert door(PASSWORD) == throttled(1)
    clock.advance(1)
    assert door(PASSWORD) == IN


def test_the_next_failure_begins_the_next_window(door: Door, clock: Clock) -> None:
    """What was guessed before a window ended does not count in the next."""
    guess(door, times=4)
    clock.advance(300)
    guess(door, times=5)
    assert door(PASSWORD) == throttled(300)


def test_the_seconds_told_are_rounded_up(door: Door, clock: Clock) -> None:
    """Whoever waits as long as told is not refused again."""
    guess(door, times=5)
    for step, told in ((0, 300), (0.001, 300), (0.999, 299), (297.999, 2), (0.001, 1), (0.999, 1)):
        clock.advance(step)
        assert door(PASSWORD) == throttled(told)


def test_a_refused_try_changes_nothing(door: Door, clock: Clock, query: Query) -> None:
    """It charges no counter and extends no window, however often it is repeated."""
    counters = "SELECT * FROM counter ORDER BY account, address, scope"
    guess(door, times=5)
    before = query(counters)
    for password in (GUESS, PASSWORD) * 10:
        clock.advance(1)
        door(password)
    assert query(counters) == before


def test_a_refused_try_costs_no_hash(make_app: MakeApp, hasher: WatchedHasher) -> None:
    """Once the counter is full, nothing is hashed any more."""
    door = door_of(make_app(Passwords(hasher)))
    guess(door, times=5)
    before = hasher.asked
    assert {door(password) for password in (GUESS, PASSWORD)} == {throttled(300)}
    assert hasher.asked == before


def test_a_refused_try_is_logged(door: Door, log: Log) -> None:
    """With its real cause, the address and the account."""
    guess(door, times=5)
    door(PASSWORD)
    line = log.lines("login.refused")[-1]
    assert (line["cause"], line["address"], line["account_id"]) == ("throttled", HOME, 2)


@pytest.mark.parametrize(
    ("back", "later", "verdict"),
    [
        pytest.param(59, 0, throttled(359), id="another replica's clock"),
        pytest.param(3600, 0, IN, id="set back an hour"),
        pytest.param(3600, 360, IN, id="set back an hour, and waited"),
        pytest.param(60, 359, throttled(1), id="the longest block"),
        pytest.param(60, 360, IN, id="the longest block is over"),
    ],
)
def test_a_clock_that_is_set_back_prolongs_no_block(
    door: Door, clock: Clock, back: float, later: float, verdict: str
) -> None:
    """A block lasts for its window and at most the minute by which replicas' clocks may differ."""
    guess(door, times=5)
    clock.advance(later - back)
    assert door(PASSWORD) == verdict


# Whose counters they are


@pytest.mark.parametrize(
    ("by_auth", "by_console"),
    [
        pytest.param(["user", "USER", "ｕｓｅｒ"], ["user", "User"], id="somebody"),
        pytest.param(["nobody", "NOBODY", "ｎｏｂｏｄｙ"], ["nobody", "Nobody"], id="nobody"),
    ],
)
def test_a_name_has_one_counter_in_any_spelling(app: Flask, by_auth: list[str], by_console: list[str]) -> None:
    """In both dialects together: five wrong guesses in all."""
    auth, console = door_of(app, Auth), door_of(app, Console)
    spellings = [(auth, key) for key in by_auth] + [(console, key) for key in by_console]
    for _, (door, key) in zip(range(5), cycle(spellings), strict=False):
        guess(door, key=key)
    assert {door(PASSWORD, key) for door, key in spellings} == {throttled(300)}


@pytest.mark.parametrize(("name", "number", "phone"), [("user", "2", PHONE), ("nobody", "99", "13900000000")])
def test_a_full_counter_ties_no_keys_together(app: Flask, name: str, number: str, phone: str) -> None:
    """Name, id and phone have five wrong guesses each, be they one account's or nobody's."""
    door, keys = door_of(app, Console), (name, number, phone)
    for key in keys:
        guess(door, times=5, key=key)
    assert {door(PASSWORD, key) for key in keys} == {throttled(300)}


def test_the_guesses_of_a_day_are_the_accounts(make_app: MakeApp) -> None:
    """By whichever of its keys, in whichever dialect and from wherever they come."""
    app = make_app(AUTHSVC_LIMIT_ACCOUNT="6/86400")
    auth, console = door_of(app, Auth), door_of(app, Console)
    keys = [(auth, "user"), (console, "user"), (console, "2"), (console, PHONE)]
    for number, (door, key) in zip(range(6), cycle(keys), strict=False):
        guess(door, key=key, at=stranger(number))
    assert {door(PASSWORD, key, at=ELSEWHERE) for door, key in keys} == {throttled(DAY)}


@pytest.mark.parametrize("key", ["nobody", "99", "99999999999999999999", "13900000000"])
def test_an_unknown_key_is_counted_like_a_known_one(app: Flask, key: str) -> None:
    """Nobody gets as many guesses as somebody, and is blocked for as long."""
    door = door_of(app, Console)
    guess(door, times=5, key=key)
    assert door(GUESS, key) == throttled(300)


def test_an_unknown_key_costs_the_same_statements(app: Flask, door: Door, command: Commands) -> None:
    """What the database is asked tells nobody whether there is such an account, or whether it is disabled."""
    statements: dict[str, list[str]] = {}
    command("account", "disable", "admin")
    with app.app_context():
        engine = db.engine
    for key in ("user", "nobody", "admin"):
        guess(door, key=key)  # the first guess begins a window

        def note(*about: Any, key: str = key) -> None:
            statements.setdefault(key, []).append(about[2])

        event.listen(engine, "before_cursor_execute", note)
        guess(door, key=key)
        event.remove(engine, "before_cursor_execute", note)
    assert statements["user"] == statements["nobody"] == statements["admin"] != []


@pytest.mark.parametrize("key", ["user", "nobody", "disabled"])
def test_a_wrong_guess_costs_one_hash(make_app: MakeApp, command: Commands, hasher: WatchedHasher, key: str) -> None:
    """Whether the account is there or not, or disabled."""
    command("account", "add", "disabled", "--password-stdin", stdin=PASSWORD)
    command("account", "disable", "disabled")
    door = door_of(make_app(Passwords(hasher)))
    guess(door, key=key)
    assert hasher.asked == 1


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_the_time_of_a_wrong_guess_tells_nothing(make_app: MakeApp) -> None:
    """Known, unknown and disabled accounts take equally long.

    The statistic: Friedman's rank test. In each of 30 rounds each of the three is timed once, in random order; under
    the hypothesis that they do not differ, Q of their rank sums has the chi-squared distribution with two degrees of
    freedom, whose upper tail is exp(-Q/2). Refuted where that is below one in a million, whatever the machine's speed:
    19 rounds in which one and the same is the fastest are enough. What they ask of a database is compared above.
    """
    app = make_app(Passwords(), **dict.fromkeys((PAIR, ADDRESS, ACCOUNT), "1000000/3600"))
    administration = parts(app).administration
    for name in ("somebody", "disabled"):  # their hashes cost what hashes cost
        administration.add_account(name, password=PASSWORD)
    door, shuffled, rounds, names = door_of(app), random.Random(0), 30, ["somebody", "nobody", "disabled"]
    Commands(app)("account", "disable", "disabled")
    times: dict[str, list[float]] = {name: [] for name in names}
    rank_sums = dict.fromkeys(names, 0)
    for _ in range(rounds):
        for name in shuffled.sample(names, 3):
            started = time.perf_counter()
            guess(door, key=name)
            times[name].append(time.perf_counter() - started)
        for rank, name in enumerate(sorted(names, key=lambda name: times[name][-1]), start=1):
            rank_sums[name] += rank
    q = sum((rank_sum - 2 * rounds) ** 2 for rank_sum in rank_sums.values()) / rounds
    assert math.exp(-q / 2) > 1e-6, {name: median(times[name]) for name in names}


# What charges which counters, and what forgives


ALL = {"account_address": 1, "address": 1, "account": 1, "otp": 1}
NO_OTP = {"account_address": 1, "address": 1, "account": 1}


@pytest.mark.parametrize(
    ("login", "verdict", "charged"),
    [
        pytest.param(lambda door, _: door(GUESS), WRONG, NO_OTP, id="wrong password"),
        pytest.param(lambda door, owner: door(GUESS, code=owner.code()), WRONG, NO_OTP, id="and the right code"),
        pytest.param(lambda door, _: door(GUESS, "nobody"), WRONG, NO_OTP, id="unknown account"),
        pytest.param(lambda door, _: door(PASSWORD), CODE_REQUIRED, {}, id="no code"),
        pytest.param(lambda door, owner: door(PASSWORD, code=owner.wrong_code()), WRONG_CODE, ALL, id="wrong code"),
        pytest.param(lambda door, owner: door(f"{PASSWORD},{owner.wrong_code()}"), WRONG_CODE, ALL, id="appended"),
        pytest.param(lambda door, _: door(PASSWORD, code="12345"), WRONG_CODE, ALL, id="no code at all"),
        pytest.param(
            lambda door, _: door(PASSWORD, code="aaaa-bbbb-cccc-dddd"), WRONG_CODE, ALL, id="wrong recovery code"
        ),
        pytest.param(lambda door, owner: door(PASSWORD, code=owner.code()), IN, {}, id="right"),
    ],
)
@pytest.mark.parametrize("dialect", [Auth, Console])
def test_each_verdict_charges_its_counters(
    app: Flask,
    dialect: type[Auth | Console],
    authenticator: Authenticator,
    query: Query,
    login: Callable[[Door, Authenticator], str],
    verdict: str,
    charged: dict[str, int],
) -> None:
    """A wrong password charges three counters, a wrong code all four, what is right or missing none."""
    assert login(door_of(app, dialect), authenticator) == verdict
    assert dict(map(tuple, query("SELECT scope, count FROM counter"))) == charged


def test_a_disabled_account_charges_nothing(door: Door, command: Commands, query: Query) -> None:
    """The right password for it is no guess."""
    command("account", "disable", "user")
    assert door(PASSWORD) == DISABLED
    assert query("SELECT * FROM counter") == []


def test_a_damaged_hash_is_a_wrong_password(make_app: MakeApp, query: Query, hasher: WatchedHasher, log: Log) -> None:
    """It is charged like one, costs a hash like one, and is an error in the log."""
    door = door_of(make_app(Passwords(hasher)))
    query("UPDATE account SET password_hash = 'scrypt:damaged' WHERE id = 2")
    assert door(PASSWORD) == WRONG
    assert dict(map(tuple, query("SELECT scope, count FROM counter"))) == NO_OTP
    assert hasher.asked == 1
    (line,) = log.lines("account.damaged")
    assert (line["level"], line["account_id"]) == ("ERROR", 2)


def test_an_opened_session_forgives(door: Door) -> None:
    """After a login the account has all its guesses again at that address."""
    guess(door, times=4)
    assert door(PASSWORD) == IN
    guess(door, times=5)


def test_an_opened_session_forgives_one_counter_only(door: Door, authenticator: Authenticator, query: Query) -> None:
    """The others remember: a guesser who has one account must not get new tries at the rest."""
    assert door(PASSWORD, code=authenticator.wrong_code()) == WRONG_CODE
    guess(door, key="admin")
    assert door(PASSWORD, code=authenticator.code()) == IN
    counted = query("SELECT account, address, scope, count FROM counter ORDER BY scope, account")
    assert list(map(tuple, counted)) == [
        ("id:1", "", "account", 1),
        ("id:2", "", "account", 1),
        (by_key(by_name("admin")), HOME, "account_address", 1),
        ("", HOME, "address", 2),
        ("id:2", "", "otp", 1),
    ]


def test_the_right_password_alone_does_not_forgive(door: Door, authenticator: Authenticator) -> None:
    """Whoever has the password has no more tries at the code than anybody."""
    guess(door, times=4)
    assert door(PASSWORD) == CODE_REQUIRED
    assert door(PASSWORD, code=authenticator.wrong_code()) == WRONG_CODE
    assert door(PASSWORD, code=authenticator.code()) == throttled(300)


def test_an_owners_login_elsewhere_does_not_forgive(door: Door) -> None:
    """A guesser gets no new tries because the owner logs in."""
    guess(door, times=5)
    assert door(PASSWORD, at=ELSEWHERE) == IN
    assert door(PASSWORD) == throttled(300)


def test_unlocking_forgets_an_accounts_wrong_guesses(
    make_app: MakeApp, command: Commands, authenticator: Authenticator, query: Query
) -> None:
    """`flask account unlock` empties all that the account fills, from wherever; not what an address has guessed."""
    door, wrong = door_of(make_app(AUTHSVC_LIMIT_ACCOUNT="6/300")), authenticator.wrong_code()
    assert [door(PASSWORD, code=wrong) for _ in range(5)] == [WRONG_CODE] * 5
    guess(door, at=ELSEWHERE)
    assert [door(PASSWORD, at=at) for at in (HOME, ELSEWHERE)] == [throttled(300)] * 2
    command("account", "unlock", PHONE)
    assert [door(PASSWORD, at=at) for at in (HOME, ELSEWHERE)] == [CODE_REQUIRED] * 2
    assert {scope for (scope,) in query("SELECT scope FROM counter")} == {"address"}


def test_unlocking_nobody_says_so(command: Commands) -> None:
    """A key that no account has is one clear line."""
    assert command.refusal("account", "unlock", "nobody") == "no account has this key"


# Strangers cannot lock the owner out


@pytest.fixture
def besieged(make_app: MakeApp) -> Callable[[], Door]:
    """Fills the account's own counter from strangers' addresses, and returns the door."""
    door = door_of(make_app(AUTHSVC_LIMIT_ACCOUNT=f"3/{DAY}"))

    def besiege() -> Door:
        for number in range(3):
            guess(door, at=stranger(number))
        assert door(PASSWORD, at=stranger(9)) == throttled(DAY)
        return door

    return besiege


@pytest.mark.parametrize(
    ("known", "now"),
    [(HOME, HOME), (f"::ffff:{HOME}", HOME), ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4")],
    ids=["same", "mapped", "same /64"],
)
def test_a_known_address_gets_in(besieged: Callable[[], Door], door: Door, known: str, now: str) -> None:
    """From where the account has logged in lately, its own counter stops nobody."""
    assert door(PASSWORD, at=known) == IN
    assert besieged()(PASSWORD, at=now) == IN


@pytest.mark.parametrize(("seconds", "verdict"), [(30 * DAY - 1, IN), (30 * DAY, throttled(DAY))])
def test_an_address_is_known_for_thirty_days(
    besieged: Callable[[], Door], door: Door, clock: Clock, seconds: float, verdict: str
) -> None:
    """Counted from the last login there, to the second."""
    clock.advance(-60)
    assert door(PASSWORD) == IN
    clock.advance(60)
    assert door(PASSWORD) == IN
    clock.advance(seconds)
    assert besieged()(PASSWORD) == verdict


def test_only_a_login_makes_an_address_known(besieged: Callable[[], Door], door: Door, clock: Clock) -> None:
    """Wrong guesses and another account's login do not."""
    guess(door)
    assert door(PASSWORD, "admin") == IN
    clock.advance(DAY)
    assert besieged()(PASSWORD) == throttled(DAY)


def test_a_wrong_guess_at_a_known_address_is_told(besieged: Callable[[], Door], door: Door, query: Query) -> None:
    """It charges the account's counter as far as it goes, the others as ever: five of them, and the door is shut."""
    assert door(PASSWORD) == IN
    door = besieged()
    guess(door, times=5)
    assert door(PASSWORD) == throttled(300)
    assert query("SELECT count FROM counter WHERE scope = 'account'") == [(3,)]


# Where guesses come from


@pytest.mark.parametrize(
    ("addresses", "elsewhere"),
    [
        (["2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"], "2001:db8:1:3::1"),
        ([HOME, f"::ffff:{HOME}", "::ffff:c000:201"], "192.0.2.2"),
    ],
    ids=["IPv6 by its /64", "IPv4 in IPv6"],
)
def test_addresses_of_one_client_count_together(door: Door, addresses: list[str], elsewhere: str) -> None:
    """An IPv6 client has a whole /64 and gets no more guesses for that; a mapped IPv4 address is the IPv4 address."""
    for _, at in zip(range(5), cycle(addresses), strict=False):
        guess(door, at=at)
    assert {door(PASSWORD, at=at) for at in addresses} == {throttled(300)}
    assert door(PASSWORD, at=elsewhere) == IN


# At the same moment


def test_of_any_number_of_wrong_guesses_the_limit_get_a_verdict(make_app: MakeApp, hasher: WatchedHasher) -> None:
    """Of twelve that all found the counter empty, five are told, and seven could not be charged."""
    passwords = Passwords(hasher)
    door = door_of(make_app(passwords))
    with waiting(hasher, passwords, *[lambda: door(GUESS)] * 12) as verdicts:
        pass
    assert sorted(verdict.result() for verdict in verdicts) == [throttled(300)] * 7 + [WRONG] * 5


def test_any_number_of_right_logins_succeed(make_app: MakeApp, hasher: WatchedHasher) -> None:
    """Although each could have been a wrong guess until it was hashed; no more than one is hashed at a time."""
    passwords = Passwords(hasher)
    door = door_of(make_app(passwords))
    with waiting(hasher, passwords, *[lambda: door(PASSWORD)] * 12) as verdicts:
        pass
    assert [verdict.result() for verdict in verdicts] == [IN] * 12
    assert hasher.most_at_once == 1


@pytest.mark.parametrize(
    ("meanwhile", "verdict"),
    [
        pytest.param(lambda door, _: guess(door, times=5), throttled(300), id="the counter fills up"),
        pytest.param(
            lambda door, _: [door(GUESS, f"nobody {number}") for number in range(50)],
            throttled(300),
            id="that of the address fills up",
        ),
        pytest.param(lambda _, command: command("account", "disable", "user"), DISABLED, id="it is disabled"),
        pytest.param(lambda _, command: command("account", "otp", "user"), CODE_REQUIRED, id="a code is demanded"),
        pytest.param(
            lambda _, command: command("account", "password", "user", "--password-stdin", stdin="another-password"),
            WRONG,
            id="another password is set",
        ),
    ],
)
def test_what_happens_while_a_password_is_hashed_counts(
    make_app: MakeApp,
    hasher: WatchedHasher,
    meanwhile: Callable[[Door, Commands], object],
    verdict: str,
) -> None:
    """The right password is refused where by the time it is known to be right, it no longer helps."""
    passwords, replica = Passwords(hasher), make_app()
    door = door_of(make_app(passwords))
    with waiting(hasher, passwords, lambda: door(PASSWORD)) as (login,):
        meanwhile(door_of(replica), Commands(replica))
    assert login.result() == verdict


# Bounded hashing


def test_session_checks_are_answered_while_logins_wait(make_app: MakeApp, hasher: WatchedHasher) -> None:
    """However many logins are in line, a check needs neither their thread nor a connection that they hold."""
    passwords = Passwords(hasher)
    app = make_app(passwords)
    door, auth, console = door_of(app), Auth(in_process(app)), Console(in_process(app))
    token = auth.token("user", PASSWORD)
    with waiting(hasher, passwords, *[lambda: door(PASSWORD)] * 24) as verdicts:
        assert auth.verify(token).status == 200
        assert console.info(token).json["code"] == 200
    assert [verdict.result() for verdict in verdicts] == [IN] * 24


@pytest.mark.parametrize("password", [PASSWORD, GUESS])
def test_who_finds_no_place_is_told_to_come_back(make_app: MakeApp, query: Query, log: Log, password: str) -> None:
    """Right or wrong, known or not: HTTP 503 with Retry-After, nothing charged, and the log says why."""
    door = door_of(make_app(Passwords(max_waiting=0)))
    for key in ("user", "nobody"):
        assert [door(password, key) for _ in range(2)] == [BUSY] * 2
    assert query("SELECT * FROM counter") == []
    assert {line["cause"] for line in log.lines("login.refused")} == {"busy"}


# The counter of an account at an address goes by the key as it was given


@pytest.mark.parametrize("first", ["user", "2", PHONE, "nobody", "99", "13900000000"])
def test_a_full_counter_tells_of_no_other_key(app: Flask, first: str) -> None:
    """Name, id and phone of one account are three keys with five guesses each, as three keys of nobody are: whoever
    fills one of them learns nothing about the others.
    """
    door = door_of(app, Console)
    guess(door, times=5, key=first)
    others = {"user", "2", PHONE, "nobody", "99", "13900000000"} - {first}
    assert door(GUESS, first) == throttled(300)
    assert {door(GUESS, key) for key in others} == {WRONG}


def test_a_key_and_the_account_behind_it_behave_alike(app: Flask) -> None:
    """Guess for guess, in what is said and for how long: by name, by id, by phone, and for nobody."""
    door = door_of(app, Console)
    said = {key: [door(GUESS, key) for _ in range(7)] for key in ("user", "2", PHONE, "nobody", "99", "13900000000")}
    assert set(map(tuple, said.values())) == {(*[WRONG] * 5, *[throttled(300)] * 2)}


@pytest.mark.parametrize(("key", "spelling"), [("user", "ＵＳＥＲ"), ("nobody", "NoBody")])
def test_spellings_of_a_name_are_one_key(door: Door, key: str, spelling: str) -> None:
    """What is compared is counted, in both dialects together."""
    guess(door, times=5, key=key)
    assert [door(PASSWORD, spelling) for _ in range(2)] == [throttled(300)] * 2


def test_a_login_forgives_the_key_it_came_with(app: Flask) -> None:
    """And that alone: the guesses by another key stay counted."""
    door = door_of(app, Console)
    for key in ("user", "2", PHONE):
        guess(door, times=4, key=key)
    assert door(PASSWORD, "2") == IN
    guess(door, times=5, key="2")
    for key in ("user", PHONE):
        guess(door, key=key)
        assert door(PASSWORD, key) == throttled(300)


def test_the_daily_counter_is_the_accounts(make_app: MakeApp) -> None:
    """By whichever of its keys it is tried, from wherever."""
    door = door_of(make_app(AUTHSVC_LIMIT_ACCOUNT="6/300"), Console)
    for number, key in enumerate(("user", "2", PHONE) * 2):
        guess(door, key=key, at=stranger(number))
    assert {door(PASSWORD, key, at=ELSEWHERE) for key in ("user", "2", PHONE)} == {throttled(300)}


def test_unlocking_forgets_whichever_key_was_given(app: Flask, command: Commands, query: Query) -> None:
    """Name, id and phone, known by any of them."""
    door = door_of(app, Console)
    for key in ("user", "2", PHONE, "admin"):
        guess(door, times=5, key=key)
    command("account", "unlock", "2")
    assert [door(PASSWORD, key) for key in ("user", "2", PHONE, "admin")] == [IN, IN, IN, throttled(300)]
    assert {account for (account,) in query("SELECT account FROM counter WHERE scope = 'account'")} == {"id:1"}


# So many wrong codes in a row

ROW, OTP = "AUTHSVC_LIMIT_OTP_ROW", "AUTHSVC_LIMIT_OTP"


def wrong_codes(door: Door, authenticator: Authenticator, times: int, clock: Clock) -> None:
    """Whoever knows the password guesses codes, day after day and from everywhere."""
    for number in range(times):
        assert door(PASSWORD, code=authenticator.wrong_code(), at=stranger(number % 200)) == WRONG_CODE
        clock.advance(DAY / 10)


def test_a_hundred_wrong_codes_in_a_row_stop_codes(
    door: Door, authenticator: Authenticator, clock: Clock, log: Log
) -> None:
    """Whatever the days between. From the hundredth on the right one is a wrong one, too; the log says so once."""
    wrong_codes(door, authenticator, 99, clock)
    assert log.lines("otp.stopped") == []
    wrong_codes(door, authenticator, 1, clock)
    clock.advance(DAY)
    for _ in range(3):
        assert door(PASSWORD, code=authenticator.code()) == WRONG_CODE
    assert [line["account_id"] for line in log.lines("otp.stopped")] == [2]


def test_the_right_code_ends_the_row(door: Door, authenticator: Authenticator, clock: Clock) -> None:
    """After ninety-nine the owner still gets in, and there are a hundred again."""
    wrong_codes(door, authenticator, 99, clock)
    clock.advance(DAY)
    assert door(PASSWORD, code=authenticator.code()) == IN
    wrong_codes(door, authenticator, 99, clock)
    clock.advance(DAY)
    assert door(PASSWORD, code=authenticator.code()) == IN


@pytest.mark.parametrize("opens", ["unlock", "otp"])
def test_an_administrator_opens_them_again(
    make_app: MakeApp, authenticator: Authenticator, clock: Clock, command: Commands, opens: str
) -> None:
    """By `unlock`, or by enrolling anew; time alone does not. There are as many again then."""
    door = door_of(make_app(None, **{ROW: "3"}))
    wrong_codes(door, authenticator, 3, clock)
    clock.advance(400 * DAY)
    assert door(PASSWORD, code=authenticator.code()) == WRONG_CODE
    if opens == "otp":
        authenticator = Authenticator(command.json("account", "otp", "user"), clock)
    else:
        command("account", "unlock", "user")
        clock.advance(30)
    assert [door(PASSWORD, code=authenticator.wrong_code()) for _ in range(2)] == [WRONG_CODE] * 2
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_a_recovery_code_gets_in_after_a_row(make_app: MakeApp, authenticator: Authenticator, clock: Clock) -> None:
    """It is no guess; the codes stay stopped."""
    door = door_of(make_app(None, **{ROW: "3"}))
    wrong_codes(door, authenticator, 3, clock)
    assert door(PASSWORD, code=authenticator.recovery_codes[0]) == IN
    assert door(PASSWORD, code=authenticator.code()) == WRONG_CODE


def test_a_row_may_be_endless(make_app: MakeApp, authenticator: Authenticator, clock: Clock) -> None:
    """0 turns that off."""
    door = door_of(make_app(None, **{ROW: "0"}))
    wrong_codes(door, authenticator, 101, clock)
    clock.advance(DAY)
    assert door(PASSWORD, code=authenticator.code()) == IN


def test_a_throttled_code_is_not_in_the_row(make_app: MakeApp, authenticator: Authenticator, query: Query) -> None:
    """Only a verdict counts; neither does a wrong password, or none."""
    door = door_of(make_app(None, **{OTP: "2/300"}))
    guess(door)
    assert door(PASSWORD) == CODE_REQUIRED
    verdicts = [door(PASSWORD, code=authenticator.wrong_code()) for _ in range(6)]
    assert verdicts == [WRONG_CODE] * 2 + [throttled(300)] * 4
    assert query("SELECT otp_row FROM account WHERE id = 2") == [(2,)]


# A recovery code from home


@pytest.fixture
def burnt(door: Door, authenticator: Authenticator, clock: Clock) -> Door:
    """The owner has logged in at HOME; then strangers who know the password burn the day's codes."""
    assert door(PASSWORD, code=authenticator.code()) == IN
    for number in range(20):
        assert door(PASSWORD, code=authenticator.wrong_code(), at=stranger(number)) == WRONG_CODE
    clock.advance(30)
    return door


def test_a_recovery_code_gets_the_owner_in_from_home(burnt: Door, authenticator: Authenticator) -> None:
    """Although no code of the app is taken any more that day, there or anywhere."""
    assert burnt(PASSWORD, code=authenticator.code()) == throttled(DAY - 30)
    assert burnt(f"{PASSWORD},{authenticator.recovery_codes[0]}") == IN
    assert burnt(PASSWORD, code=authenticator.recovery_codes[1]) == IN


def test_a_recovery_code_from_elsewhere_waits(burnt: Door, authenticator: Authenticator, query: Query) -> None:
    """As any code does, and it is not used up."""
    assert burnt(PASSWORD, code=authenticator.recovery_codes[0], at=ELSEWHERE) == throttled(DAY - 30)
    assert len(query("SELECT * FROM recovery_code WHERE account_id = 2")) == 10


def test_recovery_codes_cannot_be_guessed_from_home(burnt: Door, query: Query) -> None:
    """Five tries, as everywhere; the full counter counts no further."""
    wrong = "-".join(["abcd"] * 6)
    assert [burnt(PASSWORD, code=wrong) for _ in range(6)] == [WRONG_CODE] * 5 + [throttled(300)]
    assert query("SELECT count FROM counter WHERE scope = 'otp'") == [(20,)]


# Hashes damaged in every way


def test_no_stored_hash_breaks_a_login(make_app: MakeApp, query: Query, log: Log) -> None:
    """Each is a wrong password, charged like one; none is an error of the service."""
    door = door_of(make_app(None, **dict.fromkeys((PAIR, ADDRESS, ACCOUNT), "1000000/3600")))
    for stored in (
        *NEVER.values(),
        *TOO_DEAR.values(),
        "",
        "$",
        "$$$$$",
        "\u202e",
        "scrypt:::",
        "pbkdf2::",
        "x" * 9999,
    ):
        query("UPDATE account SET password_hash = :stored WHERE id = 2", stored=stored)
        assert door(PASSWORD) == WRONG
    tries = len(NEVER) + len(TOO_DEAR) + 7
    assert len(log.lines("account.damaged")) == tries
    assert {count for (count,) in query("SELECT count FROM counter")} == {tries}

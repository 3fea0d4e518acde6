"""Histories under faults, and their judge: each rule by a history that breaks it and its lawful twin."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from flask import Flask

from authsvc import create_app
from authsvc.accounts import Credentials
from authsvc.config import load
from authsvc.identifiers import Key
from authsvc.parts import parts
from authsvc.sessions import LiveSession
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from tests.databases import SECRET_KEY, Databases, cheap_passwords, close
from tests.dialects import in_process
from tests.doors import CODE_REQUIRED, DISABLED, THROTTLED, WRONG, WRONG_CODE
from tests.histories.clients import SETTINGS
from tests.histories.faults import HOUSES, Fault
from tests.histories.judge import NEVER, Act, Call, Model, contradiction, is_lawful
from tests.histories.models import DEAD, DONE, LIVE, UNKNOWN, Account, Codes, Guesses
from tests.histories.rounds import run

Line = tuple[float, float, Act, object]
ACCOUNT, GUESSES, CODES = Account("p"), Guesses(2), Codes()


def history(*lines: Line) -> list[Call]:
    """Calls numbered from 0; each line is begin, end, act and answer."""
    return [Call(number, act, begin, end, answer) for number, (begin, end, act, answer) in enumerate(lines)]


def in_turn(*calls: tuple[Act, object]) -> tuple[Line, ...]:
    """Calls that each begin when the one before has ended."""
    return tuple((float(at), at + 0.5, act, answer) for at, (act, answer) in enumerate(calls))


def change_password(*then: tuple[Act, object]) -> tuple[Line, ...]:
    """Sessions 0 and 1; the owner changes the password in session 1, which opens session 2."""
    return in_turn(LOGIN, LOGIN, (("change password", 1, "p", "q"), DONE), *then)


LOGIN, LIVELY = (("log in", "p"), DONE), (LIVE, "user")
RECOVERED = (("recovery code", "r"), DONE)


@pytest.mark.parametrize(
    ("start", "lawful", "broken"),
    [
        pytest.param(
            ACCOUNT,
            in_turn(LOGIN, (("log out", 0), DONE), (("check", 0), DEAD)),
            in_turn(LOGIN, (("log out", 0), DONE), (("check", 0), LIVELY)),
            id="accepted after a logout was answered",
        ),
        pytest.param(
            ACCOUNT,
            (*in_turn(LOGIN), (1, 4, ("log out", 0), DONE), (2, 3, ("check", 0), DEAD)),
            (*in_turn(LOGIN), (3.5, 4, ("log out", 0), DONE), (2, 3, ("check", 0), DEAD)),
            id="refused before a logout began",
        ),
        pytest.param(
            ACCOUNT,
            (*in_turn(LOGIN), (1, 9, ("log out", 0), DONE), (2, 3, ("check", 0), LIVELY), (4, 5, ("check", 0), DEAD)),
            (*in_turn(LOGIN), (1, 9, ("log out", 0), DONE), (2, 3, ("check", 0), DEAD), (4, 5, ("check", 0), LIVELY)),
            id="alive again after it was dead",
        ),
        pytest.param(
            ACCOUNT,
            (*in_turn(LOGIN), (1, NEVER, ("log out", 0), None), (2, 3, ("check", 0), DEAD)),
            (*in_turn(LOGIN), (1, NEVER, ("log out", 1), None), (2, 3, ("check", 0), DEAD)),
            id="refused, and the only end without an answer was another's",
        ),
        pytest.param(
            ACCOUNT,
            change_password((("check", 0), DEAD), (("check", 2), LIVELY)),
            change_password((("check", 0), LIVELY), (("check", 2), LIVELY)),
            id="a session outlives the password",
        ),
        pytest.param(
            ACCOUNT,
            ((0, 5, ("set password", "q"), DONE), (1, 4, ("log in", "p"), DONE), (6, 7, ("check", 1), DEAD)),
            ((0, 5, ("set password", "q"), DONE), (1, 4, ("log in", "p"), DONE), (6, 7, ("check", 1), LIVELY)),
            id="a login that met a new password outlives it",
        ),
        pytest.param(
            ACCOUNT,
            in_turn(LOGIN, (("change password and stay", 0, "p", "q"), DONE), (("check", 0), LIVELY)),
            in_turn(LOGIN, (("change password and stay", 0, "p", "q"), DONE), (("check", 0), DEAD)),
            id="the session that was to stay is gone",
        ),
        pytest.param(
            ACCOUNT,
            in_turn((("set password", "q"), DONE), (("log in", "p"), WRONG)),
            in_turn((("set password", "q"), DONE), (("log in", "p"), DONE)),
            id="the old password is taken",
        ),
        pytest.param(
            ACCOUNT,
            ((0, 2, ("set password", "q"), DONE), (1, 3, ("log in", "q"), WRONG)),
            ((0, 1, ("set password", "q"), DONE), (2, 3, ("log in", "q"), WRONG)),
            id="the new password is refused",
        ),
        pytest.param(
            ACCOUNT,
            in_turn((("disable", True), DONE), (("log in", "p"), DISABLED), (("disable", False), DONE), LOGIN),
            in_turn((("disable", True), DONE), (("log in", "p"), DISABLED), (("disable", True), DONE), LOGIN),
            id="let in while disabled",
        ),
        pytest.param(
            ACCOUNT,
            in_turn(LOGIN, LOGIN, (("end others", 1, "p"), (DONE, 1)), (("check", 0), DEAD), (("count sessions",), 1)),
            in_turn(LOGIN, LOGIN, (("end others", 1, "p"), (DONE, 1)), (("check", 0), DEAD), (("count sessions",), 2)),
            id="more sessions than there are",
        ),
        pytest.param(
            ACCOUNT,
            in_turn(LOGIN, (("log in", "p", 0), DONE), (("check", 0), DEAD)),
            in_turn(LOGIN, (("log in", "p"), DONE), (("check", 0), DEAD)),
            id="a login ends a session that was not shown to it",
        ),
        pytest.param(
            ACCOUNT,
            in_turn(LOGIN, (("give role", "admin"), DONE), (("check", 0), (LIVE, "admin"))),
            in_turn(LOGIN, (("give role", "admin"), DONE), (("check", 0), LIVELY)),
            id="the role is not read live",
        ),
        pytest.param(
            ACCOUNT,
            ((0, 2, ("log in and tell", "p"), (DONE, 2)), (1, 3, ("log in and tell", "p"), (DONE, 1))),
            ((0, 2, ("log in and tell", "p"), (DONE, 1)), (1, 3, ("log in and tell", "p"), (DONE, 1))),
            id="a login is not counted",
        ),
        pytest.param(
            ACCOUNT,
            ((0, NEVER, ("log in", "p"), None), *in_turn(LOGIN, (("check and tell", 1), (LIVE, "user", 2)))),
            ((0, NEVER, ("log in", "p"), None), *in_turn(LOGIN, (("check and tell", 1), (LIVE, "user", 3)))),
            id="a login without an answer is counted twice",
        ),
        pytest.param(
            Account(),
            in_turn((("end all",), UNKNOWN), (("add", "p"), DONE), LOGIN),
            in_turn((("end all",), UNKNOWN), (("add", "p"), DONE), (("log in", "p"), WRONG)),
            id="an account that was made is not there",
        ),
        pytest.param(
            GUESSES,
            in_turn((("guess",), WRONG), (("guess",), WRONG), (("guess",), THROTTLED)),
            in_turn((("guess",), WRONG), (("guess",), WRONG), (("guess",), WRONG)),
            id="one guess too many",
        ),
        pytest.param(
            GUESSES,
            ((0, NEVER, ("guess",), None), *in_turn((("guess",), WRONG), (("guess",), THROTTLED))),
            (*in_turn((("guess",), WRONG), (("guess",), THROTTLED)), (2, NEVER, ("guess",), None)),
            id="throttled too early",
        ),
        pytest.param(
            GUESSES,
            in_turn((("guess",), WRONG), (("log in",), DONE), (("guess",), WRONG), (("guess",), WRONG)),
            in_turn((("guess",), WRONG), (("guess",), WRONG), (("log in",), DONE), (("guess",), WRONG)),
            id="let in past the limit",
        ),
        pytest.param(
            CODES,
            ((0, 2, ("one-time code", 7), DONE), (1, 3, ("one-time code", 7), WRONG_CODE)),
            ((0, 2, ("one-time code", 7), DONE), (1, 3, ("one-time code", 7), DONE)),
            id="a code is taken twice",
        ),
        pytest.param(
            CODES,
            in_turn((("one-time code", 7), DONE), (("one-time code", 8), DONE), (("one-time code", 7), WRONG_CODE)),
            in_turn((("one-time code", 8), DONE), (("one-time code", 7), DONE), (("one-time code", 7), WRONG_CODE)),
            id="an older code is taken",
        ),
        pytest.param(
            CODES,
            in_turn((("one-time code", 7), DONE), (("one-time code", 8), DONE)),
            in_turn((("one-time code", 7), DONE), (("one-time code", 8), WRONG_CODE)),
            id="a new code is refused",
        ),
        pytest.param(
            CODES,
            in_turn(RECOVERED, (("recovery code", "r"), WRONG_CODE), (("recovery code", "s"), DONE)),
            in_turn(RECOVERED, (("recovery code", "r"), DONE), (("recovery code", "s"), DONE)),
            id="a recovery code is taken twice",
        ),
        pytest.param(
            CODES,
            in_turn((("no code",), CODE_REQUIRED)),
            in_turn((("no code",), DONE)),
            id="let in without a code",
        ),
        pytest.param(
            ACCOUNT, in_turn(LOGIN), in_turn((("log in", "p"), "500 Something went wrong.")), id="an answer of no model"
        ),
    ],
)  # fmt: skip
def test_a_rule_that_is_broken_is_noticed(start: Model, lawful: tuple[Line, ...], broken: tuple[Line, ...]) -> None:
    """The twin is lawful; of the other some calls are told, and those alone are unlawful as well."""
    assert is_lawful(history(*lawful), start) is True
    calls = history(*broken)
    assert is_lawful(calls, start) is False
    few = contradiction(calls, start)
    others = [call.unanswered for call in calls if call not in few]
    assert few
    assert is_lawful([*few, *others], start) is False


def is_lost(number: int) -> bool:
    """Whether a call goes without an answer, in a history that is lossy: what it opened, nobody can ask for."""
    return number % 8 == 5


def of_account(chance: Random, number: int) -> Act:
    """What may be asked of an account as call `number`; sessions are named by the calls that may have opened them."""

    def password() -> str:
        return chance.choice("pppq")

    def session() -> int:
        return chance.choice([opened for opened in range(max(0, number - 6), number + 1) if not is_lost(opened)])

    acts: list[Callable[[], Act]] = [
        *[lambda: ("log in", password())] * 6,
        *[lambda: ("check", session())] * 4,
        lambda: ("log in and tell", password()),
        lambda: ("log in", password(), session()),
        lambda: ("check and tell", session()),
        lambda: ("log out", session()),
        lambda: ("exit", session()),
        lambda: ("change password", session(), password(), password()),
        lambda: ("change password and stay", session(), password(), password()),
        lambda: ("end others", session(), password()),
        lambda: ("disable", chance.random() < 0.2),
        lambda: ("give role", chance.choice(("admin", "user"))),
        lambda: ("count sessions",),
        lambda: ("end all",),
    ]
    return chance.choice(acts)()


def of_guesses(chance: Random, _: int) -> Act:
    """What may be asked of a counter."""
    return (chance.choice(("guess", "guess", "guess", "log in")),)


def of_codes(chance: Random, number: int) -> Act:
    """What may be asked of an account with two-step verification, as call `number`."""
    return chance.choice(
        [("one-time code", number // 4 + chance.randrange(3)), ("recovery code", chance.choice("rstuv")), ("no code",)]
    )


RandomAct = Callable[[Random, int], Act]
KINDS = pytest.mark.parametrize(("start", "act"), [(ACCOUNT, of_account), (GUESSES, of_guesses), (CODES, of_codes)])


def simulated(start: Model, act: RandomAct, chance: Random, *, overlap: float = 0, lossy: bool = False) -> list[Call]:
    """The calls of an object that takes one at a time; each is under way for a while before and after its moment.

    With `lossy` some of them get no answer, whether they took effect or not.
    """
    calls, state = list[Call](), start
    for number in range(50):
        begin, end = number - chance.uniform(0, overlap), number + chance.uniform(0, overlap)
        asked = Call(number, act(chance, number), begin)
        answer, after = state.apply(asked)
        if lossy and is_lost(number):
            calls.append(asked)
            state = chance.choice((state, after))
        else:
            calls.append(replace(asked, end=end, answer=answer))
            state = after
    return calls


@KINDS
def test_what_really_happened_is_lawful(start: Model, act: RandomAct) -> None:
    """However the calls of an object overlap, and whichever of them went without an answer."""
    for seed in range(100):
        chance = Random(seed)
        calls = simulated(start, act, chance, overlap=4, lossy=True)
        chance.shuffle(calls)
        assert is_lawful(calls, start) is True, seed


@KINDS
def test_one_changed_answer_is_noticed(start: Model, act: RandomAct) -> None:
    """Calls one after the other have one right answer each: any other is a contradiction, and is told."""
    for seed in range(10):
        chance = Random(seed)
        calls = simulated(start, act, chance)
        at = chance.randrange(len(calls))
        answers = {call.answer for call in calls} - {calls[at].answer}
        calls[at] = replace(calls[at], answer=chance.choice(sorted(answers, key=str)))
        assert is_lawful(calls, start) is False, seed
        assert calls[at] in contradiction(calls, start), seed


def test_a_history_that_is_too_much_is_not_called_lawful() -> None:
    """Where the search is given up there is no verdict."""
    calls = simulated(ACCOUNT, of_account, Random(1), overlap=4, lossy=True)
    assert is_lawful(calls, ACCOUNT, most=1) is None


# A service that is broken on purpose


class InThisProcess:
    """Two replicas without servers, on SQLite, where nothing fails."""

    def __init__(self, apps: Sequence[Flask]) -> None:
        self.sends = [in_process(app) for app in apps]
        self.administration = parts(apps[0]).administration
        self.faults: dict[str, Fault] = {"none": lambda _, seconds: time.sleep(seconds)}

    def recover(self) -> None:
        """Nothing has failed."""


@pytest.fixture
def site(sqlite: Databases) -> Iterator[InThisProcess]:
    """The service."""
    url = sqlite.copy()
    environ = {"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY, **SETTINGS}
    apps = [create_app(load(environ), cheap_passwords()) for _ in range(2)]
    yield InThisProcess(apps)
    for app in apps:
        close(app)
    sqlite.drop(url)


def remember_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session check that was good is good for a second."""
    check, known = Database.check, dict[bytes, tuple[float, LiveSession | None]]()

    def cached(database: Database, id_hash: bytes) -> LiveSession | None:
        at, live = known.get(id_hash, (-math.inf, None))
        if time.monotonic() - at > 1 or live is None:
            known[id_hash] = time.monotonic(), check(database, id_hash)
        return known[id_hash][1]

    monkeypatch.setattr(Database, "check", cached)


def count_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of logins is read before the password is matched, and written after."""
    credentials, count_login, read = Repository.credentials, Repository.count_login, threading.local()

    def reading(repository: Repository, key: Key, *arguments: Any) -> Any:
        account = repository.account(key)
        read.count = account.login_count if account else 0
        return credentials(repository, key, *arguments)

    def writing(repository: Repository, matched: Credentials, *arguments: Any, **values: Any) -> bool:
        counted = count_login(repository, matched, *arguments, **values)
        if counted:
            repository.change_account(matched.account_id, login_count=read.count + 1)
        return counted

    monkeypatch.setattr(Repository, "credentials", reading)
    monkeypatch.setattr(Repository, "count_login", writing)


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "sessions are remembered": remember_sessions,
    "counted by reading and writing": count_what_was_read,
    "guesses are not counted": lambda patch: patch.setattr(Repository, "charge", lambda *_: True),
    "codes are not marked used": lambda patch: patch.setattr(Repository, "claim_step", lambda *_: True),
    "recovery codes stay": lambda patch: patch.setattr(Repository, "claim_recovery_code", lambda *_: True),
    "sessions outlive the password": lambda patch: patch.setattr(Repository, "end_sessions", lambda *_, **__: []),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_service_is_caught(how: str, site: InThisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these mistakes is a contradiction within seconds."""
    BREAKS[how](monkeypatch)
    assert run(site, seed=1, seconds=20, longest=0.5).violations


def test_a_service_that_is_whole_is_not(site: InThisProcess) -> None:
    """The same clients find no fault with it."""
    report = run(site, seed=1, rounds=2, longest=0.3)
    assert (report.violations, report.undecided) == ([], 0)
    assert report.calls.total() > 100


# The service


@pytest.mark.parametrize("database", HOUSES)
def test_histories_under_faults_are_lawful(database: str, tmp_path: Path) -> None:
    """Each fault once, with many clients; `python -m tests.histories` goes on as long as one likes."""
    with HOUSES[database](tmp_path) as house:
        # With this seed the failover is the last one: no new standby has to be made, which takes seconds.
        report = run(house, seed=3, rounds=len(house.faults), longest=0.5)
        assert (report.violations, report.undecided) == ([], 0), report
        assert report.faults == dict.fromkeys(house.faults, 1)

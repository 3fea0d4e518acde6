"""Several replicas on one database: what one does, all know. The database is PostgreSQL, the replicas are processes."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest
from flask import Flask

from authsvc.administration import Administration
from authsvc.identifiers import Key
from authsvc.parts import parts
from authsvc.sessions import Session
from authsvc.store.repository import Repository
from tests.conftest import Clock, Log, MakeApp, servers
from tests.databases import PASSWORD, Databases
from tests.dialects import Answer, Auth, Console, in_process
from tests.refusals import TOKEN_REVOKED
from tests.servers import Server, wait_for

ANOTHER_PASSWORD = "a-wholly-other-password"

Query = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def databases(postgresql: Databases) -> Databases:
    """Nobody shares a SQLite file between machines."""
    return postgresql


@pytest.fixture(scope="module")
def shared_url(databases: Databases) -> str:
    """The database of `replicas`."""
    return databases.copy()


@pytest.fixture(scope="module")
def replicas(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers on one database."""
    with servers(tmp_path_factory) as start:
        yield start(shared_url), start(shared_url)


@pytest.fixture
def administration(make_app: MakeApp, shared_url: str) -> Administration:
    """The administrator, at a third place."""
    administration = parts(make_app(AUTHSVC_DATABASE_URL=shared_url)).administration
    assert isinstance(administration, Administration)
    return administration


_NUMBERS = count()


@pytest.fixture
def name(administration: Administration) -> str:
    """The name of an account of this test's own."""
    name = f"replicated-{next(_NUMBERS)}"
    administration.add_account(name, password=PASSWORD)
    return name


# Starting


def test_replicas_that_start_together_make_one_installation(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On an empty database one migrates, one makes the first administrator, and all become ready."""
    url = databases.empty()
    with ExitStack() as stack:
        started = [Server(tmp_path_factory.mktemp("replica"), url) for _ in range(4)]
        for server in started:
            stack.callback(server.kill)
        for server in started:
            server.wait_until_up()
        assert [server.send("GET", "/readyz", {}, b"").status for server in started] == [200] * 4
        assert '"ERROR"' not in "".join(server.log for server in started)
        (line,) = "".join(server.errors for server in started).splitlines()
        password = line.removeprefix("First administrator: admin, password ").partition(" (shown only once; ")[0]
        assert {server.auth.login("admin", password).data["id"] for server in started} == {1}


# Seeing what the other did


@pytest.mark.parametrize("way", ["logout", "disabled", "password", "own password", "logged out", "two steps"])
def test_an_end_made_at_one_is_seen_by_the_next_request_at_the_other(
    way: str, replicas: tuple[Server, Server], administration: Administration, name: str
) -> None:
    """Whatever ends a session, no replica remembers that it was good a moment ago."""
    here, there = replicas
    token, key = here.auth.token(name, PASSWORD), Key("name", name)
    ways: dict[str, Callable[[], object]] = {
        "logout": lambda: here.auth.logout(token),
        "disabled": lambda: administration.set_disabled(key, True),
        "password": lambda: administration.set_password(key, ANOTHER_PASSWORD),
        "own password": lambda: here.auth.call(
            "POST",
            "/password",
            form={"password": PASSWORD, "new_password": ANOTHER_PASSWORD},
            token=here.auth.token(name, PASSWORD),
        ),
        "logged out": lambda: administration.end_sessions(key),
        "two steps": lambda: administration.enable_otp(key),
    }
    assert there.auth.verify(token).status == 200
    ways[way]()
    assert Auth.verdict(there.auth.verify(token)) == (401, TOKEN_REVOKED.reason)
    assert there.console.info(token).json["code"] == 401


def test_a_role_given_at_one_is_seen_by_the_next_request_at_the_other(
    replicas: tuple[Server, Server], administration: Administration, name: str
) -> None:
    """So are its permissions: they are read with each request."""
    here, there = replicas
    token = here.auth.token(name, PASSWORD)
    assert there.auth.verify(token, "dev").status == 403
    administration.change_account(Key("name", name), role="admin")
    assert there.auth.verify(token, "dev").headers["Remote-Role"] == "admin"


# Contention: two replicas in this process, whose hashes cost nothing, meet more often than two real ones


@pytest.fixture
def pair(make_app: MakeApp) -> list[Flask]:
    """Two applications on one database."""
    return [make_app(AUTHSVC_LIMIT_ADDRESS="100000/300") for _ in range(2)]


def test_nothing_deadlocks(pair: list[Flask], log: Log) -> None:
    """Whatever is done to few accounts by many at once, each gets an answer, and PostgreSQL has nobody to sacrifice."""
    rng = random.Random(1)
    names = ["admin", "user"]

    def act(number: int) -> int:
        app, name, address = pair[number % 2], names[number // 2 % 2], f"10.0.0.{rng.randrange(4)}"
        key, administration = Key("name", name), parts(app).administration
        auth, console = Auth(in_process(app, address)), Console(in_process(app, address))
        acts: list[Callable[[], object]] = [
            lambda: auth.login(name, PASSWORD),
            lambda: console.login(name, "wrong password"),
            lambda: administration.unlock(key),
            lambda: administration.set_disabled(key, True),
            lambda: administration.set_disabled(key, False),
            lambda: administration.set_password(key, PASSWORD),
            lambda: administration.end_sessions(key),
            lambda: log_in_and(auth.logout),
            lambda: log_in_and(lambda token: auth.login(name, PASSWORD, token=token)),
            lambda: log_in_and(lambda token: change_password(auth, token)),
        ]

        def log_in_and(use: Callable[[str], Answer]) -> Answer:
            answer = auth.login(name, PASSWORD)
            return use(answer.headers["satoken"]) if answer.status == 200 else answer

        answer = rng.choice(acts)()
        return answer.status if isinstance(answer, Answer) else 200

    with ThreadPoolExecutor(16) as callers:
        statuses = Counter(callers.map(act, range(600)))
    assert set(statuses) <= {200, 401, 403, 429}
    assert statuses[200] > 200
    assert log.lines("request.failed", "session.touch_failed") == []


def test_a_counter_that_fills_up_while_a_login_is_let_in_refuses_it(
    pair: list[Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last guess was answered before the login: whoever saw the counter full sees it full still."""
    here, there = (Auth(in_process(app)) for app in pair)
    for _ in range(4):
        here.login("user", "wrong password")
    count_login, statuses = Repository.count_login, list[int]()

    def guess_first(repository: Repository, *arguments: Any, **values: Any) -> bool:
        monkeypatch.undo()
        statuses.extend(there.login("user", password).status for password in ("wrong password", PASSWORD))
        return count_login(repository, *arguments, **values)

    monkeypatch.setattr(Repository, "count_login", guess_first)
    assert here.login("user", PASSWORD).status == 429
    assert statuses == [403, 429]
    assert here.login("user", PASSWORD).status == 429


def test_a_session_that_is_ended_at_two_places_at_once_is_told_at_one(
    pair: list[Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the others at the moment of a logout does not count that session."""
    here, there = (Auth(in_process(app)) for app in pair)
    mine, other, logged_out = (here.token("user", PASSWORD) for _ in range(3))
    end_sessions, statuses = Repository.end_sessions, list[int]()

    def log_out_first(repository: Repository, *arguments: Any, **values: Any) -> list[Session]:
        statuses.append(there.logout(logged_out).status)
        return end_sessions(repository, *arguments, **values)

    monkeypatch.setattr(Repository, "end_sessions", log_out_first)
    form = {"password": PASSWORD, "session": "others"}
    assert here.call("POST", "/sessions/end", form=form, token=mine).data == {"ended": 1}
    assert statuses == [200]
    assert there.verify(other).status == 401


def test_a_logout_waits_for_what_its_session_has_begun(
    pair: list[Flask], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is answered, nothing happens any more in the name of its session."""
    here, there = (Auth(in_process(app)) for app in pair)
    mine, end_sessions, logouts = here.token("user", PASSWORD), Repository.end_sessions, list[Future[Answer]]()
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def log_out_meanwhile(repository: Repository, *arguments: Any, **values: Any) -> list[Session]:
        logouts.append(callers.submit(there.logout, mine))
        wait_for(lambda: logouts[0].done() or query(waiting))
        assert not logouts[0].done()
        return end_sessions(repository, *arguments, **values)

    monkeypatch.setattr(Repository, "end_sessions", log_out_meanwhile)
    form = {"password": PASSWORD, "session": "others"}
    with ThreadPoolExecutor(1) as callers:
        assert here.call("POST", "/sessions/end", form=form, token=mine).status == 200
    assert logouts[0].result().status == 200


def change_password(auth: Auth, token: str) -> Answer:
    """Change it to what it is, so that everybody else knows it, too."""
    return auth.call("POST", "/password", form={"password": PASSWORD, "new_password": PASSWORD}, token=token)


def test_many_purge_at_once(pair: list[Flask], query: Query, clock: Clock, log: Log, database_url: str) -> None:
    """Each login drops a few of what is over; it waits for nobody, and everything goes that nobody holds."""
    over = clock.now - 100
    query(
        "INSERT INTO session SELECT sha256(n::text::bytea), 1, 0, 0, :over, '', '' FROM generate_series(1, 500) AS n",
        over=over,
    )
    query("INSERT INTO counter SELECT n, '', 'account', 1, :over FROM generate_series(1, 500) AS n", over=over)
    query("INSERT INTO known_address SELECT 1, n, 0 FROM generate_series(1, 500) AS n")
    with psycopg.connect(database_url) as somebody, ThreadPoolExecutor(6) as callers:
        somebody.execute("SELECT FROM session LIMIT 1 FOR UPDATE")
        logins = [partial(Auth(in_process(app)).login, name, PASSWORD) for app in pair for name in ("admin", "user")]
        answers = list(callers.map(lambda login: login(), logins * 16))
    assert {answer.status for answer in answers} == {200}
    assert log.lines("request.failed") == []
    assert query("SELECT count(*) FROM session") == [(64 + 1,)]
    assert query("SELECT count(*) FROM counter") == [(0,)]
    assert query("SELECT count(*) FROM known_address") == [(2,)]


def test_a_table_that_has_seen_many_logins_stays_small(auth: Auth, query: Query, clock: Clock) -> None:
    """Two logins an hour, each good for twelve: two dozen sessions, idle ones too, and up to 16 not dropped yet."""
    sizes = []
    for _ in range(100):
        clock.advance(1800)
        assert auth.login("user", PASSWORD).status == 200
        ((size,),) = query("SELECT count(*) FROM session")
        sizes.append(size)
    assert sizes[:24] == list(range(1, 25))
    assert max(sizes) <= 25 + 16

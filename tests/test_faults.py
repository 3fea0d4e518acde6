"""What the service does while its database, its disk or its machine fails: asked of real processes."""

import contextlib
import os
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import argon2
import psycopg
import pytest
from flask import Flask
from flask_migrate import downgrade
from sqlalchemy import exc, make_url

from authsvc.passwords import Passwords
from authsvc.store import causes, db
from authsvc.store.schema import MIGRATIONS
from authsvc.store.tables import REVISION
from authsvc.tokens import Tokens
from tests.conftest import Clock, MakeApp, StartServer, servers
from tests.databases import PASSWORD, SECRET_KEY, Databases, PostgresDatabases
from tests.dialects import Answer, Auth, Console, in_process
from tests.postgres import Postgres, running_postgres
from tests.refusals import BUSY, UNAVAILABLE
from tests.servers import Server, wait_for
from tests.wire import Wire, wire_to

SOON = 5.0
"""Seconds in which the contract wants an answer, whatever the database does."""
AWAY = {
    (503, "5", f'{{"code": 503, "msg": "Service Unavailable", "data": {{"reason": "{UNAVAILABLE.reason}"}}}}'),
    (503, "5", f'{{"code": 500, "msg": "{UNAVAILABLE.message}", "data": null}}'),
}
"""Status, Retry-After and body: in either dialect what makes a proxy try another replica."""

Query = Callable[..., list[Any]]
Call = Callable[[], Answer]


def at_once(calls: Sequence[Call]) -> list[Answer]:
    """What came back of requests made all at the same time, none of them late."""

    def timed(call: Call) -> Answer:
        started = time.monotonic()
        answer = call()
        assert time.monotonic() - started < SOON
        return answer

    with ThreadPoolExecutor(len(calls)) as callers:
        return list(callers.map(timed, calls))


def every_request(server: Server, token: str, password: str = PASSWORD) -> list[Call]:
    """One of each kind that needs the database."""
    auth, console = server.auth, server.console
    return [
        *(partial(ask, token) for ask in (auth.verify, auth.whoami, auth.logout, console.info, console.exit)),
        *(partial(ask, "user", password) for ask in (auth.login, console.login)),
    ]


def refusals(answers: list[Answer]) -> set[tuple[int, str | None, str]]:
    """Status, Retry-After and body of each."""
    return {(answer.status, answer.headers.get("Retry-After"), answer.body.decode().strip()) for answer in answers}


def readiness(server: Server) -> tuple[int, Any]:
    """What /readyz says."""
    answer = server.send("GET", "/readyz", {}, b"")
    return answer.status, answer.json


def not_answering(cause: str) -> tuple[int, Any]:
    """What it says while the database is away."""
    return 503, {"status": "not ready", "reason": f"The database does not answer: {cause}."}


def is_ready(server: Server) -> bool:
    """Whether it says that it can work."""
    return readiness(server) == (200, {"status": "ready"})


def logged(server: Server, text: str) -> None:
    """Return when `text` is logged, from now on."""
    seen = len(server.log)
    wait_for(lambda: text in server.log[seen:])


# A database that fails


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that nobody minds failing."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def fragile(postgres: Postgres) -> Databases:
    """Its databases."""
    return PostgresDatabases(postgres.url())


@pytest.fixture(scope="module")
def wire(postgres: Postgres) -> Iterator[Wire]:
    """What leads to it."""
    with wire_to(postgres.port) as wire:
        yield wire


@pytest.fixture(scope="module")
def url(fragile: Databases) -> str:
    """The database of `service`."""
    return fragile.copy()


@pytest.fixture(scope="module")
def service(url: str, wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lives through all that happens to its database: it is never restarted."""
    with servers(tmp_path_factory) as start:
        yield start(wire.url(url))


@pytest.fixture
def session(service: Server, ask_database: Query) -> str:
    """The token of a live session of `user`, whom nobody has tried to guess."""
    wait_for(partial(is_ready, service))
    ask_database("DELETE FROM counter")
    return service.auth.token("user", PASSWORD)


@pytest.fixture
def ask_database(url: str) -> Query:
    """Asks the database of `service` behind its back."""

    def ask(statement: str) -> list[Any]:
        with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return ask


COUNTS = (
    "SELECT (SELECT sum(login_count) FROM account), (SELECT count(*) FROM session), (SELECT sum(count) FROM counter)"
)


def test_a_database_that_is_down_is_a_503(
    service: Server, postgres: Postgres, session: str, ask_database: Query
) -> None:
    """Every request is refused in its dialect's envelope, soon, and neither a session nor a count is lost or added."""
    before = ask_database(COUNTS)
    postgres.stop()
    try:
        assert refusals(at_once(every_request(service, session) * 3)) == AWAY
        assert refusals(at_once(every_request(service, session, "wrong password"))) == AWAY
        assert readiness(service) == not_answering("it ended the connection")
        assert service.answers()
    finally:
        postgres.start()
    assert service.auth.verify(session).status == 200
    assert ask_database(COUNTS) == before


def test_a_restarted_database_costs_nobody_an_error(service: Server, postgres: Postgres, session: str) -> None:
    """The pool is full of dead connections, and every request finds a living one."""
    for _ in range(3):
        at_once([partial(service.auth.verify, session)] * 40)
        postgres.stop()
        postgres.start()
        answers = at_once([partial(service.auth.verify, session), partial(service.console.info, session)] * 20)
        assert {answer.status for answer in answers} == {200}
        assert {answer.json["code"] for answer in answers} == {200}


def test_a_silent_database_is_a_503(service: Server, wire: Wire, session: str) -> None:
    """Nothing is refused and nothing answers: nobody waits for longer than the contract says."""
    at_once([partial(service.auth.verify, session)] * 40)
    with wire.silent():
        assert refusals(at_once(every_request(service, session) * 8)) == AWAY
        assert readiness(service) == not_answering("no answer came in time")
        assert service.answers()
    assert {answer.status for answer in at_once([partial(service.auth.verify, session)] * 40)} == {200}


def test_a_slow_database_is_waited_for(service: Server, wire: Wire, session: str) -> None:
    """As long as it is not too slow, everything works; logins of one account wait for each other."""
    logins = [partial(service.auth.login, name, PASSWORD) for name in ("user", "admin")]
    with wire.slow(0.05):
        answers = at_once([*logins, partial(service.auth.verify, session), partial(service.auth.verify, session)] * 2)
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("table", ["account", "session"])
def test_a_locked_table_is_a_503(table: str, service: Server, session: str, url: str) -> None:
    """Somebody's long transaction, such as a dump or a migration by hand, makes nobody wait for longer."""
    with psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE {table}".encode())
        assert refusals(at_once(every_request(service, session))) == AWAY
    assert service.auth.verify(session).status == 200


def test_a_locked_account_stops_no_check(service: Server, session: str, url: str) -> None:
    """Logins to an account that somebody holds wait and are refused; sessions, and others' logins, go on."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT FROM account WHERE name = 'user' FOR UPDATE")
        with ThreadPoolExecutor(4) as callers:
            refused = [callers.submit(service.auth.login, "user", PASSWORD) for _ in range(4)]
            others = [partial(service.auth.verify, session), partial(service.auth.login, "admin", PASSWORD)]
            assert {answer.status for answer in at_once(others)} == {200}
            assert {login.result().status for login in refused} == {503}


def test_a_read_only_database_still_verifies(service: Server, session: str, ask_database: Query) -> None:
    """Sessions are good where nothing can be written, even where "last seen" is due; logins are refused."""
    name = ask_database("UPDATE session SET last_seen_at = last_seen_at - 120 RETURNING current_database()")[0][0]
    ask_database(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    ask_database(PostgresDatabases._DISCONNECT)
    try:
        assert {answer.status for answer in at_once([partial(service.auth.verify, session)] * 20)} == {200}
        assert service.auth.verdict(service.auth.login("user", PASSWORD)) == UNAVAILABLE.auth
    finally:
        ask_database(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        ask_database(PostgresDatabases._DISCONNECT)
    assert service.auth.login("user", PASSWORD).status == 200


@pytest.mark.usefixtures("session")
def test_200_parallel_logins_all_finish(service: Server, ask_database: Query) -> None:
    """Each waits its turn; one that would wait too long for its hash is told so, and is not counted."""
    (before,) = ask_database("SELECT login_count FROM account WHERE name = 'user'")[0]
    with ThreadPoolExecutor(200) as callers:
        answers = list(callers.map(lambda _: service.auth.login("user", PASSWORD), range(200)))
    told = Counter(map(Auth.verdict, answers))
    assert set(told) <= {(200, None), BUSY.auth}
    assert ask_database("SELECT login_count FROM account WHERE name = 'user'") == [(before + told[200, None],)]


def test_200_parallel_logins_share_16_connections(make_app: MakeApp) -> None:
    """Where hashes cost nothing the connections are what is waited for, and every login gets one."""
    cheap = Passwords(argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST), max_waiting=200)
    console = Console(in_process(make_app(cheap)))
    with ThreadPoolExecutor(200) as callers:
        answers = list(callers.map(lambda _: console.login("user", PASSWORD), range(200)))
    assert {answer.json["code"] for answer in answers} == {200}
    assert console.login("user", PASSWORD).data["admin"]["loginCount"] == 201


def test_a_first_connection_that_fails_is_a_503(
    app: Flask, auth: Auth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLAlchemy asks a server when it meets it may fail like anything else."""

    def fail(_: object) -> None:
        raise exc.OperationalError("", {}, Exception())

    token = Tokens([SECRET_KEY], clock).issue()[0]
    with app.app_context():
        monkeypatch.setattr(db.engine.dialect, "initialize", fail)
    assert auth.verify(token).status == 503


def test_a_database_that_is_down_at_start_is_waited_for(
    fragile: Databases, postgres: Postgres, start_server: StartServer
) -> None:
    """The service is alive, not ready, and says why; with the database it becomes ready, without a restart."""
    url = fragile.empty()
    postgres.stop()
    try:
        server = start_server(url, AUTHSVC_ADMIN_PASSWORD=PASSWORD)
        assert readiness(server) == not_answering("nobody listens at its address")
        assert refusals(at_once(every_request(server, "")[-2:])) == AWAY
    finally:
        postgres.start()
    wait_for(lambda: '"database.ready"' in server.log)
    assert is_ready(server)
    assert server.auth.login("admin", PASSWORD).status == 200


def test_a_database_that_is_silent_at_start_is_waited_for(
    fragile: Databases, wire: Wire, start_server: StartServer
) -> None:
    """A host that swallows what it is sent keeps the service from nothing but being ready."""
    with wire.silent():
        server = start_server(wire.url(fragile.empty()), AUTHSVC_ADMIN_PASSWORD=PASSWORD)
        assert readiness(server) == not_answering("no answer came in time")
    wait_for(lambda: '"database.ready"' in server.log)
    assert is_ready(server)
    assert server.auth.login("admin", PASSWORD).status == 200


# A file that fails


@pytest.fixture
def file_url(sqlite: Databases) -> Iterator[str]:
    """A SQLite database of this test's own."""
    url = sqlite.copy()
    yield url
    sqlite.drop(url)


@pytest.fixture
def file_service(file_url: str, start_server: StartServer) -> Server:
    """A server on it."""
    return start_server(file_url)


@pytest.fixture
def writer(file_url: str) -> Iterator[sqlite3.Connection]:
    """Somebody else who writes to the file."""
    with contextlib.closing(sqlite3.connect(str(make_url(file_url).database), isolation_level=None)) as connection:
        yield connection


def test_a_locked_file_is_waited_for(file_service: Server, writer: sqlite3.Connection) -> None:
    """A login waits for another writer to finish: two seconds are nothing unusual."""
    writer.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as callers:
        login = callers.submit(file_service.auth.login, "user", PASSWORD)
        with pytest.raises(TimeoutError):
            login.result(2)
        writer.execute("COMMIT")
        assert login.result().status == 200


def test_a_file_locked_for_long_still_verifies(file_service: Server, writer: sqlite3.Connection) -> None:
    """What must write is refused in the end; sessions are good all the time, even where "last seen" is due."""
    token = file_service.auth.token("user", PASSWORD)
    writer.execute("UPDATE session SET last_seen_at = last_seen_at - 120")
    writer.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as callers:
        logins = [partial(ask, "user", PASSWORD) for ask in (file_service.auth.login, file_service.console.login)]
        refused = callers.submit(at_once, logins)
        assert {answer.status for answer in at_once([partial(file_service.auth.verify, token)] * 40)} == {200}
        assert refusals(refused.result()) == AWAY
    writer.execute("COMMIT")
    assert file_service.auth.login("user", PASSWORD).status == 200


def _group(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


@contextlib.contextmanager
def files_limited_to(size: int, server: Server) -> Iterator[None]:
    """While the block runs no file that the server writes to can grow beyond `size`, as if the disk were full."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    of_server = [pid for pid in pids if _group(pid) == server.process.pid]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)) for pid in of_server]
    yield
    for pid, limits in zip(of_server, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_still_verifies(file_service: Server, file_url: str, writer: sqlite3.Connection) -> None:
    """Where the file cannot grow sessions are good, even where "last seen" is due; logins are refused."""
    auth, console = file_service.auth, file_service.console
    token = auth.token("user", PASSWORD)
    writer.execute("UPDATE session SET last_seen_at = last_seen_at - 120")
    wal = Path(f"{make_url(file_url).database}-wal")
    # The limit holds for the service's own log as well: let the database's be far longer.
    wait_for(lambda: auth.login("user", PASSWORD).status == 200 and wal.stat().st_size > 200_000)
    with files_limited_to(wal.stat().st_size, file_service):
        assert {answer.status for answer in at_once([partial(auth.verify, token)] * 20)} == {200}
        logins = [partial(ask, "user", PASSWORD) for ask in (auth.login, console.login)]
        assert refusals(at_once(logins)) == AWAY
    assert auth.login("user", PASSWORD).status == 200


# A schema that is not the code's


def test_a_start_leaves_a_newer_schema_alone(database_url: str, query: Query, start_server: StartServer) -> None:
    """Code that was set back to the release before works with it, and changes nothing of it."""
    query("UPDATE alembic_version SET version_num = '9999'")
    server = start_server(database_url)
    assert is_ready(server)
    assert server.auth.verify(server.auth.token("user", PASSWORD)).status == 200
    assert query("SELECT version_num FROM alembic_version") == [("9999",)]


def test_code_that_is_too_old_for_a_schema_waits(database_url: str, query: Query, start_server: StartServer) -> None:
    """It says so and changes nothing; it is ready as soon as the schema is."""
    query("UPDATE alembic_version SET version_num = '9999'")
    query("INSERT INTO setting VALUES ('oldest_code', '9999')")
    server = start_server(database_url)
    assert readiness(server)[0] == 503
    assert f'"cause": "unavailable: {causes.SCHEMA}"' in server.log
    query("UPDATE alembic_version SET version_num = :version", version=REVISION)
    query("DELETE FROM setting")
    wait_for(partial(is_ready, server))


def test_a_start_brings_an_older_schema_up_to_date(app: Flask, database_url: str, start_server: StartServer) -> None:
    """Nothing but the start is needed, and the accounts stay."""
    with app.app_context():
        downgrade(directory=str(MIGRATIONS), revision="0001")
    server = start_server(database_url)
    assert is_ready(server)
    assert server.auth.login("user", PASSWORD).status == 200


# A clock that fails

LIFETIME, STEP = 43_200, 600


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_leaves_no_eternal_session(jump: float, make_app: MakeApp, clock: Clock) -> None:
    """However much it is used, a session ends at its lifetime, give or take the jump."""
    auth = Auth(in_process(make_app(AUTHSVC_SESSION_IDLE_TIMEOUT="7200")))
    token = auth.token("user", PASSWORD)
    clock.advance(jump)
    good = []
    for lived in range(0, 2 * LIFETIME, STEP):
        if auth.verify(token).status == 200:
            good.append(lived)
        clock.advance(STEP)
    assert max(good) == LIFETIME - jump - STEP


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_locks_nobody_out(jump: float, auth: Auth, clock: Clock) -> None:
    """A counter that stands at its limit lets go after its window, whichever way the clock went."""
    while auth.login("user", "wrong password").status == 403:
        pass
    clock.advance(jump)
    clock.advance(300)
    assert auth.login("user", PASSWORD).status == 200

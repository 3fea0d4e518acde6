"""What PostgreSQL may be like: its roles, encodings, limits, and what becomes of connections."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import argon2
import psycopg
import pytest
from flask import Flask
from sqlalchemy import exc, make_url

from authsvc.errors import Unavailable
from authsvc.metrics import Metrics
from authsvc.parts import parts
from authsvc.passwords import Passwords
from authsvc.store import causes, db, timeouts
from authsvc.store.database import Database
from authsvc.store.postgresql import Connector, Postgresql, _Connection
from authsvc.store.repository import Repository
from tests.conftest import Commands, Log, MakeApp, StartServer
from tests.databases import NOW, PASSWORD, PostgresDatabases, close, fill
from tests.deployment import blocks
from tests.dialects import Auth, in_process
from tests.postgres import Postgres, running_postgres
from tests.servers import wait_for

Query = Callable[..., list[Any]]


@pytest.fixture(scope="session", params=["postgresql"])
def databases(request: pytest.FixtureRequest) -> PostgresDatabases:
    """Those of one kind only."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PostgresDatabases)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this module's own, for roles."""
    with running_postgres() as server:
        yield server


def test_names_are_kept_where_the_encoding_is_none(server: Postgres, make_app: MakeApp) -> None:
    """In a SQL_ASCII database text is bytes; they are UTF-8."""
    server.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    fill(server.url("plain"))
    app = make_app(AUTHSVC_DATABASE_URL=server.url("plain"))
    auth = Auth(in_process(app))
    app.extensions["authsvc"].administration.add_account("管理员", password=PASSWORD)
    assert auth.login("管理员", PASSWORD).data["username"] == "管理员"
    assert auth.login("nosuch-é", PASSWORD).status == 403


def test_a_role_that_reads_and_writes_rows_is_enough(server: Postgres, start_server: StartServer) -> None:
    """With the rights that deploy/README.md lists a service starts where the schema is there, and does all it does."""
    server.execute("CREATE ROLE authsvc LOGIN")
    server.execute("CREATE DATABASE authsvc OWNER authsvc")
    server.execute(blocks("sql", "A role with fewer rights")[0], "authsvc")
    fill(f"postgresql://authsvc@127.0.0.1:{server.port}/authsvc")
    service = start_server(f"postgresql://authsvc_rows@127.0.0.1:{server.port}/authsvc")
    assert service.send("GET", "/readyz", {}, b"").status == 200
    token = service.auth.token("user", PASSWORD)
    assert service.auth.verify(token).status == 200
    assert service.auth.login("user", "wrong password").status == 403
    assert service.auth.logout(token).status == 200
    assert '"ERROR"' not in service.log


def test_a_right_that_is_missing_is_a_503(server: Postgres, make_app: MakeApp, log: Log) -> None:
    """And the log says so."""
    server.execute("CREATE DATABASE forbidden")
    fill(server.url("forbidden"))
    server.execute("CREATE ROLE reader LOGIN")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", "forbidden")
    url = make_url(server.url("forbidden")).set(username="reader").render_as_string()
    assert Auth(in_process(make_app(AUTHSVC_DATABASE_URL=url))).login("user", PASSWORD).status == 503
    assert {line.get("cause") for line in log.lines("request")} == {"unavailable: the role lacks a right that it needs"}


def test_a_column_that_changes_its_type_costs_nobody_an_answer(auth: Auth, query: Query) -> None:
    """Statements that were prepared for the old one are prepared anew; nobody has to restart anything."""
    token = auth.token("user", PASSWORD)
    for _ in range(8):
        assert auth.verify(token).status == auth.login("user", PASSWORD).status == 200
    query("ALTER TABLE account ALTER COLUMN password_hash TYPE varchar(300)")
    assert auth.login("user", PASSWORD).status == 200
    query("ALTER TABLE session ALTER COLUMN address TYPE varchar(300)")
    assert auth.verify(token).status == 200


def test_connections_made_while_it_was_read_only_are_not_kept(auth: Auth, query: Query, database_url: str) -> None:
    """What is written is refused meanwhile, and not for ever."""
    name = make_url(database_url).database
    query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(PostgresDatabases._DISCONNECT)
        assert auth.login("user", PASSWORD).status == 503
    finally:
        with psycopg.connect(database_url, autocommit=True, options="-c default_transaction_read_only=off") as writer:
            writer.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    assert auth.login("user", PASSWORD).status == 200


def test_connections_that_are_not_needed_are_given_back(make_app: MakeApp, query: Query) -> None:
    """Many logins at once share as many as the setting says; afterwards four are kept."""
    cheap = Passwords(argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST), max_waiting=100)
    app = make_app(cheap, AUTHSVC_DATABASE_CONNECTIONS="7")
    auth, most = Auth(in_process(app)), 0

    def count() -> int:
        where = "datname = current_database() AND application_name = 'authsvc' AND backend_type = 'client backend'"
        ((found,),) = query(f"SELECT count(*) FROM pg_stat_activity WHERE {where}")
        return int(found)

    with ThreadPoolExecutor(40) as callers:
        logins = [callers.submit(auth.login, "user", PASSWORD) for _ in range(200)]
        while not all(login.done() for login in logins):
            most = max(most, count())
    assert {login.result().status for login in logins} == {200}
    assert 4 < most <= 7
    wait_for(lambda: count() <= 4)


def test_one_connection_is_enough(make_app: MakeApp) -> None:
    """Nothing that is done needs two at a time."""
    auth = Auth(in_process(make_app(AUTHSVC_DATABASE_CONNECTIONS="1")))
    token = auth.token("user", PASSWORD)
    assert auth.verify(token).status == auth.logout(token).status == 200


@pytest.mark.parametrize(("threshold", "prepared"), [("", True), ("?prepare_threshold=none", False)])
def test_statements_are_prepared_unless_the_url_says_no(
    threshold: str, prepared: bool, make_app: MakeApp, database_url: str
) -> None:
    """As a pooler may need."""
    app = make_app(AUTHSVC_DATABASE_URL=database_url + threshold)
    auth = Auth(in_process(app))
    token = auth.token("user", PASSWORD)
    for _ in range(8):
        assert auth.verify(token).status == 200
    with app.app_context(), db.engine.connect() as one, db.engine.connect() as another:
        for connection in (one, another):
            for _ in range(8):
                connection.exec_driver_sql("SELECT 1")
            ((count,),) = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")
            assert bool(count) == prepared


@pytest.mark.parametrize(("connections", "warned"), [("8", False), ("60", True)])
def test_the_start_tells_where_the_server_has_not_room_for_all(
    connections: str, warned: bool, databases: PostgresDatabases, start_server: StartServer
) -> None:
    """Workers times connections, against what the server leaves to ordinary roles."""
    service = start_server(databases.copy(), AUTHSVC_WORKERS="2", AUTHSVC_DATABASE_CONNECTIONS=connections)
    wait_for(lambda: service.log.count('"database.ready"') == 2)
    risks = [line for line in service.log_lines if line["event"] == "setting.risky"]
    assert [risk["id"] for risk in risks] == ["authsvc.W011"] * warned
    assert not warned or "120 connections" in risks[0]["risk"]


def test_data_check_tells_where_there_is_no_room(make_app: MakeApp) -> None:
    """As the start does."""
    app = make_app(AUTHSVC_WORKERS="3", AUTHSVC_DATABASE_CONNECTIONS="40")
    result = Commands(app).run("data", "check")
    assert result.exit_code == 1
    assert "authsvc.W011: may open 120 connections" in result.stdout
    assert "authsvc.W011" not in Commands(make_app(AUTHSVC_WORKERS="2")).run("data", "check").stdout


# In this process


def test_what_numbers_rows_is_done_by_one_at_a_time(app: Flask, tmp_path: Path) -> None:
    """An import, or an account or a role with an id of its own; other writers go on."""
    database, transfer = parts(app).database, parts(app).transfer
    path = tmp_path / "roles.jsonl"
    path.write_text('{"role": {"code": "new", "name": "new"}}\n')
    ignore = lambda *_: None  # noqa: E731
    with database.write(exclusive=True):
        with pytest.raises(Unavailable, match=causes.SLOW), path.open("rb") as file:
            transfer.import_lines(file, dry_run=False, tell=ignore, warn=ignore, progress=ignore)
        with database.write() as repository:
            repository.grant(1, "new")
    with path.open("rb") as file:
        assert transfer.import_lines(file, dry_run=False, tell=ignore, warn=ignore, progress=ignore).roles_made == 1


def test_a_check_that_took_long_is_not_tried_again(make_app: MakeApp, database_url: str) -> None:
    """The caller waits: it is told what is wrong, and it counts once."""
    counted = Errors()
    with (app := make_app()).app_context():
        database = Database(db.engine, lambda: NOW, counted, keeps_one=True)
    assert database.check(b"") is None
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE session")
        started = time.monotonic()
        with pytest.raises(Unavailable, match=causes.SLOW):
            database.check(b"")
        assert time.monotonic() - started < 2 * timeouts.LOCK
        assert counted.number == 1
    assert database.check(b"") is None
    close(app)


class Errors(Metrics):
    """How often the database did not do what it was asked."""

    number = 0

    def database_error(self) -> None:
        """Count one more."""
        self.number += 1


def test_connections_that_were_cut_are_made_anew(app: Flask, database_url: str) -> None:
    """Whatever is asked for first; nobody is told."""
    database = parts(app).database

    def write() -> None:
        with database.write():
            pass

    def snapshot() -> None:
        with database.snapshot() as repository:
            repository.roles()

    with app.app_context(), psycopg.connect(database_url, autocommit=True) as other:
        for way in (lambda: database.check(b""), lambda: database.read(Repository.roles), write, snapshot):
            with db.engine.connect(), db.engine.connect():
                pass
            database.check(b"")
            other.execute(PostgresDatabases._DISCONNECT)
            way()


def test_a_server_that_falls_silent_is_given_up(server: Postgres, make_app: MakeApp) -> None:
    """And its connections with it: a late result reaches nobody."""
    server.execute("CREATE DATABASE silent")
    fill(server.url("silent"))
    database = parts(make_app(AUTHSVC_DATABASE_URL=server.url("silent"))).database
    assert database.check(b"") is None
    with server.frozen(), pytest.raises(Unavailable, match=causes.SILENT):
        database.check(b"")
    assert database.check(b"") is None


# Connecting


class Answers:
    """What is at one address."""

    def __init__(self, **said: Any) -> None:
        self.is_up, self.is_standby, self.encoding = True, False, "UTF8"
        self.system: int | None = 1
        self.timeline = 1
        self.pid = 7
        vars(self).update(said)


class Wired(_Connection):
    """A connection to one of `servers`, by host; `asked` tells in which order they were tried."""

    servers: ClassVar[dict[str, Answers]] = {}
    asked: ClassVar[list[dict[str, Any]]] = []
    pid = 7  # as a pooler's client knows it
    prepare_threshold: int | None = 5

    def __init__(self, server: Answers) -> None:
        self._at, self.statements, self.is_closed = server, list[str](), False

    def __del__(self, *_: Any) -> None:
        """Nothing is open."""

    @classmethod
    def connect(cls, **parameters: Any) -> "Wired":  # type: ignore[override]
        """Connect, or fail."""
        cls.asked.append(parameters)
        server = cls.servers[parameters["host"]]
        if not server.is_up:
            raise psycopg.OperationalError(f"{parameters['host']} refused")
        return cls(server)

    @property
    def info(self) -> Any:
        """What is known without asking."""
        status = {"server_encoding": self._at.encoding}
        return SimpleNamespace(parameter_status=status.get, backend_pid=self.pid)

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction."""
        return "autocommit" in self.statements

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.statements += ["autocommit"] * value

    def execute(self, statement: str, **_: Any) -> Any:  # type: ignore[override]
        """Answer as that server would."""
        assert self.autocommit
        self.statements.append(statement)
        if "pg_is_in_recovery" in statement:
            return [(self._at.is_standby, self._at.pid)]
        if "pg_control_system" in statement and self._at.system is None:
            raise psycopg.errors.InsufficientPrivilege
        return [(self._at.system, self._at.timeline)]

    def close(self) -> None:
        """Be closed."""
        self.is_closed = True


class Net:
    """Servers, and a connector that reaches them."""

    def __init__(self, **servers: Answers) -> None:
        self.servers, self.asked, self.made = servers, list[dict[str, Any]](), list[Wired]()

        class Here(Wired):
            def __init__(wired, server: Answers) -> None:  # noqa: N805
                super().__init__(server)
                self.made.append(wired)

        Here.servers, Here.asked = servers, self.asked
        self.connector = Connector(Here)

    def connect(self, **parameters: Any) -> tuple[Any, dict[str, Any]]:
        """A connection, and what the pool keeps with it."""
        record = SimpleNamespace(info={})
        hosts = {"host": ",".join(self.servers), "port": "5432"}
        connection = self.connector(None, record, (), hosts | parameters)  # type: ignore[arg-type]
        return connection, record.info

    def tried(self) -> list[str]:
        """The hosts that were tried since this was asked last."""
        hosts = [parameters["host"] for parameters in self.asked]
        self.asked.clear()
        return hosts


def test_the_last_primary_is_tried_first() -> None:
    """Until it is no longer there: to ask one that is down may cost seconds."""
    net = Net(a=Answers(is_up=False), b=Answers(), c=Answers())
    net.connect()
    assert net.tried() == ["a", "b"]
    net.connect()
    assert net.tried() == ["b"]
    net.servers["b"].is_up = False
    net.connect()
    assert net.tried() == ["b", "a", "c"]


def test_a_host_that_falls_silent_is_not_tried_first() -> None:
    """The next one is; once, however many connections tell it."""
    net = Net(a=Answers(), b=Answers())
    connections = [net.connect()[0] for _ in range(2)]
    for connection in connections:
        connection.on_silence()
    net.tried()
    (last, _) = net.connect()
    assert net.tried() == ["b"]
    last.on_silence()
    net.connect()
    assert net.tried() == ["a"]


def test_where_no_host_answers_all_their_errors_are_told() -> None:
    """In the order in which they were tried."""
    net = Net(a=Answers(is_up=False), b=Answers(is_up=False))
    with pytest.raises(psycopg.OperationalError, match=r"^a refused; b refused$"):
        net.connect()


@pytest.mark.parametrize(
    ("hosts", "ports", "tried"),
    [
        ("a,b,c", "1,2,3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("a,b,c", "1", [("a", "1"), ("b", "1"), ("c", "1")]),
        ("a", "1", [("a", "1")]),
    ],
)
def test_each_host_has_its_port(hosts: str, ports: str, tried: list[tuple[str, str]]) -> None:
    """Or the only one there is."""
    net = Net(a=Answers(is_up=False), b=Answers(is_up=False), c=Answers(is_up=False))
    with pytest.raises(psycopg.OperationalError):
        net.connect(host=hosts, port=ports)
    assert [(parameters["host"], parameters["port"]) for parameters in net.asked] == tried


def test_the_url_has_the_last_word_on_how_to_connect() -> None:
    """But for what a service needs, which is asked for where nothing is said."""
    net = Net(a=Answers())
    net.connect(application_name="login")
    assert net.asked == [
        {
            "host": "a",
            "port": "5432",
            "application_name": "login",
            "target_session_attrs": "primary",
            "client_encoding": "utf8",
        }
    ]


@pytest.mark.parametrize(
    ("said", "pid", "threshold"),
    [({}, 7, 5), ({}, 8, None), ({"prepare_threshold": "none"}, 7, None), ({"prepare_threshold": "3"}, 8, 3)],
    ids=["server", "pooler", "none", "three"],
)
def test_statements_are_prepared_as_the_url_says(said: dict[str, str], pid: int, threshold: int | None) -> None:
    """Where it says nothing, only without a pooler between, whose clients know other process ids."""
    connection, _ = Net(a=Answers(pid=pid)).connect(**said)
    assert connection.prepare_threshold == threshold


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (Answers(encoding="LATIN1"), "server_encoding"),
        (Answers(is_standby=True), "pg_is_in_recovery"),
    ],
    ids=["encoding", "standby"],
)
def test_a_server_that_cannot_be_worked_with_is_left(server: Answers, problem: str) -> None:
    """With a message that has its phrase."""
    net = Net(a=server, b=Answers(encoding="SQL_ASCII"))
    net.connect()
    assert [connection.is_closed for connection in net.made] == [True, False]
    net = Net(a=server)
    with pytest.raises(psycopg.OperationalError, match=f"^{problem}$"):
        net.connect()


def test_a_pooler_gives_up_its_connection_to_a_standby() -> None:
    """Else it would hand it out again, wherever the address leads by now."""
    net = Net(a=Answers(is_standby=True))
    with pytest.raises(psycopg.OperationalError):
        net.connect()
    assert net.made[0].statements[-1] == "SELECT pg_terminate_backend(pg_backend_pid())"


def test_a_server_that_was_replaced_is_left() -> None:
    """One that was frozen takes itself for the primary, and its connections look well."""
    net = Net(a=Answers(timeline=1), b=Answers(timeline=2))
    _, old = net.connect(host="a")
    assert net.connector.is_current(old)
    net.connector.refuse_replaced(None, SimpleNamespace(info=old), None)  # type: ignore[arg-type]
    _, new = net.connect(host="b")
    assert [net.connector.is_current(info) for info in (old, new)] == [False, True]
    with pytest.raises(exc.InvalidatePoolError):
        net.connector.refuse_replaced(None, SimpleNamespace(info=old), None)  # type: ignore[arg-type]
    with pytest.raises(psycopg.OperationalError, match=r"^pg_is_in_recovery$"):
        net.connect(host="a")


def test_another_installation_has_timelines_of_its_own() -> None:
    """A restored or a new server begins with a lower one."""
    net = Net(a=Answers(timeline=5), b=Answers(system=2, timeline=1))
    net.connect(host="a")
    _, info = net.connect(host="b")
    assert net.connector.is_current(info)


@pytest.mark.parametrize("server", [Answers(system=None), Answers(pid=8)], ids=["managed", "pooler"])
def test_a_timeline_that_is_not_told_is_no_reason(server: Answers) -> None:
    """Other storage, or another server at each turn, may be behind the address."""
    net = Net(a=server, b=Answers(timeline=9))
    _, info = net.connect(host="a")
    net.connect(host="b")
    assert net.connector.is_current(info)


FINE = {
    "statement_timeout": 2000, "lock_timeout": 1500, "idle_in_transaction_session_timeout": 10000,
    "max_connections": 100, "superuser_reserved_connections": 3, "reserved_connections": 2, "role": -1, "pid": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "connections", "told"),
    [
        ({}, 95, []),
        ({}, 96, ["authsvc.W011"]),
        ({"role": 10}, 10, []),
        ({"role": 10}, 11, ["authsvc.W011"]),
        ({"role": 200}, 96, ["authsvc.W011"]),
        ({"role": 0}, 1, ["authsvc.W011"]),
        ({"role": 1}, 1, []),
        ({"statement_timeout": 0}, 1, ["authsvc.W010"]),
        ({"lock_timeout": 1501}, 1, ["authsvc.W010"]),
        ({"lock_timeout": 1}, 1, []),
        ({"idle_in_transaction_session_timeout": 10001}, 1, ["authsvc.W010"]),
        ({"pid": 8}, 96, []),
    ],
)
def test_what_is_risky_about_a_server_is_told(found: dict[str, int], connections: int, told: list[str]) -> None:
    """Time-outs that are not in force, and connections for which there is no room; a pooler makes its own."""
    driver = Wired(Answers())
    driver.prepare_threshold = None
    connection: Any = SimpleNamespace(
        exec_driver_sql=lambda _: [(name, str(value)) for name, value in (FINE | found).items()],
        connection=SimpleNamespace(dbapi_connection=driver),
    )
    risks = list(Postgresql.risks(connection, connections))
    assert [risk.id for risk in risks] == told
    assert all(risk.text and risk.hint for risk in risks)


@pytest.mark.parametrize(("connections", "kept", "more"), [(1, 1, 0), (3, 3, 0), (7, 4, 3)])
def test_no_more_connections_are_opened_than_the_setting_says(connections: int, kept: int, more: int) -> None:
    """Four of them are kept."""
    assert Postgresql.pool(connections) == {"pool_size": kept, "max_overflow": more}

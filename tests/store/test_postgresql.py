"""What PostgreSQL may be like: its roles, encodings, limits, and what becomes of connections."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import argon2
import psycopg
import pytest
from sqlalchemy import make_url

from authsvc.passwords import Passwords
from authsvc.store import db
from tests.conftest import Commands, Log, MakeApp, StartServer
from tests.databases import PASSWORD, PostgresDatabases, fill
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

"""The ways into the database: that which checks a session, and what is counted and told of all."""

import re
import time
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import exc

from authsvc.errors import Unavailable
from authsvc.metrics import Metrics
from authsvc.parts import parts
from authsvc.store import causes, db
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.tokens import Tokens
from tests.conftest import MakeApp
from tests.databases import NOW, SECRET_KEY, Databases, close


@pytest.fixture
def database(app: Flask) -> Database:
    """The application's."""
    return parts(app).database


@pytest.fixture
def id_hash(database: Database, token: str) -> bytes:
    """A live session that was checked before."""
    id_hash = Tokens([SECRET_KEY]).read(token).id_hash
    assert database.check(id_hash)
    return id_hash


def test_a_check_sees_what_is_committed_and_nothing_else(database: Database, id_hash: bytes) -> None:
    """Its connection is no writer's."""
    with database.write() as repository:
        repository.end_session(id_hash)
        assert database.check(id_hash)
    assert database.check(id_hash) is None


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_check_that_hangs_holds_no_other_up(database: Database, id_hash: bytes) -> None:
    """Whoever finds the connection for checks in use asks on one of the pool."""
    with database._checking:
        assert database.check(id_hash)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_broken_connection_is_not_asked_again(database: Database, id_hash: bytes) -> None:
    """The check that finds it broken goes another way, the next one makes a new connection."""
    assert database._held
    broken = database._held.dbapi_connection
    assert broken
    broken.close()
    for _ in range(2):
        assert database.check(id_hash)
    assert database._held
    assert database._held.dbapi_connection is not broken


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_closed_application_has_no_connection(app: Flask, database: Database, id_hash: bytes) -> None:
    """That for checks, too, is closed with the pool."""
    assert database.check(id_hash)
    close(app)
    assert database._held is None


class Counted(Metrics):
    """What is counted of a database."""

    def __init__(self) -> None:
        self.errors = 0
        self.seconds = list[tuple[str, float]]()

    def database(self, operation: str, seconds: float) -> None:
        """Remember it."""
        self.seconds.append((operation, seconds))

    def database_error(self) -> None:
        """Count it."""
        self.errors += 1


@pytest.fixture
def counted() -> Counted:
    """What is counted of `measured`."""
    return Counted()


@pytest.fixture
def measured(app: Flask, counted: Counted) -> Database:
    """The application's database, opened once more."""
    with app.app_context():
        return Database(db.engine, lambda: NOW, counted, keeps_one=False)


def test_what_is_done_is_timed(measured: Database, counted: Counted) -> None:
    """Each check, read and write once, by the seconds that it takes."""
    started = time.monotonic()
    measured.check(b"")
    measured.read(lambda repository: repository.has_accounts())
    with measured.write():
        pass
    most = time.monotonic() - started
    assert [operation for operation, _ in counted.seconds] == ["check", "read", "write"]
    assert all(0 <= seconds <= most for _, seconds in counted.seconds)
    assert counted.errors == 0


def test_a_mistake_of_ours_is_no_outage(measured: Database, counted: Counted) -> None:
    """It is raised as it is; nothing of the transaction stays, and its connection is given back."""

    def grant(repository: Repository) -> None:
        for role_id in (1, 99):
            repository.grant(role_id, "begun")

    for _ in range(20):
        with pytest.raises(exc.IntegrityError), measured.write() as repository:
            grant(repository)
        with pytest.raises(ZeroDivisionError):
            measured.read(lambda _: 1 / 0)
    assert "begun" not in measured.read(lambda repository: repository.roles())[0].permissions
    assert counted.errors == 0


def test_an_outage_counts_once(query: Callable[..., object], measured: Database, counted: Counted) -> None:
    """And says what is wrong, whichever way it is met."""
    query("ALTER TABLE account RENAME TO gone")
    try:
        with pytest.raises(Unavailable, match=re.escape(causes.TABLES)):
            measured.read(lambda repository: repository.has_accounts())
        assert counted.errors == 1
        with pytest.raises(Unavailable, match=re.escape(causes.TABLES)):
            measured.check(b"")
        assert counted.errors == 2
        with pytest.raises(Unavailable, match=re.escape(causes.TABLES)), measured.write() as repository:
            repository.lock_account(1)
        assert counted.errors == 3
    finally:
        query("ALTER TABLE gone RENAME TO account")


def test_who_waits_for_nobody_is_no_outage(sqlite: Databases, make_app: MakeApp, counted: Counted) -> None:
    """It often finds another writing; who has waited in vain is one."""
    app = make_app(AUTHSVC_DATABASE_URL=sqlite.copy())
    with app.app_context():
        database = Database(db.engine, lambda: NOW, counted, keeps_one=True)
    with database.write():
        for patience, errors in ((0, 0), (0.01, 1)):
            with pytest.raises(Unavailable, match=causes.WRITER), database.write(patience=patience):
                pass
            assert counted.errors == errors


def test_a_cause_that_nobody_knows_is_told_as_that(sqlite: Databases, make_app: MakeApp) -> None:
    """The error's own text may quote what is secret."""
    database = parts(make_app(AUTHSVC_DATABASE_URL=sqlite.copy())).database
    with pytest.raises(Unavailable, match=causes.UNKNOWN):
        database.read(lambda repository: repository._connection.exec_driver_sql("nonsense"))

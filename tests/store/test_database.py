"""The way into the database that checks a session."""

import pytest
from flask import Flask

from authsvc.parts import parts
from authsvc.store.database import Database
from authsvc.store.sqlite import Sqlite
from authsvc.tokens import Tokens
from tests.databases import SECRET_KEY


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


@pytest.fixture
def sqlite_backend(database: Database) -> Sqlite:
    """What is SQLite's own; PostgreSQL's is tested by `test_batching`."""
    assert isinstance(database._backend, Sqlite)
    return database._backend


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_check_that_hangs_holds_no_other_up(sqlite_backend: Sqlite, database: Database, id_hash: bytes) -> None:
    """Whoever finds the turn taken asks on a connection of the pool."""
    with sqlite_backend._checking:
        assert database.check(id_hash)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_broken_connection_is_not_asked_again(sqlite_backend: Sqlite, database: Database, id_hash: bytes) -> None:
    """The check that finds it broken goes another way, the next one makes a new connection."""
    sqlite_backend._held.dbapi_connection.close()
    held = []
    for _ in range(2):
        assert database.check(id_hash)
        held.append(sqlite_backend._held)
    assert held[0] is None
    assert held[1].dbapi_connection.execute("SELECT 1").fetchall() == [(1,)]

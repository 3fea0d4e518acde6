"""The way into the database that checks a session."""

import pytest
from flask import Flask

from authsvc.parts import parts
from authsvc.store.database import Database
from authsvc.tokens import Tokens
from tests.databases import SECRET_KEY, close


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


def test_a_check_that_hangs_holds_no_other_up(database: Database, id_hash: bytes) -> None:
    """Whoever finds the connection for checks in use asks on one of the pool."""
    with database._checking:
        assert database.check(id_hash)


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


def test_a_closed_application_has_no_connection(app: Flask, database: Database, id_hash: bytes) -> None:
    """That for checks, too, is closed with the pool."""
    assert database.check(id_hash)
    close(app)
    assert database._held is None

"""What an application's database promises, whichever it is; and a file before and after a service has it."""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import URL, exc, make_url, text

from authsvc.errors import Unavailable
from authsvc.parts import parts
from authsvc.store import causes, db, risks_of_opening, settle, timeouts
from tests.conftest import MakeApp

SERVER = make_url("postgresql+psycopg://127.0.0.1/authsvc.db")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "authsvc.db"


def file(path: Path) -> URL:
    """The URL of a file."""
    return URL.create("sqlite", database=str(path))


def log(path: Path) -> Path:
    """What SQLite keeps beside a file."""
    return path.with_name(f"{path.name}-wal")


def make_younger(path: Path, other: Path) -> None:
    """Touch a file until it is younger than another."""
    while path.stat().st_ctime <= other.stat().st_ctime:
        path.touch()


def test_an_error_does_not_quote_what_was_asked(app: Flask) -> None:
    """It may be logged."""
    with app.app_context(), db.engine.connect() as connection, pytest.raises(exc.DBAPIError) as caught:
        connection.execute(text("SELECT * FROM nosuch WHERE secret = :secret"), {"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_what_is_not_begun_is_committed_at_once(app: Flask) -> None:
    """Reads are one round trip each."""
    with app.app_context(), db.engine.connect() as one, db.engine.connect() as another:
        one.exec_driver_sql("UPDATE account SET permission = 7")
        assert another.exec_driver_sql("SELECT DISTINCT permission FROM account").all() == [(7,)]


def test_the_connection_that_was_used_last_goes_first(app: Flask) -> None:
    """So those that are not needed are left alone, and a server or a pooler may end them."""
    with app.app_context():
        with db.engine.connect(), db.engine.connect() as second:
            last = second.connection.dbapi_connection
        with db.engine.connect() as connection:
            first_returned = connection.connection.dbapi_connection
        with db.engine.connect() as connection:
            assert connection.connection.dbapi_connection is first_returned
        assert first_returned is not last


def test_a_connection_is_waited_for_in_vain_for_a_moment_only(make_app: MakeApp) -> None:
    """Where all are in use, whoever asks is told so."""
    app = make_app(AUTHSVC_DATABASE_CONNECTIONS="1")
    database = parts(app).database
    with app.app_context(), ExitStack() as held:
        assert db.engine.pool.timeout() == timeouts.POOL  # type: ignore[attr-defined]
        for _ in range(db.engine.pool.size()):  # type: ignore[attr-defined]
            held.enter_context(db.engine.connect())
        with pytest.raises(Unavailable, match=causes.BUSY):
            database.check(b"")
        with pytest.raises(Unavailable, match=causes.BUSY):
            database.read(lambda repository: repository.has_accounts())
    assert database.check(b"") is None


# A file


def test_a_settled_file_is_all_there_is(tmp_path: Path) -> None:
    """Whatever its name; also where somebody still has it open."""
    path = tmp_path / "a?b#c%41 d.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (b)")
        assert log(path).stat().st_size > 0
        settle(file(path))
        assert log(path).stat().st_size == 0


def test_settling_makes_no_file(path: Path) -> None:
    """A service that never reached its database leaves nothing behind."""
    settle(file(path))
    assert list(path.parent.iterdir()) == []


def test_a_server_is_not_settled(path: Path) -> None:
    """A file of that name is none of ours."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (b)")
        settle(SERVER)
        assert log(path).stat().st_size > 0


def test_a_file_that_is_younger_than_the_log_beside_it_is_risky(path: Path) -> None:
    """It was restored, and the log has rows of another."""
    path.touch()
    log(path).write_bytes(b"rows")
    make_younger(path, log(path))
    assert [risk.id for risk in risks_of_opening(file(path))] == ["authsvc.W012"]
    assert risks_of_opening(SERVER) == []


def test_a_file_with_its_own_log_is_not_risky(path: Path) -> None:
    """Nor one with an empty log, with none, or one that is not there yet."""
    assert risks_of_opening(file(path)) == []
    path.touch()
    assert risks_of_opening(file(path)) == []
    log(path).touch()
    make_younger(path, log(path))
    assert risks_of_opening(file(path)) == []
    log(path).write_bytes(b"rows")
    make_younger(log(path), path)
    assert risks_of_opening(file(path)) == []

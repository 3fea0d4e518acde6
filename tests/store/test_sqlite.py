"""What SQLite leaves in its folder: while it runs, after a stop, in a backup. And how its writers take turns."""

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import URL, Engine, create_engine, exc, make_url

from authsvc.errors import Unavailable
from authsvc.parts import parts
from authsvc.store import causes, db, timeouts
from authsvc.store.sqlite import Sqlite
from tests.conftest import StartServer
from tests.databases import PASSWORD, SqliteDatabases
from tests.deployment import blocks
from tests.dialects import Auth
from tests.servers import Server, wait_for

BACKUP, RESTORE = blocks("", "Backup and restore")[:3:2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder as an operator has it, before the first start."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def service(project: Path, start_server: StartServer) -> Server:
    """A service there, with the key that it made itself."""
    return start_server(url(project), AUTHSVC_SECRET_KEY="", AUTHSVC_WORKERS="2", AUTHSVC_ADMIN_PASSWORD=PASSWORD)


def url(project: Path) -> str:
    """The address of its database."""
    return f"sqlite:///{project}/instance/authsvc.db"


def operate(project: Path, commands: str) -> None:
    """Run what deploy/README.md says, as careless with permissions as a shell is."""
    subprocess.run(["bash", "-euc", f"umask 022; {commands}"], cwd=project, check=True, capture_output=True)


def modes(folder: Path) -> dict[str, int]:
    """Of the files in a folder, who may do what."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_after_a_clean_stop_the_one_file_is_everything(project: Path, service: Server) -> None:
    """Whoever takes it alone has all that was acknowledged; nothing lies beside it but the key."""
    service.auth.token("admin", PASSWORD)
    assert service.stop() == 0
    assert sorted(modes(project / "instance")) == ["authsvc.db", "authsvc.db.key"]
    with sqlite3.connect(f"file:{project}/instance/authsvc.db?immutable=1", uri=True) as database:
        assert database.execute("SELECT count(*) FROM session").fetchone() == (1,)
    database.close()


def test_a_killed_service_loses_nothing(project: Path, service: Server, start_server: StartServer) -> None:
    """What it left beside the file is found by the next start, which warns of nothing."""
    token = service.auth.token("admin", PASSWORD)
    service.kill()
    assert (project / "instance" / "authsvc.db-wal").stat().st_size > 0
    again = start_server(url(project), AUTHSVC_SECRET_KEY="")
    assert again.auth.verify(token).status == 200
    assert "setting.risky" not in again.log


def test_everything_is_its_owners_alone(project: Path, service: Server) -> None:
    """The database, what lies beside it, and its key."""
    service.auth.token("admin", PASSWORD)
    assert len(modes(project / "instance")) == 4
    assert set(modes(project / "instance").values()) == {0o600}


def test_a_backup_of_a_running_service_can_be_restored(
    project: Path, service: Server, start_server: StartServer
) -> None:
    """By the commands of deploy/README.md: readable by its owner alone, complete, and without what came after it."""
    kept = service.auth.token("admin", PASSWORD)
    operate(project, BACKUP)
    after = service.auth.token("admin", PASSWORD)
    assert modes(project / "backup") == {"authsvc.db": 0o600, "authsvc.db.key": 0o600}
    service.kill()
    operate(project, RESTORE)
    assert set(modes(project / "instance").values()) == {0o600}
    restored = start_server(url(project), AUTHSVC_SECRET_KEY="")
    assert restored.auth.verify(kept).status == 200
    assert Auth.verdict(restored.auth.verify(after)) == (401, "Token is revoked.")
    assert "setting.risky" not in restored.log


def test_an_old_log_beside_a_restored_file_is_told(project: Path, service: Server, start_server: StartServer) -> None:
    """Its rows would mix in, and no check of the database would notice."""
    operate(project, BACKUP)
    service.auth.token("admin", PASSWORD)
    service.kill()
    shutil.copyfile(project / "backup" / "authsvc.db", project / "instance" / "authsvc.db")
    careless = start_server(url(project), AUTHSVC_SECRET_KEY="")
    wait_for(lambda: "server.starting" in careless.log)
    assert [line["id"] for line in careless.log_lines if line["event"] == "setting.risky"] == ["authsvc.W012"]


# In this process


@pytest.fixture(scope="session", params=["sqlite"])
def databases(request: pytest.FixtureRequest) -> SqliteDatabases:
    """Those of one kind only."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, SqliteDatabases)
    return found


@pytest.fixture
def other(database_url: str) -> Iterator[sqlite3.Connection]:
    """Another process's connection."""
    with closing(sqlite3.connect(str(make_url(database_url).database), isolation_level=None)) as connection:
        yield connection


def settings(app: Flask) -> list[dict[str, object]]:
    """Those of two connections of the application."""
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    with app.app_context(), db.engine.connect() as one, db.engine.connect() as another:
        return [
            {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
            for connection in (one, another)
        ]


def test_each_connection_keeps_what_is_promised(app: Flask) -> None:
    """Readers go on while somebody writes, a commit survives a power cut (FULL is 2), and writers are waited for."""
    assert (
        settings(app)
        == [{"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": timeouts.WRITER * 1000}] * 2
    )


@pytest.mark.parametrize("patience", [0, 0.2])
def test_who_hurries_waits_no_longer_than_said(app: Flask, other: sqlite3.Connection, patience: float) -> None:
    """For the writers of other processes; whoever comes next waits as long as ever."""
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(Unavailable, match=causes.WRITER), parts(app).database.write(patience=patience):
        pass
    assert patience <= time.monotonic() - started < timeouts.WRITER
    assert {each["busy_timeout"] for each in settings(app)} == {timeouts.WRITER * 1000}
    other.execute("ROLLBACK")
    with parts(app).database.write(patience=patience) as repository:
        repository.set_setting("appcfg", '{"a": 1}')
    assert other.execute("SELECT value FROM setting WHERE name = 'appcfg'").fetchall() == [('{"a": 1}',)]


def test_writers_of_one_process_take_turns(app: Flask) -> None:
    """Who does not wait is told that somebody writes."""
    database = parts(app).database
    with database.write(), pytest.raises(Unavailable, match=causes.WRITER), database.write(patience=0):
        pass
    with database.write(patience=0):
        pass


@pytest.fixture
def make_backend(tmp_path: Path) -> Iterator[Callable[..., tuple[Sqlite, Engine]]]:
    """Makes backends on files of these names."""
    engines = []

    def make(name: str, fetch: Callable[..., list[Any]] = lambda *_: []) -> tuple[Sqlite, Engine]:
        engines.append(create_engine(URL.create("sqlite", database=str(tmp_path / name))))
        return Sqlite(engines[-1], fetch), engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def test_who_waited_for_a_turn_has_the_less_time_left(make_backend: Callable[..., tuple[Sqlite, Engine]]) -> None:
    """For the writers of other processes; never less than none."""
    backend, _ = make_backend("a.db")
    with backend.turn(60.0) as left:
        assert 0 < left <= 60
    with backend.turn(0.0) as left:
        assert left == 0


def test_only_a_migration_makes_the_file(tmp_path: Path, make_backend: Callable[..., tuple[Sqlite, Engine]]) -> None:
    """Whatever its name: who mistypes it is told."""
    name = "a?b#c%41 d.db"
    _, engine = make_backend(name)
    with pytest.raises(exc.OperationalError):
        engine.connect()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).touch()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA database_list").all() == [(0, "main", str(tmp_path / name))]


def test_all_connections_are_kept() -> None:
    """No more are made than the setting says."""
    assert Sqlite.pool(7) == {"pool_size": 7, "max_overflow": 0}


def test_a_check_that_hangs_holds_no_other_up(make_backend: Callable[..., tuple[Sqlite, Engine]]) -> None:
    """Others have their turn after a moment; what is not found is None."""
    gate, asked = threading.Event(), list[bytes]()

    def fetch(_: str, parameters: tuple[bytes]) -> list[Any]:
        asked.extend(parameters)
        if parameters == (b"hangs",):
            gate.wait()
        return [] if parameters == (b"absent",) else list(parameters)

    backend: Any = make_backend("a.db", fetch)[0]
    with ThreadPoolExecutor(1) as other:
        try:
            hanging = other.submit(backend.check, b"hangs")
            wait_for(lambda: asked == [b"hangs"])
            assert [backend.check(key) for key in (b"one", b"absent")] == [b"one", None]
            assert not hanging.done()
        finally:
            gate.set()
        assert hanging.result() == b"hangs"
    assert backend.check(b"one") == b"one"

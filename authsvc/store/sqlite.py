"""What SQLite needs: a file, one writer at a time."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, bindparam, event
from sqlalchemy.dialects.sqlite import insert

from authsvc.errors import Unavailable
from authsvc.logs import RiskyButLegal
from authsvc.sessions import LiveSession
from authsvc.store import causes, tables, timeouts
from authsvc.store.repository import LIVE_SESSIONS

_PATIENCE = f"busy_timeout = {int(timeouts.WRITER * 1000)}"


class Sqlite:
    """One SQLite file."""

    connect_args: ClassVar[dict[str, Any]] = {}
    upsert = staticmethod(insert)
    keeps_one: ClassVar[bool] = True
    """Whether session checks keep a connection: the pool takes longer than the query."""

    def __init__(self, engine: Engine, fetch: Callable[[str, Any], list[LiveSession]]) -> None:
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "connect", _prepare)
        self._fetch = fetch
        statement = LIVE_SESSIONS.where(tables.session.c.id_hash == bindparam("id_hash"))
        self._check = statement.compile(dialect=engine.dialect).string
        self._checking, self._writer = threading.Lock(), threading.Lock()

    @staticmethod
    def pool(connections: int) -> dict[str, int]:
        """How many connections to keep: all that are made."""
        return {"pool_size": connections, "max_overflow": 0}

    def check(self, id_hash: bytes) -> LiveSession | None:
        """A session with its account.

        Checks take turns: SQLite lets go of the interpreter's lock at each step, and threads that fight for that lock
        take longer than the query.
        """
        is_our_turn = self._checking.acquire(timeout=timeouts.TURN)
        try:
            return next(iter(self._fetch(self._check, (id_hash,))), None)
        finally:
            if is_our_turn:
                self._checking.release()

    @contextmanager
    def turn(self, patience: float) -> Iterator[float]:
        """Be this process's writer; yields the seconds left to wait for those of other processes. Raises Unavailable.

        Who waited for a turn on a connection would hold one that a session check needs.
        """
        started = time.monotonic()
        if not self._writer.acquire(timeout=patience):
            raise Unavailable(causes.WRITER)
        try:
            yield max(0.0, patience - (time.monotonic() - started))
        finally:
            self._writer.release()

    @staticmethod
    def begin(connection: Connection, patience: float) -> None:
        """Open a transaction that writes."""
        # As a rule, nearly all patience is left, and the connection has as much by itself.
        hurries = patience < 0.9 * timeouts.WRITER
        if hurries:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        try:
            # A reader that turns writer fails at once, whatever the time-out: say it up front.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            if hurries:
                connection.exec_driver_sql(f"PRAGMA {_PATIENCE}")

    @staticmethod
    def begin_snapshot(connection: Connection) -> None:
        """Open a transaction that only reads, of the moment of its first statement."""
        connection.exec_driver_sql("BEGIN")

    @staticmethod
    def number_on(_connection: Connection, _table: str) -> None:
        """Nothing to do: rows are numbered behind the highest id there ever was."""

    @staticmethod
    def exclude_others(_connection: Connection) -> None:
        """Nothing to do: a transaction that writes is alone."""

    @staticmethod
    def risks(_connection: Connection, _connections: int) -> Iterator[RiskyButLegal]:
        """Nothing: a file has room for all."""
        yield from ()


def _connect(
    _dialect: object, _record: object, arguments: tuple[Any, ...], parameters: dict[str, Any]
) -> sqlite3.Connection:
    # Only a migration makes the file: who mistypes its name is told, and a command leaves nothing behind.
    connection: sqlite3.Connection = sqlite3.connect(f"{Path(arguments[0]).as_uri()}?mode=rw", uri=True, **parameters)
    return connection


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers go on while somebody writes. FULL: an acknowledged commit survives a power cut.
    for pragma in (_PATIENCE, "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def settle(path: str) -> None:
    """Make the file all there is, after the last worker: what is in the log beside it is moved into it."""
    # Whoever closes the file last does that, but workers are gone without closing it.
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def risks_of_opening(path: str) -> Iterator[RiskyButLegal]:
    """What is risky about a file that nobody has open yet."""
    with suppress(FileNotFoundError):
        file, log = Path(path).stat(), Path(f"{path}-wal").stat()
        # After a crash the log is the younger one. ctime: a file that is moved or copied in keeps its other times.
        if log.st_size and file.st_ctime > log.st_ctime:
            yield RiskyButLegal(
                "authsvc.W012",
                "the database's file is younger than the -wal beside it: rows of an older database may mix in",
                "was the file restored? Stop, remove the -wal and the -shm, and restore it again",
            )

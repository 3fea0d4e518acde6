"""The ways into the database: one to check a session, one to read, one to write."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event, exc

from authsvc.errors import Unavailable
from authsvc.logs import RiskyButLegal
from authsvc.metrics import Metrics
from authsvc.sessions import LiveSession
from authsvc.store import causes, timeouts
from authsvc.store.postgresql import Postgresql
from authsvc.store.repository import Repository, live_session
from authsvc.store.sqlite import Sqlite

BACKENDS: dict[str, type[Sqlite | Postgresql]] = {"sqlite": Sqlite, "postgresql": Postgresql}
"""What differs between the databases, by SQLAlchemy's name of each."""

_CURSOR = "authsvc.cursor"
_OUR_MISTAKES = (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.NotSupportedError)
_T = TypeVar("_T")


class Database:
    """Hands out repositories. Whatever the database does wrong is raised as Unavailable."""

    def __init__(self, engine: Engine, clock: Callable[[], float], metrics: Metrics, *, keeps_one: bool) -> None:
        """`keeps_one`: whether session checks keep a connection of their own."""
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._backend = BACKENDS[engine.dialect.name](engine, self._fetch)
        self._driver_error = engine.dialect.loaded_dbapi.Error
        self._checking = threading.Lock()
        if not keeps_one:
            self._checking.acquire()
        self._held: PoolProxiedConnection | None = None
        event.listen(engine, "engine_disposed", self._let_go)

    def check(self, id_hash: bytes) -> LiveSession | None:
        """A session with its account, read after this call began: what the service does all day. Raises Unavailable."""
        started = time.monotonic()
        try:
            live = self._backend.check(id_hash)
        except (self._driver_error, exc.DBAPIError, exc.TimeoutError) as error:
            if time.monotonic() - started > timeouts.QUICK:
                self._metrics.database_error()
                raise _unavailable(error) from error
            # Once more through `read`, which tells dead connections from outages.
            return self.read(lambda repository: repository.live_session(id_hash))
        self._metrics.database("check", time.monotonic() - started)
        return live

    def _fetch(self, statement: str, parameters: Any) -> list[LiveSession]:
        """What a session check finds.

        By the driver's cursor, as SQLAlchemy's statements take longer than the query. Where a connection is kept for
        checks, it is one of the pool only while another check hangs on that.
        """
        if not self._checking.acquire(blocking=False):
            connection = self._engine.raw_connection()
            try:
                return _fetched(connection, statement, parameters)
            except self._driver_error:
                connection.invalidate()
                raise
            finally:
                connection.close()
        try:
            if self._held is None:
                self._held = self._engine.raw_connection()
            return _fetched(self._held, statement, parameters)
        except self._driver_error:
            self._let_go()
            raise
        finally:
            self._checking.release()

    def _let_go(self, *_: object) -> None:
        if self._held:
            self._held.invalidate()
        self._held = None

    def read(self, query: Callable[[Repository], _T]) -> _T:
        """The result of `query`, each of whose statements is a transaction of its own. Raises Unavailable."""
        with self._observed("read"), _outages():
            connection, result = self._try(lambda connection: query(self._repository(connection)))
            connection.close()
            return result

    @contextmanager
    def write(self, *, patience: float = timeouts.WRITER, exclusive: bool = False) -> Iterator[Repository]:
        """A transaction: committed when the block ends, rolled back when it raises. Raises Unavailable.

        Waits up to `patience` seconds for its turn, where there is one. No two `exclusive` ones run at a time.
        """
        with self._observed("write", counted=patience > 0), _outages(), self._backend.turn(patience) as left:
            connection, _ = self._try(lambda connection: self._backend.begin(connection, left))
            # Where the block raises, returning the connection to the pool rolls back.
            with connection:
                if exclusive:
                    self._backend.exclude_others(connection)
                repository = self._repository(connection)
                yield repository
                repository.commit()

    @contextmanager
    def snapshot(self) -> Iterator[Repository]:
        """One picture of everything, however long reading it takes, while others write. Raises Unavailable."""
        with _outages():
            connection, _ = self._try(self._backend.begin_snapshot)
            # Returning the connection to the pool ends it.
            with connection:
                yield self._repository(connection)

    def _repository(self, connection: Connection) -> Repository:
        return Repository(connection, self._backend, self._clock)

    def risks(self, connections: int) -> list[RiskyButLegal]:
        """What is risky about it, for a service that may open so many connections. Raises Unavailable."""
        with _outages():
            connection, found = self._try(lambda connection: list(self._backend.risks(connection, connections)))
            connection.close()
            return found

    def _try(self, first: Callable[[Connection], _T]) -> tuple[Connection, _T]:
        """A connection on which `first` went well, and its result.

        A pooled connection may have died long ago, with a restart of the server; nothing was done yet, so a fresh one
        gets the same chance. Not where it took long to find out: the caller waits.
        """
        started = time.monotonic()
        while True:
            connection = self._engine.connect()
            try:
                return connection, first(connection)
            except exc.DBAPIError as error:
                connection.close()
                if not error.connection_invalidated or time.monotonic() - started > timeouts.QUICK:
                    raise
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def _observed(self, operation: str, *, counted: bool = True) -> Iterator[None]:
        """Time it, and count what fails, unless that is no error: who waits for nobody often finds another writing."""
        started = time.monotonic()
        try:
            yield
        except Unavailable:
            if counted:
                self._metrics.database_error()
            raise
        finally:
            self._metrics.database(operation, time.monotonic() - started)


def _fetched(connection: PoolProxiedConnection, statement: str, parameters: Any) -> list[LiveSession]:
    # One cursor a connection: making it is a good part of the work.
    if (cursor := connection.info.get(_CURSOR)) is None:
        cursor = connection.info[_CURSOR] = connection.cursor()
    cursor.execute(statement, parameters)
    return [live_session(row) for row in cursor.fetchall()]


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except exc.TimeoutError as error:
        raise _unavailable(error) from error
    except exc.DBAPIError as error:
        if isinstance(error, _OUR_MISTAKES) and not causes.known_cause(error.orig):
            raise
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, exc.TimeoutError):
        return Unavailable(causes.BUSY)
    # The driver's own error, or that error as SQLAlchemy passes it on.
    return Unavailable(causes.known_cause(getattr(error, "orig", error)) or causes.UNKNOWN)

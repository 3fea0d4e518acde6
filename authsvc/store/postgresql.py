"""What PostgreSQL needs: a server that may be away, many writers."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, ExceptionContext, LargeBinary, any_, bindparam, event, exc
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.pool import ConnectionPoolEntry

from authsvc.logs import RiskyButLegal
from authsvc.sessions import LiveSession
from authsvc.store import tables, timeouts
from authsvc.store.batching import Batcher
from authsvc.store.repository import LIVE_SESSIONS

_KEPT = 4  # connections
_EXCLUSIVE = 0x61757468  # "auth": any number, as long as it is always the same one.
_ENCODINGS = {"UTF8", "SQL_ASCII"}
# What these fail with is true of every connection that was made before: a server that is no longer the primary or was
# read-only, statements that were prepared for other columns or are not there (see Connector).
_LEAVE_ALL = {"22012", "25006", "0A000", "26000", "42P05"}
_TIMEOUTS = {  # milliseconds
    "statement_timeout": int(timeouts.STATEMENT * 1000),
    "lock_timeout": int(timeouts.LOCK * 1000),
    "idle_in_transaction_session_timeout": int(timeouts.IDLE_IN_TRANSACTION * 1000),
}
# Everything is found by its key, few rows at a time. A planner that guesses would read whole tables as long as they are
# small, and plan some statements anew each time.
_PLANS = {"plan_cache_mode": "force_generic_plan", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_DEFAULTS = {
    "application_name": "authsvc",
    # An address may lead to what was the primary. Not `read-write`: a primary may be read-only and serve checks.
    "target_session_attrs": "primary",
    # Else names are bytes where the server's encoding is SQL_ASCII.
    "client_encoding": "utf8",
}
_SERVER_SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
    " 'idle_in_transaction_session_timeout', 'max_connections', 'superuser_reserved_connections',"
    " 'reserved_connections') UNION ALL SELECT 'reserved_connections', '0'"
    " WHERE current_setting('reserved_connections', true) IS NULL"
    " UNION ALL SELECT 'pid', pg_backend_pid()::text"
    " UNION ALL SELECT 'role', rolconnlimit::text FROM pg_roles WHERE rolname = current_user"
)
_TIMELINE = "authsvc.timeline"
# A promotion begins a new one.
_ASK_TIMELINE = (
    "SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"
    " FROM pg_control_system()"
)
_T = TypeVar("_T")


class Postgresql:
    """One PostgreSQL database."""

    connect_args: ClassVar[dict[str, Any]] = {
        "connect_timeout": timeouts.CONNECT,
        "options": " ".join(f"-c {name}={value}" for name, value in (_TIMEOUTS | _PLANS).items()),
    }
    upsert = staticmethod(insert)
    keeps_one: ClassVar[bool] = False
    """One round trip is many checks': a connection of its own would save them little, and be missing in a flood."""

    def __init__(self, engine: Engine, fetch: Callable[[str, Any], list[LiveSession]]) -> None:
        connector = Connector(_Connection)
        event.listen(engine, "do_connect", connector)
        event.listen(engine, "checkout", connector.refuse_replaced)
        event.listen(engine, "handle_error", _leave)
        self._fetch = fetch
        id_hashes = bindparam("id_hashes", type_=ARRAY(LargeBinary))
        statement = LIVE_SESSIONS.where(tables.session.c.id_hash == any_(id_hashes))
        self._check = statement.compile(dialect=engine.dialect).string
        # All checks of a moment share a round trip.
        self.check = Batcher(self._check_all, timeouts.TURN).get

    @staticmethod
    def pool(connections: int) -> dict[str, int]:
        """How many connections to keep. More are made when wanted, and given back: a server has few for all."""
        kept = min(_KEPT, connections)
        return {"pool_size": kept, "max_overflow": connections - kept}

    def _check_all(self, id_hashes: list[bytes]) -> dict[bytes, LiveSession]:
        return {live.session.id_hash: live for live in self._fetch(self._check, {"id_hashes": id_hashes})}

    @contextmanager
    def turn(self, patience: float) -> Iterator[float]:
        """Nothing to wait for: writers wait for each other's rows only."""
        yield patience

    @staticmethod
    def begin(connection: Connection, _patience: float) -> None:
        """Open a transaction that writes."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")

    @staticmethod
    def begin_snapshot(connection: Connection) -> None:
        """Open a transaction that only reads, of the moment of its first statement."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Whoever takes what is read may be slow.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")

    @staticmethod
    def number_on(connection: Connection, table: str) -> None:
        """Number rows behind the highest id from now on. Ask for `exclusive` before, as whoever numbers rows does."""
        sequence = f"pg_get_serial_sequence('{table}', 'id')"
        connection.exec_driver_sql(
            f'SELECT setval({sequence}, max(id)) FROM "{table}"'  # noqa: S608 - a table of ours
            f" HAVING max(id) > coalesce(pg_sequence_last_value({sequence}::regclass), 0)"
        )

    @staticmethod
    def exclude_others(connection: Connection) -> None:
        """Wait until no other transaction that asks for this is under way, and make later ones wait."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_EXCLUSIVE})")

    @staticmethod
    def risks(connection: Connection, connections: int) -> Iterator[RiskyButLegal]:
        """What is risky about the server, for a service that may open so many connections."""
        found = {name: int(value) for name, value in connection.exec_driver_sql(_SERVER_SETTINGS)}
        if not all(0 < found[name] <= longest for name, longest in _TIMEOUTS.items()):
            yield RiskyButLegal(
                "authsvc.W010",
                "time-outs are not in force: one locked row can hold every connection up",
                "ALTER ROLE ... SET, as deploy/README.md says for PgBouncer",
            )
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        is_pooled = found["pid"] != driver.info.backend_pid
        if is_pooled and driver.prepare_threshold is not None and not _can_prepare(connection, driver):
            yield RiskyButLegal(
                "authsvc.W010",
                "the pooler mixes prepared statements up: what is asked may be another client's question",
                "take prepare_threshold out of the URL, or see deploy/README.md, PgBouncer",
            )
        room = found["max_connections"] - found["superuser_reserved_connections"] - found["reserved_connections"]
        if not is_pooled and connections > min(room, found["role"] if found["role"] >= 0 else room):
            yield RiskyButLegal(
                "authsvc.W011",
                f"may open {connections} connections (workers x AUTHSVC_DATABASE_CONNECTIONS), the server has {room}",
                "lower AUTHSVC_DATABASE_CONNECTIONS or AUTHSVC_WORKERS, or raise the server's max_connections",
            )


class _Connection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer at all, as its own statement_timeout cannot."""

    on_silence: Callable[[], None] = staticmethod(lambda: None)

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = timeouts.ANSWER) -> _T:
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            # The query still runs; its late result must not reach the next user of the connection.
            if self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()
                self.on_silence()
            raise


class Connector:
    """How SQLAlchemy's "do_connect" makes connections: to the primary, and such as can be worked with.

    Of several hosts the one that was the primary last goes first, until it falls silent: to ask it costs seconds.
    """

    def __init__(self, kind: type[psycopg.Connection[Any]]) -> None:
        self._kind = kind
        self._first = 0
        # All workers of a replica share this: system and timeline of the newest primary that any of them has met.
        self._newest = multiprocessing.RawArray("q", 2)

    def __call__(
        self, _dialect: object, record: ConnectionPoolEntry, _arguments: object, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Make one."""
        servers, problems = _servers(parameters), []
        for number in sorted(range(len(servers)), key=lambda number: number != self._first):
            try:
                connection = self._connect(record, {**_DEFAULTS, **parameters, **servers[number]})
            except psycopg.OperationalError as error:
                problems.append(error)
            else:
                self._first = number
                if isinstance(connection, _Connection):
                    connection.on_silence = partial(self._try_another, number, len(servers))
                return connection
        raise psycopg.OperationalError("; ".join(map(str, problems))) from problems[0]

    def _try_another(self, silent: int, servers: int) -> None:
        if self._first == silent:
            self._first = (silent + 1) % servers

    def _connect(self, record: ConnectionPoolEntry, parameters: dict[str, Any]) -> psycopg.Connection[Any]:
        threshold = parameters.pop("prepare_threshold", None)
        connection = self._kind.connect(**parameters)
        try:
            is_pooled = _is_pooled(connection)
            record.info[_TIMELINE] = None if is_pooled else self._timeline(connection)
            # Older poolers hand a transaction to a server that knows other statements by the same names.
            if threshold == "none" or (threshold is None and is_pooled):
                connection.prepare_threshold = None
            elif threshold:
                connection.prepare_threshold = int(threshold)
        except BaseException:
            connection.close()
            raise
        return connection

    def _timeline(self, connection: psycopg.Connection[Any]) -> int | None:
        """That of a primary. Raises OperationalError where it is not the newest: the server was replaced."""
        try:
            ((system, timeline),) = connection.execute(_ASK_TIMELINE)
        except psycopg.Error:
            return None  # other storage may be under the server
        if self._newest[0] == system and timeline < self._newest[1]:
            raise psycopg.OperationalError("pg_is_in_recovery")
        self._newest[:] = system, timeline
        return int(timeline)

    def refuse_replaced(self, _connection: object, record: ConnectionPoolEntry, _fairy: object) -> None:
        """Take no connection to a server that was replaced since, as SQLAlchemy's "checkout"."""
        if not self.is_current(record.info):
            raise exc.InvalidatePoolError

    def is_current(self, info: Mapping[str, Any]) -> bool:
        """Whether the server of a connection was not replaced: one that was frozen takes itself for the primary."""
        timeline = info.get(_TIMELINE)
        return timeline is None or timeline >= self._newest[1]


def _servers(parameters: dict[str, Any]) -> list[dict[str, str]]:
    hosts = str(parameters.get("host", "")).split(",")
    if len(hosts) == 1:
        return [{}]
    ports = str(parameters.get("port", "")).split(",")
    return [{"host": host, "port": port} for host, port in zip_longest(hosts, ports, fillvalue=ports[-1])]


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler (PgBouncer) is between. Raises where this is no primary, or nothing that can be worked with."""
    # Messages as those of libpq, which `causes` knows.
    if connection.info.parameter_status("server_encoding") not in _ENCODINGS:
        raise psycopg.OperationalError("server_encoding")
    connection.autocommit = True
    ((is_standby, pid),) = connection.execute("SELECT pg_is_in_recovery(), pg_backend_pid()")
    # `target_session_attrs` has asked already, but a pooler answers that from memory.
    if is_standby:
        # A pooler would go on using its connection to there, wherever the address leads by now.
        with suppress(psycopg.Error):
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise psycopg.OperationalError("pg_is_in_recovery")
    # By which number a pooler's client may cancel queries is not the server's.
    return bool(pid != connection.info.backend_pid)


def _can_prepare(connection: Connection, driver: psycopg.Connection[Any]) -> bool:
    """Whether a statement that is prepared can still be run when a pooler has to take another of its connections."""
    question, answer = "SELECT 'authsvc'", ("authsvc",)
    with suppress(psycopg.Error), connection.engine.connect() as other:
        driver.execute(question, prepare=True)
        # The pooler gives this one the connection that it used last; on the next, another statement may have our name.
        other.exec_driver_sql("BEGIN")
        if driver.execute(question, prepare=True).fetchone() == answer:
            return True
    connection.invalidate()
    return False


def _leave(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "sqlstate", None) in _LEAVE_ALL:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = True

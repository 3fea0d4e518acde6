"""What PostgreSQL needs: a server that may be away, many writers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, LargeBinary, any_, bindparam, event
from sqlalchemy.dialects.postgresql import ARRAY, insert

from authsvc.store import tables, timeouts
from authsvc.store.batching import Batcher
from authsvc.store.repository import LIVE_SESSIONS, Row

_EXCLUSIVE = 0x61757468  # "auth": any number, as long as it is always the same one.
_UNDEFINED_TABLE, _UNDEFINED_COLUMN = "42P01", "42703"
_T = TypeVar("_T")


def _options(**options: object) -> str:
    return " ".join(f"-c {name}={value}" for name, value in options.items())


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


class Postgresql:
    """One PostgreSQL database."""

    connect_args: ClassVar[dict[str, Any]] = {
        "application_name": "authsvc",
        "connect_timeout": timeouts.CONNECT,
        "options": _options(
            statement_timeout=_milliseconds(timeouts.STATEMENT),
            lock_timeout=_milliseconds(timeouts.LOCK),
            idle_in_transaction_session_timeout=_milliseconds(timeouts.IDLE_IN_TRANSACTION),
            # Everything is found by its key, few rows at a time. A planner that guesses would read whole tables as
            # long as they are small, and plan some statements anew each time.
            plan_cache_mode="force_generic_plan",
            enable_hashjoin="off",
            enable_mergejoin="off",
        ),
    }
    upsert = staticmethod(insert)

    def __init__(self, engine: Engine, fetch: Callable[[str, Any], list[Row]]) -> None:
        event.listen(engine, "do_connect", _connect)
        self._fetch = fetch
        id_hashes = bindparam("id_hashes", type_=ARRAY(LargeBinary))
        statement = LIVE_SESSIONS.where(tables.session.c.id_hash == any_(id_hashes))
        self._check = statement.compile(dialect=engine.dialect).string
        # All checks of a moment share a round trip.
        self.check = Batcher(self._check_all, timeouts.BATCH).get

    def _check_all(self, id_hashes: list[bytes]) -> dict[bytes, Row]:
        return {row["id_hash"]: row for row in self._fetch(self._check, {"id_hashes": id_hashes})}

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
    def lacks_schema(error: BaseException | None) -> bool:
        """Whether a statement failed for want of a table or column."""
        return getattr(error, "sqlstate", None) in {_UNDEFINED_TABLE, _UNDEFINED_COLUMN}


class _Connection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer at all, as its own statement_timeout cannot."""

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = timeouts.ANSWER) -> _T:
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            # The query still runs; its late result must not reach the next user of the connection.
            if self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()
            raise


def _connect(_dialect: object, _record: object, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> _Connection:
    return _Connection.connect(*arguments, **parameters)

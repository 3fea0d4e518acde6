"""The Flask-SQLAlchemy handle, and how to talk to each database."""

import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from alembic import command
from alembic.util import CommandError
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from psycopg.abc import PQGen
from sqlalchemy import URL, Engine, event

from authsvc.errors import Unavailable
from authsvc.models import Base

_T = TypeVar("_T")
db = SQLAlchemy(metadata=Base.metadata, disable_autonaming=True)

# A request may meet several of these. While the server is gone or frozen they add up to less than the 5 seconds within
# which it is answered; only one that is slow to connect to, and then freezes, can take longer.
_DEADLINE = 2.2  # seconds
_POSTGRESQL = {
    "application_name": "authsvc",
    "connect_timeout": 2,  # seconds
    "options": "-c statement_timeout=2000 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=10000"  # ms
    # Everything is found by its key, few rows at a time. A planner that guesses would read whole tables as long as
    # they are small, and plan some statements anew each time.
    " -c plan_cache_mode=force_generic_plan -c enable_hashjoin=off -c enable_mergejoin=off",
}
MIGRATIONS = Path(__file__).parent.parent / "migrations"


def engine_options(url: URL) -> dict[str, Any]:
    """What `create_engine` is told, per database.

    Both run in AUTOCOMMIT: a read is one statement and one round trip, and whatever writes says BEGIN itself
    (see `repository.Database.write`).
    """
    return {
        "isolation_level": "AUTOCOMMIT",
        # An error's text does not quote what a statement was given.
        "hide_parameters": True,
        # Statements are short and hashing holds no connection: few connections serve many threads.
        "pool_size": 16,
        "max_overflow": 0,
        "pool_timeout": 2.0,  # seconds
        "pool_use_lifo": True,
        "connect_args": {} if url.get_backend_name() == "sqlite" else _POSTGRESQL,
    }


def prepare_engine(engine: Engine) -> None:
    """Set up how connections are made. Touches no database until somebody connects."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine, "do_connect", _connect_with_deadline)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers go on while somebody writes. FULL: an acknowledged commit survives a power cut.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


class _Connection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer at all, as its own statement_timeout cannot."""

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = _DEADLINE) -> _T:
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            # Still at it: whatever comes belongs to a question that nobody waits for any more.
            if self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()
            raise


def _connect_with_deadline(
    _dialect: object, _record: object, arguments: tuple[Any, ...], parameters: dict[str, Any]
) -> _Connection:
    return _Connection.connect(*arguments, **parameters)


def migrate(app: Flask) -> None:
    """Bring the schema up to date, whoever else starts at the same moment. Raises Unavailable."""
    try:
        with app.app_context():
            command.upgrade(app.extensions["migrate"].migrate.get_config(), "head")
    except CommandError as error:
        raise Unavailable from error

"""The Flask-SQLAlchemy handle, and how to talk to each database."""

import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.util import CommandError
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, Engine, event

from authsvc.errors import Unavailable
from authsvc.models import Base

db = SQLAlchemy(metadata=Base.metadata, disable_autonaming=True)

_SQLITE = {"timeout": 4}  # seconds that a writer waits for another
_POSTGRESQL = {
    "application_name": "authsvc",
    "connect_timeout": 2,  # seconds
    "options": "-c statement_timeout=3000 -c lock_timeout=2500 -c idle_in_transaction_session_timeout=10000",  # ms
}
MIGRATIONS = Path(__file__).parent.parent / "migrations"


def engine_options(url: URL) -> dict[str, Any]:
    """What `create_engine` is told, per database.

    Both run in AUTOCOMMIT: a read is one statement and one round trip, and whatever writes says BEGIN itself
    (see `repository.writing`).
    """
    return {
        "isolation_level": "AUTOCOMMIT",
        # Statements are short and hashing holds no connection: few connections serve many threads.
        "pool_size": 16,
        "max_overflow": 0,
        "pool_timeout": 2,
        "pool_use_lifo": True,
        "connect_args": _SQLITE if url.get_backend_name() == "sqlite" else _POSTGRESQL,
    }


def prepare_engine(engine: Engine) -> None:
    """Set what SQLite keeps per connection. Touches no database until somebody connects."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers go on while somebody writes. FULL: an acknowledged commit survives a power cut.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def migrate(app: Flask) -> None:
    """Bring the schema up to date, whoever else starts at the same moment. Raises Unavailable."""
    try:
        with app.app_context():
            command.upgrade(app.extensions["migrate"].migrate.get_config(), "head")
    except CommandError as error:
        raise Unavailable from error

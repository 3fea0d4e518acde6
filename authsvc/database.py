"""The Flask-SQLAlchemy handle, and how to talk to each database."""

import sqlite3
from pathlib import Path
from typing import Any

from flask import Flask
from flask_migrate import upgrade
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, Engine, event

from authsvc.models import Base

db = SQLAlchemy(metadata=Base.metadata, disable_autonaming=True)

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def engine_options(url: URL) -> dict[str, Any]:
    """What `create_engine` is told, per database.

    Both run in AUTOCOMMIT: a read is one statement and one round trip, and whatever writes says BEGIN itself
    (see `repository.writing`).
    """
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_size": 16, "max_overflow": 0, "pool_timeout": 4}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": 4}
    return options


def prepare_engine(engine: Engine) -> None:
    """Set what SQLite keeps per connection. Touches no database until somebody connects."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers go on while somebody writes. FULL: an acknowledged commit survives a power cut.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def migrate(app: Flask) -> None:
    """Bring the schema up to date; quick where it already is."""
    with app.app_context():
        upgrade(directory=str(MIGRATIONS))

"""Whether the database's schema is one that this code can work with, and how it becomes so.

A release's migrations leave the release before it working (the rule is in migrations/env.py). So a newer schema is as
good as one's own, unless it says that code as old as this cannot work with it.
"""

from pathlib import Path

import psycopg
from alembic import command
from alembic.util import CommandError
from flask import Flask
from sqlalchemy import URL, Engine, NullPool, create_engine, event

from authsvc.errors import Unavailable
from authsvc.store import causes
from authsvc.store.database import Database
from authsvc.store.postgresql import Connector
from authsvc.store.repository import Repository
from authsvc.store.tables import REVISION

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"
# With nothing but a time-out for connecting, a server that is gone without a word would be waited for by the hour.
_POSTGRESQL = {
    "connect_timeout": 2,  # seconds
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}


class MigrationFailed(CommandError):
    """A migration could not be made; the text says why, without any value."""


def problem(database: Database) -> str | None:
    """Why this code cannot work with the database as it is, in a sentence; None where it can."""
    try:
        found, oldest = database.read(Repository.schema)
    except Unavailable as error:
        return f"The database does not answer: {error}."
    if found < REVISION:
        return f"The database's schema is {found or 'absent'}, this code needs {REVISION}."
    if oldest > REVISION:
        return f"The database's schema is {found} and needs code that knows {oldest}; this code knows {REVISION}."
    return None


def upgrade(app: Flask) -> None:
    """Bring the schema up to date, whoever else starts at the same moment. Raises Unavailable."""
    try:
        with app.app_context():
            command.upgrade(app.extensions["migrate"].migrate.get_config(), "head")
    except MigrationFailed as error:
        raise Unavailable(str(error)) from error
    except CommandError as error:
        raise Unavailable(causes.SCHEMA) from error


def engine_for_migrations(url: URL) -> Engine:
    """Connections that do not give up after seconds, as the service's do: a migration may take longer."""
    is_postgresql = url.get_backend_name() == "postgresql"
    arguments = _POSTGRESQL if is_postgresql else {}
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args=arguments)
    if is_postgresql:
        event.listen(engine, "do_connect", Connector(psycopg.Connection))
    return engine

"""Runs the migrations in one transaction that nobody else can be in at the same time."""

from pathlib import Path

import click
from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

db = current_app.extensions["migrate"].db
# With nothing but a time-out for connecting, a server that is gone without a word would be waited for by the hour.
_POSTGRESQL = {
    "connect_timeout": 2,  # seconds
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}
_LOCK = 0x6D696772  # "migr": any number, as long as it is always the same one.


def ask() -> None:
    """Ask whoever types `flask db downgrade`: what a newer schema added is deleted with all that is in it."""
    command = click.get_current_context(silent=True)
    if command and command.info_name == "downgrade" and "yes" not in context.get_x_argument():
        click.confirm("What the newer schema added is deleted with all that is in it. Go on?", abort=True, err=True)


def run() -> None:
    """Upgrade or downgrade as Alembic was asked to."""
    url = db.engine.url
    if url.get_backend_name() == "sqlite":
        # For its owner only, as it holds password hashes; SQLite gives the files beside it the same mode.
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        Path(url.database).touch(mode=0o600)
    # Not the service's connections: theirs give up after seconds, and a migration, or waiting for another replica's,
    # may take longer.
    options = _POSTGRESQL if url.get_backend_name() == "postgresql" else {}
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        # The lock comes first and the version is looked at under it: of replicas that start together one migrates
        # and the others find it done. On SQLite the transaction is the lock.
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Our transaction, not Alembic's: on SQLite it would not open one and half a migration could stay.
        context.configure(connection=connection, target_metadata=db.metadata, transactional_ddl=True)
        context.run_migrations()
        connection.exec_driver_sql("COMMIT")


if context.is_offline_mode():
    raise CommandError("Offline migrations (--sql) are not supported: they cannot take the lock.")
ask()
try:
    run()
except (OperationalError, OSError) as error:
    raise CommandError("The database does not answer.") from error

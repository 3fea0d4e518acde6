"""Runs the migrations in one transaction that nobody else can be in at the same time."""

from alembic import context
from flask import current_app
from sqlalchemy import text

db = current_app.extensions["migrate"].db
_LOCK = 0x6D696772  # "migr": any number, as long as it is always the same one.


def run() -> None:
    """Upgrade or downgrade as Alembic was asked to."""
    with db.engine.connect() as connection:
        # The lock comes first and the version is looked at under it: of replicas that start together one migrates
        # and the others find it done. On SQLite the transaction is the lock.
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        # Our transaction, not Alembic's: on SQLite it would not open one and half a migration could stay.
        context.configure(
            connection=connection, target_metadata=db.metadata, render_as_batch=True, transactional_ddl=True
        )
        context.run_migrations()
        connection.exec_driver_sql("COMMIT")


if context.is_offline_mode():
    raise SystemExit("Offline migrations (--sql) are not supported: they cannot take the lock.")
run()

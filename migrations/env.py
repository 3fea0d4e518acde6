"""Runs the migrations, each in one transaction that nobody else can be in at the same time.

The rule for them: **a release's migrations leave the release before it working**: its logins, checks, and `/readyz`.
Both run at once during an update, and to start the release before is the way back. `tests/test_migrations.py` holds it.

- Add, never take away. A new column of a table that is there is nullable or has a default in the database. No table or
  column that the release before uses is dropped, renamed, narrowed or given a new constraint.
- Take away one release later, when no code that may still run uses it. Such a migration writes into the database how
  old code may be: the row `oldest_code` of `setting`, with the revision that the oldest such code is written for.
- A migration changes one table that is there, and fills no rows: it waits up to a second for that table, and nobody
  reads it from then on until the transaction ends. Rows are filled by a migration of their own.
- Numbers go up, with four digits: code takes a schema with a higher number than its own for a newer one.
"""

import time
from pathlib import Path
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from flask import current_app
from sqlalchemy import Connection, exc

from authsvc.store import causes, schema

db = current_app.extensions["migrate"].db
_LOCK = 0x6D696772  # "migr": any number, as long as it is always the same one.
_LOCK_NOT_AVAILABLE = "55P03"
_PATIENCE = 60.0  # seconds
_PAUSES = {"postgresql": 1.0, "sqlite": 0.1}  # seconds


class _Overtaken(Exception):
    """Between two migrations another process has migrated on."""


def run() -> None:
    """Upgrade or downgrade as Alembic was asked to."""
    url = db.engine.url
    if url.get_backend_name() == "sqlite":
        # For its owner only, as it holds password hashes; SQLite gives the files beside it the same mode.
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        Path(url.database).touch(mode=0o600)
    engine = schema.engine_for_migrations(url)
    started = time.monotonic()
    while True:
        try:
            with engine.connect() as connection:
                _migrate(connection)
        except _Overtaken:
            continue
        except exc.OperationalError as error:
            if not _is_locked(error.orig) or time.monotonic() - started > _PATIENCE:
                raise
            # Somebody reads for long, or starts as we do. Who queued up behind us has a turn before we try again.
            time.sleep(_PAUSES[engine.dialect.name])
        else:
            return


def _is_locked(error: BaseException | None) -> bool:
    # SQLite does not wait where it would have to change the mode of a file that somebody has open.
    sqlite_name = getattr(error, "sqlite_errorname", "")
    return getattr(error, "sqlstate", None) == _LOCK_NOT_AVAILABLE or sqlite_name.startswith("SQLITE_BUSY")


def _migrate(connection: Connection) -> None:
    _begin(connection)
    # Our transactions, not Alembic's: on SQLite it would not open one and half a migration could stay.
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        transactional_ddl=True,
        on_version_apply=_applied,  # type: ignore[arg-type]  # called by keyword
    )
    context.run_migrations()
    connection.exec_driver_sql("COMMIT")


def _begin(connection: Connection) -> None:
    # The lock comes first and the version is looked at under it: of replicas that start together one migrates and the
    # others find it done. On SQLite the transaction is the lock.
    if connection.dialect.name == "sqlite":
        # As the service has it: with the first rows in another mode, who changes it would meet who writes.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # The role may have the service's time-outs. Migrations, and waiting for another replica's, may take longer.
    timeouts = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    settings = "; ".join(f"SET LOCAL {name} = 0" for name in timeouts)
    connection.exec_driver_sql(f"BEGIN; {settings}; SELECT pg_advisory_xact_lock({_LOCK})")
    # While a change waits for its table all later readers wait behind it.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")


def _applied(ctx: MigrationContext, heads: set[str], **_: Any) -> None:
    # One migration, one transaction: none waits for a table while an earlier one's is locked.
    assert ctx.connection
    ctx.connection.exec_driver_sql("COMMIT")
    _begin(ctx.connection)
    if set(ctx.get_current_heads()) != heads:
        raise _Overtaken


if context.is_offline_mode():
    raise schema.MigrationFailed("Offline migrations (--sql) are not supported: they cannot take the lock.")
try:
    run()
except exc.DBAPIError as error:
    cause = causes.known_cause(error.orig)
    if not cause and not isinstance(error, exc.OperationalError):
        raise
    raise schema.MigrationFailed(cause or causes.UNKNOWN) from error
except OSError as error:
    raise schema.MigrationFailed("its file is not there, or cannot be opened") from error

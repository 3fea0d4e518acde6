"""Whether the database's schema is the one this code is written for, and how it becomes so."""

from pathlib import Path

from alembic import command
from alembic.util import CommandError
from flask import Flask

from authsvc.errors import Unavailable
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.store.tables import REVISION

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"


def problem(database: Database) -> str | None:
    """Why this code cannot work with the database as it is, in a sentence; None where it can."""
    try:
        found = database.read(Repository.schema_revision)
    except Unavailable:
        return "The database does not answer."
    if found != REVISION:
        return f"The database's schema is {found or 'absent'}, this code needs {REVISION}."
    return None


def upgrade(app: Flask) -> None:
    """Bring the schema up to date, whoever else starts at the same moment. Raises Unavailable."""
    try:
        with app.app_context():
            command.upgrade(app.extensions["migrate"].migrate.get_config(), "head")
    except CommandError as error:
        raise Unavailable from error

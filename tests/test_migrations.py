"""The schema's versions."""

from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade
from sqlalchemy import inspect

from authsvc.parts import parts
from authsvc.store import db
from authsvc.store.schema import MIGRATIONS, upgrade
from authsvc.store.tables import REVISION, metadata
from tests.conftest import Commands, MakeApp
from tests.databases import Databases

Query = Callable[..., list[Any]]


@pytest.fixture
def empty_app(make_app: MakeApp, databases: Databases) -> Flask:
    """The application on a database without a single table."""
    return make_app(AUTHSVC_DATABASE_URL=databases.empty())


def tables(app: Flask) -> set[str]:
    """The tables there are."""
    with app.app_context():
        return set(inspect(db.engine).get_table_names())


def test_the_code_is_written_for_the_newest_schema() -> None:
    """There is one newest migration, and it is the one that /readyz asks for."""
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [REVISION]


def test_upgrading_makes_what_the_models_say(app: Flask) -> None:
    """A migrated database and the models differ in nothing: tables, columns, types, keys, indexes."""
    with app.app_context(), db.engine.connect() as connection:
        # SQLite has no identities, which are compared with the defaults.
        options = {"compare_type": True, "compare_server_default": connection.dialect.name != "sqlite"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_upgrading_an_empty_database_makes_everything(empty_app: Flask) -> None:
    """One call is enough."""
    upgrade(empty_app)
    assert tables(empty_app) == {"alembic_version", *metadata.tables}


def test_upgrading_again_does_nothing(app: Flask, query: Query) -> None:
    """Each start upgrades; what is there stays as it is."""
    before = query("SELECT * FROM account"), query("SELECT * FROM role_permission")
    upgrade(app)
    assert (query("SELECT * FROM account"), query("SELECT * FROM role_permission")) == before


def test_downgrading_takes_everything_away(app: Flask) -> None:
    """Every migration can be undone."""
    with app.app_context():
        downgrade(directory=str(MIGRATIONS), revision="base")
    assert tables(app) == {"alembic_version"}


def test_a_downgraded_database_can_be_upgraded(app: Flask) -> None:
    """There and back again ends with the newest schema and the two roles."""
    with app.app_context():
        downgrade(directory=str(MIGRATIONS), revision="base")
    upgrade(app)
    assert tables(app) == {"alembic_version", *metadata.tables}


def test_the_id_of_a_deleted_account_stays_its_own(app: Flask, query: Query) -> None:
    """Both databases number on behind it, also where the table was made by an older schema."""
    with app.app_context():
        downgrade(directory=str(MIGRATIONS), revision="0002")
    upgrade(app)
    query("DELETE FROM account WHERE id = 2")
    assert parts(app).administration.add_account("new", password="a long password") == 3


def test_every_installation_starts_with_two_roles(empty_app: Flask) -> None:
    """Role 1 is `admin` with the console's permissions, role 2 is `user` with none."""
    upgrade(empty_app)
    roles = parts(empty_app).administration.roles()
    assert [(role.id, role.code, role.name, role.permissions) for role in roles] == [
        (1, "admin", "开发者", ("bas", "dev", "in-system")),
        (2, "user", "普通账号", ()),
    ]


@pytest.mark.parametrize(
    ("arguments", "answer", "status", "revision"),
    [([], "n\n", 1, REVISION), ([], "", 1, REVISION), ([], "y\n", 0, "0001"), (["-x", "yes"], "", 0, "0001")],
)
def test_a_downgrade_asks_first(
    arguments: list[str], answer: str, status: int, revision: str, command: Commands, query: Query
) -> None:
    """It deletes what the newer schema added; a script says that it knows."""
    result = command.run("db", "downgrade", *arguments, "0001", stdin=answer)
    assert result.exit_code == status
    assert query("SELECT version_num FROM alembic_version") == [(revision,)]

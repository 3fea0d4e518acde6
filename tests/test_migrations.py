"""The schema's versions."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade
from sqlalchemy import inspect, make_url

from authsvc.errors import Unavailable
from authsvc.parts import parts
from authsvc.store import causes, db
from authsvc.store.schema import MIGRATIONS, problem, upgrade
from authsvc.store.tables import REVISION, metadata
from tests.conftest import Commands, MakeApp
from tests.databases import PASSWORD, Databases
from tests.dialects import Auth, Console, in_process
from tests.servers import wait_for

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


# The rule: the release before goes on working


REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def shape(app: Flask) -> dict[str, dict[str, tuple[str, bool]]]:
    """Of each table the columns: their types, and whether an INSERT that does not name them works."""
    with app.app_context():
        found = inspect(db.engine)
        return {
            table: {
                column["name"]: (str(column["type"]), bool(column["nullable"] or column["default"]))
                for column in found.get_columns(table)
            }
            for table in found.get_table_names()
        }


def constraints(app: Flask, tables: Iterable[str]) -> set[tuple[str, ...]]:
    """What rows of these tables must be: unique in which columns, and what these refer to."""
    with app.app_context():
        found = inspect(db.engine)
        unique = {
            (table, *sorted(each["column_names"])) for table in tables for each in found.get_unique_constraints(table)
        }
        foreign = {(table, *each["constrained_columns"]) for table in tables for each in found.get_foreign_keys(table)}
        checks = {(table, str(each["sqltext"])) for table in tables for each in found.get_check_constraints(table)}
        return unique | foreign | checks


def migrate_to(app: Flask, revision: str) -> None:
    """Bring an older schema to this one."""
    with app.app_context():
        alembic.upgrade(app.extensions["migrate"].migrate.get_config(), revision)


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(REVISIONS)))
def test_a_migration_only_adds(before: str, after: str, empty_app: Flask) -> None:
    """Whatever code of the schema before reads and writes, it can read and write after it; or the database says no."""
    migrate_to(empty_app, before)
    old = shape(empty_app)
    old_constraints = constraints(empty_app, old)
    migrate_to(empty_app, after)
    new = shape(empty_app)
    with empty_app.app_context(), db.engine.connect() as connection:
        oldest = connection.exec_driver_sql("SELECT value FROM setting WHERE name = 'oldest_code'").scalar()
    if oldest and oldest > before:
        return
    for table, columns in old.items():
        kept = {name: new[table][name] for name in columns}
        assert kept == columns
        added = {name: what for name, what in new[table].items() if name not in columns}
        assert all(may_be_left_out for _, may_be_left_out in added.values())
    old_columns = {name for columns in old.values() for name in columns}
    added_constraints = constraints(empty_app, old) - old_constraints
    assert not [each for each in added_constraints if set(each[1:]) <= old_columns]


def test_code_works_with_a_newer_schema(app: Flask, query: Query) -> None:
    """As the release after may make it: with more columns and tables, and a number that is not known here."""
    query("ALTER TABLE account ADD COLUMN later TEXT")
    query("ALTER TABLE session ADD COLUMN later INTEGER NOT NULL DEFAULT 0")
    query("CREATE TABLE later (account_id INTEGER)")
    query("UPDATE alembic_version SET version_num = '9999'")
    auth, console = Auth(in_process(app)), Console(in_process(app))
    token = auth.token("user", PASSWORD)
    assert auth.verify(token).status == auth.whoami(token).status == auth.logout(token).status == 200
    assert console.info(console.token("admin", PASSWORD)).json["code"] == 200
    assert auth.login("user", "wrong password").status == 403
    assert problem(parts(app).database) is None
    parts(app).administration.add_account("another", password=PASSWORD)
    assert auth.login("another", PASSWORD).status == 200


# Beside others


def test_a_migration_that_waits_for_a_reader_keeps_no_other_reader_waiting(
    postgresql: Databases, make_app: MakeApp
) -> None:
    """It waits for its table for a second at the most, and lets go; when the reader is gone it is made."""
    url = postgresql.copy()
    app = make_app(AUTHSVC_DATABASE_URL=url)
    with app.app_context():
        downgrade(directory=str(MIGRATIONS), revision="0001")
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with ThreadPoolExecutor(1) as other, psycopg.connect(url) as reader:
        reader.execute("SELECT FROM account")
        migration = other.submit(upgrade, app)
        with psycopg.connect(url, autocommit=True, options="-c statement_timeout=10s") as another:
            for _ in range(2):
                wait_for(lambda: another.execute(waits).fetchone() == (1,))
                another.execute("SELECT FROM account")
        assert not migration.done()
        reader.rollback()
        migration.result()
    assert problem(parts(app).database) is None


def test_a_migration_without_rights_says_so_in_one_line(postgresql: Databases, make_app: MakeApp) -> None:
    """At the command line; a start logs the same words."""
    url = make_url(postgresql.empty())
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as owner:
        owner.execute("DO $$ BEGIN CREATE ROLE migrates_nothing LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    app = make_app(AUTHSVC_DATABASE_URL=url.set(username="migrates_nothing").render_as_string(hide_password=False))
    with pytest.raises(Unavailable, match=causes.RIGHTS):
        upgrade(app)


def test_a_downgrade_asks_first(app: Flask, command: Commands) -> None:
    """It destroys what is in the columns and tables that it drops."""
    refused = command.run("db", "downgrade", "base", stdin="n\n")
    assert refused.exit_code == 1
    assert "Go on? [y/N]" in refused.output
    assert "account" in tables(app)
    command.run("db", "downgrade", "base", "--yes")
    assert tables(app) == {"alembic_version"}


def test_every_installation_starts_with_two_roles(empty_app: Flask) -> None:
    """Role 1 is `admin` with the console's permissions, role 2 is `user` with none."""
    upgrade(empty_app)
    roles = parts(empty_app).administration.roles()
    assert [(role.id, role.code, role.name, role.permissions) for role in roles] == [
        (1, "admin", "开发者", ("bas", "dev", "in-system")),
        (2, "user", "普通账号", ()),
    ]

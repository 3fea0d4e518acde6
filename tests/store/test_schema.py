"""How a schema is brought up to date: what of it is not ours, and how long a server is waited for."""

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import make_url

from authsvc.config import load
from authsvc.errors import Unavailable
from authsvc.store import causes
from authsvc.store.schema import engine_for_migrations, upgrade
from tests.databases import SECRET_KEY, Databases


def test_a_schema_that_is_not_ours_is_left_alone(app: Flask, query: Callable[..., object]) -> None:
    """It is told that this code cannot upgrade it."""
    query("UPDATE alembic_version SET version_num = 'another'")
    with pytest.raises(Unavailable, match=causes.SCHEMA):
        upgrade(app)
    assert query("SELECT version_num FROM alembic_version") == [("another",)]


def test_a_migration_gives_up_a_server_that_is_gone(postgresql: Databases) -> None:
    """Without a word, it would be waited for by the hour; and it goes to a primary only."""
    url = load({"AUTHSVC_DATABASE_URL": postgresql.copy(), "AUTHSVC_SECRET_KEY": SECRET_KEY}).database_url
    engine = engine_for_migrations(url)
    with engine.connect() as connection:
        parameters = connection.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]
    assert (
        parameters.items()
        >= {
            "connect_timeout": "2",
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": "25000",
            "target_session_attrs": "primary",
        }.items()
    )
    postgresql.drop(url.set(drivername="postgresql").render_as_string(hide_password=False))


def test_a_migration_of_a_file_is_told_nothing_of_servers(sqlite: Databases) -> None:
    """SQLite would not know what is meant."""
    with engine_for_migrations(make_url(sqlite.copy())).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM account").scalar() == 2

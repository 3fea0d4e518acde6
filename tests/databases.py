"""Databases for the tests: migrated and filled once, then copied, so that each test has a clean one cheaply."""

import itertools
import secrets
import shutil
from pathlib import Path
from typing import Any, Protocol

import argon2
import psycopg
from flask import Flask
from sqlalchemy import make_url

from authsvc import create_app
from authsvc.config import load
from authsvc.parts import parts
from authsvc.passwords import Passwords
from authsvc.store import db
from authsvc.store.schema import upgrade
from authsvc.store.tables import metadata

SECRET_KEY = "the-tests-sign-with-this-key-and-no-other"
PASSWORD = "correct-horse-battery"
"""The password of every account that is there from the start."""
PHONE, AVATAR = "13800000000", "https://console.example/avatar.jpg"
NOW = 1_770_000_000.0
"""When the tests begin: 2026-02-02 02:40:00 UTC."""


class Databases(Protocol):
    """Hands out the addresses of databases that nobody else uses."""

    def copy(self) -> str:
        """One at the newest schema, with account 1 `admin` (role `admin`) and account 2 `user` (role `user`)."""

    def empty(self) -> str:
        """One without a single table."""

    def drop(self, url: str) -> None:
        """Take one back."""


class SqliteDatabases:
    """Copies of one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._template = self.empty()
        fill(self._template)

    def copy(self) -> str:
        """A copy of the template."""
        url = self.empty()
        shutil.copyfile(_file(self._template), _file(url))
        return url

    def empty(self) -> str:
        """A file that is not there yet, in a directory of its own: its secret key is kept beside it."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return f"sqlite:///{folder}/authsvc.db"

    def drop(self, url: str) -> None:
        """Remove the file and what lies beside it."""
        shutil.rmtree(Path(_file(url)).parent)


class PostgresDatabases:
    """Copies of one database of a PostgreSQL server, which may have databases of others, too.

    To make one takes a hundred times longer than to set one back: those that come back are used again.
    """

    # A copy has the object ids of its template: where these sums differ, somebody changed the schema.
    _SCHEMA = (
        "SELECT (SELECT sum(oid::bigint) FROM pg_class), (SELECT count(*) FROM pg_attribute),"
        " (SELECT string_agg(relname, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
    )
    _DISCONNECT = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )

    def __init__(self, server_url: str) -> None:
        self._server = server_url
        self._prefix = f"authsvc_test_{secrets.token_hex(4)}"
        self._numbers = itertools.count()
        self._urls: set[str] = set()
        self._clean: list[str] = []
        self._template = self.empty()
        fill(self._template)
        tables = [*(table.name for table in metadata.sorted_tables), "alembic_version"]
        saved = [f'CREATE TABLE saved."{table}" AS TABLE "{table}"' for table in tables]
        _execute(self._template, "; ".join(["CREATE SCHEMA saved", *saved]))
        numbered = [table.name for table in metadata.tables.values() if "id" in table.c]
        self._restore = "; ".join(
            [f'DELETE FROM "{table}"' for table in reversed(tables)]
            + [f'INSERT INTO "{table}" TABLE saved."{table}"' for table in tables]
            + [
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM \"{table}\""
                for table in numbered
            ]
        )
        # So numbering starts anew in each copy. Else PostgreSQL takes the next numbers for logged, as they are in the
        # template: after a crash of the server, or at its standby, a copy would give them again.
        _execute(self._template, self._restore)
        self._schema = _execute(self._template, self._SCHEMA)

    def copy(self) -> str:
        """One that is clean again, or a new copy of the template."""
        return self._clean.pop() if self._clean else self._create(str(make_url(self._template).database))

    def empty(self) -> str:
        """A database as the server makes it."""
        return self._create("template0")

    def drop(self, url: str) -> None:
        """Set it back; drop it where its schema is no longer that of the template."""
        _execute(url, self._DISCONNECT)
        if _execute(url, self._SCHEMA) == self._schema:
            _execute(url, self._restore)
            self._clean.append(url)
        else:
            self._remove(url)

    def close(self) -> None:
        """Drop them all, whoever is still connected."""
        for url in list(self._urls):
            self._remove(url)

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{next(self._numbers)}"
        _execute(self._server, f"CREATE DATABASE {name} TEMPLATE {template}")
        url = make_url(self._server).set(database=name).render_as_string(hide_password=False)
        self._urls.add(url)
        return url

    def _remove(self, url: str) -> None:
        _execute(self._server, f"DROP DATABASE {make_url(url).database} WITH (FORCE)")
        self._urls.remove(url)


def _execute(url: str, statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statements.encode())
        return cursor.fetchall() if cursor.description else []


def _file(url: str) -> str:
    return str(make_url(url).database)


def fill(url: str) -> None:
    """Bring an empty database to the newest schema and give it its two accounts."""
    app = create_app(
        load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}), cheap_passwords(), clock=lambda: NOW
    )
    upgrade(app)
    administration = parts(app).administration
    administration.bootstrap(PASSWORD)
    administration.add_account("user", password=PASSWORD, phone=PHONE, avatar=AVATAR)
    close(app)


def cheap_passwords() -> Passwords:
    """Hashes that cost next to nothing."""
    return Passwords(argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST))


def close(app: Flask) -> None:
    """Give the connections of `app` back."""
    with app.app_context():
        db.engine.dispose()

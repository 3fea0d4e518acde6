"""Databases for the tests: migrated and filled once, then copied, so that each test has a clean one cheaply."""

import itertools
import shutil
from pathlib import Path
from typing import Protocol

import argon2
from flask import Flask
from sqlalchemy import make_url

from authsvc import create_app
from authsvc.config import load
from authsvc.database import db, migrate
from authsvc.passwords import Passwords

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


def _file(url: str) -> str:
    return str(make_url(url).database)


def fill(url: str) -> None:
    """Bring an empty database to the newest schema and give it its two accounts."""
    app = create_app(
        load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}), cheap_passwords(), clock=lambda: NOW
    )
    migrate(app)
    administration = app.extensions["authsvc.administration"]
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

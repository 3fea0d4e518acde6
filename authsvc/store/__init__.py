"""The only place that speaks SQL."""

from collections.abc import Callable

import flask_migrate.cli  # type: ignore[import-not-found]  # its types leave this module out
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL

from authsvc.logs import RiskyButLegal
from authsvc.metrics import Metrics
from authsvc.store import sqlite, tables, timeouts
from authsvc.store.database import BACKENDS, Database
from authsvc.store.schema import MIGRATIONS

DOWNGRADE = flask_migrate.cli.downgrade
"""`flask db downgrade`, which destroys what is in the columns and tables that it drops."""

db = SQLAlchemy(metadata=tables.metadata, disable_autonaming=True)


def init_app(app: Flask, url: URL, connections: int, clock: Callable[[], float], metrics: Metrics) -> Database:
    """Give the application its database, by so many connections at the most, and `flask db`.

    Touches no database until somebody asks for something.
    """
    backend = BACKENDS[url.get_backend_name()]
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        # A read is one statement and one round trip; whatever writes says BEGIN itself (`Database.write`).
        "isolation_level": "AUTOCOMMIT",
        # An error's text does not quote what a statement was given.
        "hide_parameters": True,
        # Statements are short and hashing holds no connection: few connections serve many threads.
        **backend.pool(connections),
        "pool_timeout": timeouts.POOL,
        "pool_use_lifo": True,
        "connect_args": backend.connect_args,
    }
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        return Database(db.engine, clock, metrics, keeps_one=backend.keeps_one and connections > 1)


def risks_of_opening(url: URL) -> list[RiskyButLegal]:
    """What is risky about a database that nobody in this process has opened yet. Connects to nothing."""
    return list(sqlite.risks_of_opening(str(url.database))) if url.get_backend_name() == "sqlite" else []


def settle(url: URL) -> None:
    """Leave a SQLite database in one file, when this process no longer uses it."""
    if url.get_backend_name() == "sqlite":
        sqlite.settle(str(url.database))

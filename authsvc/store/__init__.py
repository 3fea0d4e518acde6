"""The only place that speaks SQL."""

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL

from authsvc.metrics import Metrics
from authsvc.store import tables, timeouts
from authsvc.store.database import BACKENDS, Database
from authsvc.store.schema import MIGRATIONS

db = SQLAlchemy(metadata=tables.metadata, disable_autonaming=True)


def init_app(app: Flask, url: URL, metrics: Metrics) -> Database:
    """Give the application its database, and `flask db`. Touches no database until somebody asks for something."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        # A read is one statement and one round trip; whatever writes says BEGIN itself (`Database.write`).
        "isolation_level": "AUTOCOMMIT",
        # An error's text does not quote what a statement was given.
        "hide_parameters": True,
        # Statements are short and hashing holds no connection: few connections serve many threads.
        "pool_size": 16,
        "max_overflow": 0,
        "pool_timeout": timeouts.POOL,
        "pool_use_lifo": True,
        "connect_args": BACKENDS[url.get_backend_name()].connect_args,
    }
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        return Database(db.engine, metrics)

"""authsvc: one account store, one login, two wire dialects. This file is the table of contents."""

import time
from collections.abc import Callable

from flask import Flask
from flask_migrate import Migrate

from authsvc import cli, config, web
from authsvc.administration import Administration
from authsvc.database import MIGRATIONS, db, engine_options, prepare_engine
from authsvc.otp import Seeds
from authsvc.passwords import Passwords
from authsvc.repository import Database
from authsvc.service import Service
from authsvc.sessions import SessionLimits
from authsvc.tokens import Tokens


def create_app(
    settings: config.Config | None = None,
    passwords: Passwords | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Build the application; no database is touched. Raises ConfigError where the environment cannot be used."""
    settings = settings or config.load()
    # Some threads are taken neither by waiting logins nor by slow bodies: session checks need them.
    bodies = max(1, settings.threads // 5)
    passwords = passwords or Passwords(places=max(1, settings.threads - bodies - min(32, settings.threads // 4)))
    app = Flask(__name__, static_folder=None)
    app.config["AUTHSVC"] = settings
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(settings.database_url)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        prepare_engine(db.engine)
        database = Database(db.engine)
    sessions = SessionLimits(settings.session_lifetime, settings.session_idle_timeout)
    tokens, seeds = Tokens(settings.secret_keys, clock), Seeds(settings.secret_keys)
    app.extensions["authsvc"] = Service(database, passwords, tokens, seeds, sessions, settings.limits, clock)
    app.extensions["authsvc.administration"] = Administration(database, passwords, seeds, sessions, clock)
    web.init_app(app, settings, bodies)
    cli.init_app(app)
    return app

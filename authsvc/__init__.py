"""authsvc: one account store, one login, two wire dialects. This file is the table of contents."""

import time
from collections.abc import Callable

from flask import Flask

from authsvc import cli, store, web
from authsvc.administration import Administration
from authsvc.authentication import Authenticator
from authsvc.config import Config, load
from authsvc.metrics import Metrics, SharedMetrics
from authsvc.otp import Seeds
from authsvc.own_account import OwnAccount
from authsvc.parts import Parts
from authsvc.passwords import Passwords
from authsvc.service import Service
from authsvc.sessions import SessionLimits
from authsvc.tokens import Tokens
from authsvc.transfer import Transfer
from authsvc.upkeep import KeyRecord, Upkeep

__version__ = "1.0.0"


def create_app(
    config: Config | None = None, passwords: Passwords | None = None, clock: Callable[[], float] = time.time
) -> Flask:
    """Build the application; no database is touched. Raises ConfigError where the environment cannot be used."""
    config = config or load()
    metrics = SharedMetrics(config.workers) if config.metrics else Metrics()
    passwords = passwords or Passwords(max_waiting=config.hash_threads, minimum=config.password_min, metrics=metrics)
    app = Flask(__name__, static_folder=None)
    database = store.init_app(app, config.database_url, config.database_connections, clock, metrics)
    keys = KeyRecord(config.secret_keys)
    tokens, seeds = Tokens(config.secret_keys, clock), Seeds(config.secret_keys)
    sessions = SessionLimits(config.session_lifetime, config.session_idle_timeout)
    authenticator = Authenticator(database, passwords, seeds, config.limits, config.trail_days, clock)
    service = Service(database, authenticator, passwords, tokens, seeds, sessions, clock)
    parts = Parts(
        version=__version__,
        config=config,
        metrics=metrics,
        database=database,
        service=service,
        own_account=OwnAccount(database, authenticator, passwords, tokens, seeds, sessions, clock),
        administration=Administration(database, passwords, seeds, sessions, config.limits, clock),
        transfer=Transfer(database, passwords, seeds, keys, config.timezone, clock),
        upkeep=Upkeep(database, passwords, seeds, keys, clock),
    )
    parts.init_app(app)
    web.init_app(app, parts)
    cli.init_app(app)
    return app

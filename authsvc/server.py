"""How `python wsgi.py` serves: bring the database up to date, then Granian with one process a core."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any, cast

from flask import Flask
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from authsvc import logs
from authsvc.administration import Administration
from authsvc.config import Config
from authsvc.database import migrate

# Granian's own records go where ours go, as JSON, and only when something is wrong.
_GRANIAN_LOGGERS = {"handlers": {}, "loggers": {"_granian": {"handlers": [], "propagate": True}}}


def serve(app: Flask) -> None:
    """Serve until SIGTERM or SIGINT: then stop accepting, finish what is under way, and return."""
    config = cast(Config, app.config["AUTHSVC"])
    for warning in config.warnings:
        logs.notice("setting.risky", logging.WARNING, id=warning.id, warning=warning.text, hint=warning.hint)
    prepare(app)
    # Not "fork", which is the default on Linux before Python 3.14: this process has threads and connections.
    multiprocessing.set_start_method("spawn")
    logs.notice("server.starting", host=config.host, port=config.port, workers=config.workers, threads=config.threads)
    Granian(
        "wsgi:app",
        address=config.host,
        port=config.port,
        interface=Interfaces.WSGI,
        workers=config.workers,
        blocking_threads=config.threads,
        respawn_failed_workers=True,
        websockets=False,
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGGERS,
    ).serve(target_loader=_application, wrap_loader=False)


def prepare(app: Flask) -> None:
    """Bring the schema up to date and see that there is an administrator."""
    migrate(app)
    administration = cast(Administration, app.extensions["authsvc.administration"])
    if password := administration.bootstrap(app.config["AUTHSVC"].admin_password):
        print(f"First administrator: admin, password {password} (shown only once)", file=sys.stderr, flush=True)


def _application() -> Any:
    """What a worker serves: the app of `wsgi.py`, which multiprocessing has imported as the main module."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return sys.modules["__main__"].app


def _end_with_parent() -> None:
    # Without it, workers whose parent was killed would go on serving, and hold the port, without anybody's lead.
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

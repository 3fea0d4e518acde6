"""How `python wsgi.py` serves: Granian with one process a core, each of which first sees to the database."""

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from typing import cast

from flask import Flask
from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from authsvc import logs
from authsvc.administration import Administration
from authsvc.config import Config
from authsvc.database import migrate
from authsvc.errors import Unavailable
from authsvc.models import SCHEMA_REVISION
from authsvc.service import Service

# Granian's own records go where ours go, as JSON, and only when something is wrong.
_GRANIAN_LOGGERS = {"handlers": {}, "loggers": {"_granian": {"handlers": [], "propagate": True}}}

_RETRY_SECONDS = 2.0
_PARENT_SECONDS = 0.2
_START_PATIENCE = 5.0  # seconds
_SLOWEST_HEADERS = 10_000  # milliseconds
_LONGEST_REQUEST = 20  # seconds; ten of them waiting to be hashed, at the most


def serve(app: Flask) -> None:
    """Serve until SIGTERM or SIGINT: then stop accepting, finish what is under way, and return."""
    config = cast(Config, app.config["AUTHSVC"])
    _check_port(config.host, config.port)
    for risk in config.warnings:
        logs.risk(risk.id, risk.text, risk.hint)
    # Workers are copies of this process, so it must neither hash nor connect: they would get a thread pool without its
    # threads, and share a connection. They share its memory: what was set up exists once, as long as nobody writes to
    # it, and the collector no longer does.
    multiprocessing.set_start_method("fork")
    # They are born with signals blocked, so that none is lost before `_heed` waits for it.
    mask = partial(signal.pthread_sigmask, mask={signal.SIGINT, signal.SIGTERM})
    os.register_at_fork(before=partial(mask, signal.SIG_BLOCK), after_in_parent=partial(mask, signal.SIG_UNBLOCK))
    gc.collect()
    gc.freeze()
    os.umask(0o077)  # a database that is created here holds password hashes
    logs.notice("server.starting", host=config.host, port=config.port, workers=config.workers, threads=config.threads)
    Granian(
        "wsgi:app",  # a name only: the loader below has it already
        address=config.host,
        port=config.port,
        interface=Interfaces.WSGI,
        workers=config.workers,
        blocking_threads=config.threads,
        respawn_failed_workers=True,
        workers_kill_timeout=_LONGEST_REQUEST,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=_SLOWEST_HEADERS),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGGERS,
    ).serve(target_loader=partial(_application, app, os.getpid()), wrap_loader=False)
    logs.notice("server.stopped")


def _check_port(host: str, port: int) -> None:
    # Granian shares a port with whoever else has it: a forgotten server would get every second request.
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        print(f"AUTHSVC_HOST, AUTHSVC_PORT: cannot listen there: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


def _application(app: Flask, parent: int) -> Flask:
    """What a worker serves, and from when on: as a rule the database is ready then."""
    _heed(parent)
    tried = threading.Event()
    threading.Thread(target=_prepare, args=(app, tried), daemon=True).start()
    tried.wait(_START_PATIENCE)
    return app


def _heed(parent: int) -> None:
    # Ctrl-C reaches the whole process group: it is for the parent, which then ends what it has started. For SIGTERM a
    # thread waits: Granian's main thread could be falling asleep just then, and would sleep on. What the parent does at
    # SIGTERM was inherited, and must be gone before that thread asks what to do.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_at_sigterm, daemon=True).start()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_at_sigterm() -> None:
    signal.sigwait({signal.SIGTERM})
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        handler(signal.SIGTERM, None)
    else:
        os._exit(0)  # before Granian listens for it there is nothing under way


def _end_with(parent: int) -> None:
    # Without it, workers whose parent was killed would go on serving, and hold the port, without anybody's lead.
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _prepare(app: Flask, tried: threading.Event) -> None:
    """Bring the schema up to date and see that there is an administrator, however long the database is away."""
    administration = cast(Administration, app.extensions["authsvc.administration"])
    while True:
        try:
            if not _is_migrated(app):
                migrate(app)
            password = administration.bootstrap(app.config["AUTHSVC"].admin_password)
            break
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the worker stays to tell its health
            logs.failed("database.not_ready")
            tried.set()
            time.sleep(_RETRY_SECONDS)
    if password and sys.stderr:  # closed, it is None, and print would take the log instead
        print(f"First administrator: admin, password {password} (shown only once)", file=sys.stderr, flush=True)
    logs.notice("database.ready")
    tried.set()


def _is_migrated(app: Flask) -> bool:
    # Found out by reading: a worker that is started anew waits for no writer, and needs no right to write.
    service = cast(Service, app.extensions["authsvc"])
    try:
        return service.schema_revision() == SCHEMA_REVISION
    except Unavailable:
        return False  # there may be no database yet

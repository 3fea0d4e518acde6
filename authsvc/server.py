"""How `python wsgi.py` serves: Granian with one process a core, each of which first sees to the database."""

import ctypes
import gc
import multiprocessing
import os
import shlex
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from multiprocessing.synchronize import Event

from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from authsvc import __version__, logs, store
from authsvc.errors import Unavailable
from authsvc.parts import parts
from authsvc.store import schema

# Granian's own records go where ours go, as JSON, and only when something is wrong.
_GRANIAN_LOGGERS = {"handlers": {}, "loggers": {"_granian": {"handlers": [], "propagate": True}}}

_RETRY_SECONDS = 2.0
_PARENT_SECONDS = 0.2
_START_PATIENCE = 5.0  # seconds
_CONNECTIONS = 4096
_SLOWEST_HEADERS = 10_000  # milliseconds
_LONGEST_HEADERS = 32 * 1024  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LONGEST_REQUEST = 20  # seconds; ten of them waiting to be hashed, at the most


def serve(app: Flask) -> None:
    """Serve until SIGTERM or SIGINT: then stop accepting, finish what is under way, and return."""
    config = parts(app).config
    _check_port(config.host, config.port)
    for risk in (*config.warnings, *store.risks_of_opening(config.database_url)):
        logs.risk(risk)
    # A fork copies neither threads nor connections: make none before. Workers share this process's memory as long as
    # nobody writes to it, and the collector no longer does.
    multiprocessing.set_start_method("fork")
    # Workers begin with signals blocked, so that none is lost before `_heed` waits for it.
    mask = partial(signal.pthread_sigmask, mask={signal.SIGINT, signal.SIGTERM})
    os.register_at_fork(before=partial(mask, signal.SIG_BLOCK), after_in_parent=partial(mask, signal.SIG_UNBLOCK))
    gc.collect()
    gc.freeze()
    _keep_freed_memory()
    os.umask(0o077)  # a database that is created here holds password hashes
    settings = {name: getattr(config, name) for name in ("host", "port", "workers", "threads")}
    logs.notice("server.starting", version=__version__, **settings)
    Granian(
        "wsgi:app",  # a name only: the loader below has it already
        address=config.host,
        port=config.port,
        interface=Interfaces.WSGI,
        workers=config.workers,
        blocking_threads=config.threads,
        # HTTP/2 is for the proxy in front: here, a body that is reset spins a thread, and headers expand without end.
        http=HTTPModes.http1,
        # Connections a worker, silent ones too. By default they are shared out among the workers, and then a few
        # hundred logins that wait would keep every session check from being accepted.
        backpressure=_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=_LONGEST_REQUEST,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=_SLOWEST_HEADERS, max_buffer_size=_LONGEST_HEADERS),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGGERS,
    ).serve(target_loader=partial(_application, app, os.getpid(), multiprocessing.Event()), wrap_loader=False)
    store.settle(config.database_url)
    logs.notice("server.stopped")


def _keep_freed_memory() -> None:
    """Let a hash have the memory of the last one, which saves its page faults. Only glibc gives memory back so soon."""
    with suppress(OSError, AttributeError):  # another C library may lack it
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        c_library.mallopt(_M_TRIM_THRESHOLD, 128 * 1024 * 1024)


def _check_port(host: str, port: int) -> None:
    # Granian shares a port with whoever else has it: a forgotten server would get every second request.
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        print(f"AUTHSVC_HOST, AUTHSVC_PORT: cannot listen there: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


def _application(app: Flask, parent: int, told: Event) -> Flask:
    """What a worker serves, and from when on: as a rule the database is ready then."""
    _heed(parent)
    tried = threading.Event()
    threading.Thread(target=_prepare, args=(app, tried, told), daemon=True).start()
    tried.wait(_START_PATIENCE)
    return app


def _heed(parent: int) -> None:
    # Ctrl-C reaches the whole process group: it is for the parent, which then ends its workers. Granian's main thread
    # can miss a signal, so a thread waits for SIGTERM; the inherited handler goes first.
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


def _show(name: str, password: str) -> None:
    print(
        f"First administrator: {name}, password {password} (shown only once; a container's log keeps it: "
        f"change it with `flask account password {shlex.quote(name)}`)",
        file=sys.stderr,
        flush=True,
    )


def _prepare(app: Flask, tried: threading.Event, told: Event) -> None:
    """Bring the schema up to date and see that there is an administrator, however long the database is away."""
    config, administration = parts(app).config, parts(app).administration
    while True:
        try:
            # Found out by reading: a worker that is started anew waits for no writer, and needs no right to write.
            if schema.problem(parts(app).database):
                schema.upgrade(app)
            password = administration.bootstrap(config.admin_password, config.admin_name)
            break
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the worker stays to tell its health
            logs.failed("database.not_ready")
            tried.set()
            time.sleep(_RETRY_SECONDS)
    if password and sys.stderr:  # closed, it is None, and print would take the log instead
        _show(config.admin_name, password)
    tried.set()
    # None of this keeps a worker from serving.
    with suppress(Unavailable):
        _meet_key(app)
    with suppress(Unavailable):
        _tell_risks(app, told)
    logs.notice("database.ready")


def _meet_key(app: Flask) -> None:
    foreign = parts(app).upkeep.meet_key()
    if foreign.sessions or foreign.seeds:
        logs.unknown_key(foreign.sessions, foreign.seeds)


def _tell_risks(app: Flask, told: Event) -> None:
    # All workers would find the same: the first one tells.
    config = parts(app).config
    risks = parts(app).database.risks(config.workers * config.database_connections)
    if not told.is_set():
        told.set()
        for risk in risks:
            logs.risk(risk)

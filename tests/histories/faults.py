"""The service as it runs in production, on either database, and what may happen to it."""

import math
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Self

from sqlalchemy import make_url

from authsvc import create_app
from authsvc.config import load
from authsvc.parts import parts
from tests.databases import SECRET_KEY, PostgresDatabases, SqliteDatabases, cheap_passwords, close
from tests.histories.clients import SETTINGS
from tests.postgres import Postgres, running_postgres
from tests.servers import Server, wait_for

Fault = Callable[[Random, float], None]
"""Lasts so many seconds, and is over when it returns; what it takes to recover is the service's."""

_CHEAP_HASHES = str(Path(__file__).parent / "cheap_hashes")


class House:
    """Servers, an administrator beside them, and the faults by their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers: list[Server] = []
        self._worker_killed: dict[Server, float] = {}
        self.faults: dict[str, Fault] = {
            "worker killed": self._kill_worker,
            "worker stopped": self._stop_worker,
            "replica killed": self._kill_replica,
            "replica stopped": self._stop_replica,
        }

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._build()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        raise NotImplementedError

    def _open(self, url: str, replicas: int, workers: int) -> None:
        for number in range(replicas):
            (folder := self._folder / f"replica-{number}").mkdir()
            self.servers.append(Server(folder, url, PYTHONPATH=_CHEAP_HASHES, AUTHSVC_WORKERS=str(workers), **SETTINGS))
            self._stack.callback(self.servers[-1].kill)
        self.sends = [server.send for server in self.servers]
        app = create_app(load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}), cheap_passwords())
        self._stack.callback(close, app)
        self.administration = parts(app).administration
        self.recover()

    def recover(self) -> None:
        """Return when all is well again; nobody has ended who was not killed."""
        for server in self.servers:
            wait_for(lambda server=server: server.process.poll() is not None or server.is_ready())
            assert server.process.poll() is None, server.errors

    def _kill_worker(self, chance: Random, seconds: float) -> None:
        server = chance.choice(self.servers)
        # Two within 5.5 seconds are taken for a crash loop: the service ends, for systemd to start it again.
        time.sleep(max(0.0, self._worker_killed.get(server, -math.inf) + 6 - time.monotonic()))
        self._worker_killed[server] = time.monotonic()
        os.kill(chance.choice(server.workers()), signal.SIGKILL)
        time.sleep(seconds)

    def _stop_worker(self, chance: Random, seconds: float) -> None:
        pid = chance.choice(chance.choice(self.servers).workers())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def _kill_replica(self, chance: Random, seconds: float) -> None:
        server = chance.choice(self.servers)
        server.kill()
        time.sleep(seconds)
        server.start_again()

    def _stop_replica(self, chance: Random, seconds: float) -> None:
        pid = chance.choice(self.servers).process.pid
        os.killpg(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.killpg(pid, signal.SIGCONT)


class OnSqlite(House):
    """One service with two workers."""

    def _build(self) -> None:
        self._url = SqliteDatabases(self._folder).copy()
        self.faults["file locked"] = self._lock
        self._open(self._url, replicas=1, workers=2)

    def _lock(self, chance: Random, seconds: float) -> None:
        file = str(make_url(self._url).database)
        with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
            connection.execute(f"BEGIN {chance.choice(('IMMEDIATE', 'EXCLUSIVE'))}")
            time.sleep(seconds)
            connection.execute("ROLLBACK")


class OnPostgresql(House):
    """Two replicas on a primary with a synchronous standby."""

    def _build(self) -> None:
        self._primary = self._stack.enter_context(running_postgres())
        self._standby = self._new_standby()
        self._vacant: int | None = None
        database = make_url(PostgresDatabases(self._primary.url()).copy()).database
        hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in (self._primary, self._standby))
        self._open(f"postgresql://postgres@/{database}?{hosts}", replicas=2, workers=1)
        self.faults |= {
            "PostgreSQL restarted": self._restart,
            "PostgreSQL stopped": lambda _, seconds: self._freeze(self._primary, seconds),
            "standby stopped": lambda _, seconds: self._freeze(self._wait_for_standby(), seconds),
            "backends ended": self._end_backends,
            "failover": self._fail_over,
        }

    def _new_standby(self, port: int | None = None) -> Postgres:
        # Commits wait for it: let it come back soon.
        soon = {"wal_retrieve_retry_interval": "100ms"}
        standby = self._stack.enter_context(running_postgres(self._primary, port, **soon))
        self._primary.wait_for_standby()
        return standby

    def _wait_for_standby(self) -> Postgres:
        """The standby; after a failover a new one, which has the address of what was the primary."""
        if self._vacant:
            self._standby, self._vacant = self._new_standby(self._vacant), None
        return self._standby

    def _restart(self, _: Random, seconds: float) -> None:
        self._primary.stop()
        time.sleep(seconds)
        self._primary.start()

    @staticmethod
    def _freeze(server: Postgres, seconds: float) -> None:
        with server.frozen():
            time.sleep(seconds)

    def _end_backends(self, _: Random, seconds: float) -> None:
        others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._primary.execute(f"SELECT pg_terminate_backend(pid) {others}")
            time.sleep(0.2)

    def _fail_over(self, chance: Random, seconds: float) -> None:
        """The primary falls silent or is gone at once, and never comes back."""
        standby = self._wait_for_standby()
        if chance.random() < 0.5:
            self._freeze(self._primary, seconds)
        self._primary.kill()
        standby.promote()
        self._primary, self._vacant = standby, self._primary.port
        time.sleep(seconds)


HOUSES: Mapping[str, type[House]] = {"sqlite": OnSqlite, "postgresql": OnPostgresql}

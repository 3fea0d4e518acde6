"""Everything that has to run: the service on both databases, and the servers it is compared with."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from authsvc.config import DEFAULTS
from tests.bench.load import CONNECTIONS, Result, load
from tests.bench.population import Population
from tests.bench.processes import cpu_seconds
from tests.postgres import Postgres, running_postgres
from tests.servers import ROOT, Server, free_port, wait_for

DATABASES = ("SQLite", "PostgreSQL")
_SETTINGS = {f"AUTHSVC_LIMIT_{kind}": "1000000/86400" for kind in ("ACCOUNT_ADDRESS", "ADDRESS", "ACCOUNT")}
# One process a core, as `python wsgi.py` has by itself; the tests' servers have one.
_SETTINGS["AUTHSVC_WORKERS"] = str(len(os.sched_getaffinity(0)))
_QUIET_SECONDS, _QUIET_CPU = 0.1, 0.011  # a tick of the clock may be anybody's


@dataclass(frozen=True)
class Sample:
    """One turn of one contestant. CPU is in microseconds a request."""

    result: Result
    cpu: float
    database_cpu: float


@dataclass(frozen=True)
class Contestant:
    """A running server, what it is asked, and what that goes through."""

    name: str
    port: int
    pid: int
    requests: list[bytes]
    population: Population | None = None
    database_pid: int | None = None

    def turn(self, seconds: float, connections: int = CONNECTIONS, *, settles: bool = True) -> Sample:
        """Load it, see what that costs and, unless told otherwise, wait for what the load leaves behind."""
        if self.population:
            self.population.see()
        before = self._cpu_seconds()
        result = load(self.port, self.requests, seconds, connections)
        cpu, database_cpu = (
            (after - start) / result.answered * 1e6 for after, start in zip(self._cpu_seconds(), before, strict=True)
        )
        if settles:
            self.settle()
        return Sample(result, cpu, database_cpu)

    def settle(self) -> None:
        """Return when what the load left behind is done: a login goes on when its client is gone."""

        def is_quiet() -> bool:
            before = cpu_seconds(self.pid)
            time.sleep(_QUIET_SECONDS)
            return cpu_seconds(self.pid) - before < _QUIET_CPU

        wait_for(is_quiet)

    def _cpu_seconds(self) -> tuple[float, float]:
        return cpu_seconds(self.pid), cpu_seconds(self.database_pid) if self.database_pid else 0.0


class House:
    """Starts servers; all are gone, with their data, when the block ends."""

    postgres: Postgres

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Self:
        with self._exits:
            self._home = Path(self._exits.enter_context(TemporaryDirectory()))
            # Durable, as in production; and with connections for all servers that run at once.
            self.postgres = self._exits.enter_context(running_postgres(fsync="on", max_connections=400))
            self._exits = self._exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def population(self, database: str, size: int) -> Population:
        """A new database."""
        number = next(self._numbers)
        if database == "SQLite":
            folder = self._home / f"database-{number}"
            folder.mkdir()
            return Population(f"sqlite:///{folder}/authsvc.db", size)
        self.postgres.execute(f"CREATE DATABASE bench_{number}")
        return Population(self.postgres.url(f"bench_{number}"), size)

    def database_pid(self, population: Population) -> int | None:
        """Whose CPU is the database's, where that is a server."""
        return self.postgres.pid if population.url.startswith("postgresql") else None

    def authsvc(self, population: Population) -> Server:
        """`python wsgi.py`, answering."""
        folder = self._home / f"server-{next(self._numbers)}"
        folder.mkdir()
        server = Server(folder, population.url, **_SETTINGS)
        # As an operator does it; what does not listen to that is killed.
        self._exits.callback(server.kill)
        self._exits.callback(server.stop)
        return server

    def hello_on_gunicorn(self) -> Contestant:
        """Flask as it is usually served."""
        port = free_port()
        options = ["--worker-class=gthread", "--workers=2", "--threads=8", f"--bind=127.0.0.1:{port}"]
        return self._hello("hello, gunicorn", port, "gunicorn", "--no-control-socket", *options)

    def hello_on_granian(self) -> Contestant:
        """Flask served as authsvc is."""
        port = free_port()
        options = ["--interface=wsgi", "--workers=2", f"--blocking-threads={DEFAULTS['THREADS']}", "--no-ws"]
        return self._hello("hello, Granian", port, "granian", *options, f"--port={port}")

    def _hello(self, name: str, port: int, *command: str) -> Contestant:
        with (self._home / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, "tests.bench.hello:app"],
                cwd=ROOT, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        self._exits.callback(process.wait)
        self._exits.callback(process.terminate)
        contestant = Contestant(name, port, process.pid, [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
        wait_for(lambda: _listens(port) or process.poll() is not None)
        return contestant


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True

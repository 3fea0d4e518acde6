"""Real servers: `python wsgi.py` in a process, a directory and with a port of its own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from werkzeug.datastructures import Headers

from tests.databases import SECRET_KEY
from tests.dialects import Answer, Auth, Console

ROOT = Path(__file__).parent.parent
_PATIENCE = 30.0
"""Seconds after which something that has not happened will not."""


class Server:
    """One running service. Its log (standard output) and its standard error are files in its directory."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.port = free_port()
        self.log_file, self._errors_file = folder / "log.jsonl", folder / "errors.txt"
        self._start = partial(start, folder, database_url, AUTHSVC_PORT=str(self.port), **settings)
        self.process = self._start()
        self.auth, self.console = Auth(self.send), Console(self.send)

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Carry one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            connection.request(method, target, body or None, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, Headers(response.getheaders()), response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection, for whoever wants to say something that no HTTP client would."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE)

    def answers(self) -> bool:
        """Whether somebody accepts connections and answers at /healthz."""
        try:
            return self.send("GET", "/healthz", {}, b"").status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def is_ready(self) -> bool:
        """Whether /readyz says that it can work."""
        try:
            return self.send("GET", "/readyz", {}, b"").status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def workers(self) -> list[int]:
        """The processes that serve."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def wait_until_up(self) -> "Server":
        """Return when the service answers."""
        wait_for(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors
        return self

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text("utf-8")

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The same, line by line."""
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def errors(self) -> str:
        """What it has said on standard error so far."""
        return self._errors_file.read_text("utf-8")

    def start_again(self) -> None:
        """Start it anew, after it has ended, with the same settings."""
        self.process = self._start()

    def stop(self) -> int:
        """End it as an operator does; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE)

    def kill(self) -> None:
        """End it, workers and all, as a power cut does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_PATIENCE)


def start(folder: Path, database_url: str, **settings: str) -> "subprocess.Popen[bytes]":
    """Start `python wsgi.py` in `folder` with nothing but these settings in its environment."""
    environ = {
        "PATH": os.environ["PATH"],
        "AUTHSVC_DATABASE_URL": database_url,
        "AUTHSVC_SECRET_KEY": SECRET_KEY,
        "AUTHSVC_WORKERS": "1",
        **settings,
    }
    with (folder / "log.jsonl").open("ab") as log, (folder / "errors.txt").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "wsgi.py")],
            cwd=folder,
            env=environ,
            stdout=log,
            stderr=errors,
            # A group of its own, so that its workers can be killed with it. Not a session: where Linux shares the cores
            # out among sessions, a thread's low priority counts only within its own.
            process_group=0,
        )


def free_port() -> int:
    """A port that nobody listens on, and that nobody else is given for a minute: tests may run side by side.

    It is left in TIME_WAIT, where only a server that asks for it by number (with SO_REUSEADDR) gets it.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            probe.accept()[0].close()
            return port


def wait_for(condition: Any) -> None:
    """Return as soon as `condition()` holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.01)

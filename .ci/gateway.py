"""Stands before the service as nginx does, and answers in its place where a trial of the pages wants another answer."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 30.0
"""Seconds that a request may take."""
HOPS = {"connection", "transfer-encoding", "server", "date"}
"""Headers that each hop says anew."""

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class Gateway(ThreadingHTTPServer):
    """One port for the service and for whatever else lives on its origin."""

    daemon_threads = True

    def __init__(self, service: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        """Method and path of every request so far."""
        self.released = threading.Event()
        """Whoever is kept waiting waits for this."""
        self._answers: dict[str, Answer | None] = {}

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser breaks off what it no longer wants."""

    def answer(self, path: str, status: int, data: object = None, headers: dict[str, str] | None = None) -> None:
        """From now on, answer `path` like this, in the envelope."""
        body = {"code": status} | ({"data": data} if data else {})
        self._answers[path] = status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()

    def refuse(self, path: str, status: int, reason: str) -> None:
        """From now on, refuse `path` with this reason."""
        self.answer(path, status, {"reason": reason})

    def throttle(self, path: str, seconds: int) -> None:
        """From now on, refuse `path` for so long."""
        reason = f"Too many failed logins. Try again in {seconds} seconds."
        self.answer(path, HTTPStatus.TOO_MANY_REQUESTS, {"reason": reason}, {"Retry-After": str(seconds)})

    def plain(self, path: str, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """From now on, answer `path` with just this."""
        self._answers[path] = status, headers, body

    def keep_waiting(self, path: str) -> None:
        """From now on, answer `path` not before `released`."""
        self._answers[path] = None

    def pass_on(self) -> None:
        """From now on, let the service answer everything."""
        self._answers.clear()

    def reply(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """What is answered to a request."""
        path = target.partition("?")[0]
        self.asked.append(f"{method} {path}")
        if path in self._answers:
            if answer := self._answers[path]:
                return answer
            self.released.wait(PATIENCE)
        connection = http.client.HTTPConnection("127.0.0.1", self.service, timeout=PATIENCE)
        try:
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        except OSError:
            return HTTPStatus.BAD_GATEWAY, {"Content-Type": "text/html"}, b"<h1>502 Bad Gateway</h1>"
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, content = self.server.reply(self.command, self.path, dict(self.headers), body)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOPS | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        with suppress(ConnectionError):  # nobody waits any more
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def gateway(service: int) -> Iterator[Gateway]:
    """Start one before the service at this port."""
    started = Gateway(service)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    try:
        yield started
    finally:
        started.released.set()
        started.shutdown()
        started.server_close()

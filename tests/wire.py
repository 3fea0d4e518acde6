"""The network between a service and its database: it may get slow, fall silent, or lead elsewhere."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

from sqlalchemy import make_url


class Wire(socketserver.ThreadingTCPServer):
    """A TCP proxy with an address of its own. Who connects is led to where `leads_to` points at that moment."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.port_there = port
        self.delay = 0.0
        self.flows = threading.Event()
        self.flows.set()
        super().__init__(("127.0.0.1", 0), _Connection)

    def url(self, of: str) -> str:
        """The address of a database through this proxy."""
        return make_url(of).set(port=self.server_address[1]).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """While the block runs nothing arrives, and nobody is told."""
        self.flows.clear()
        yield
        self.flows.set()

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """While the block runs everything arrives late."""
        self.delay = seconds
        yield
        self.delay = 0.0


class _Connection(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port_there)) as there:
            back = threading.Thread(target=self._carry, args=(there, self.request))
            back.start()
            self._carry(self.request, there)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.server.flows.wait()
                time.sleep(self.server.delay)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A proxy for as long as the block runs."""
    with Wire(port) as wire:
        threading.Thread(target=wire.serve_forever, args=(0.01,), daemon=True).start()
        yield wire
        wire.shutdown()

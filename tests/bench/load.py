"""Load from a process of its own: wrk, or where that is not installed this file.

Called as `python -m tests.bench.load PORT CONNECTIONS SECONDS FILE`; the file has whole requests, separated by NUL.
"""

import itertools
import json
import multiprocessing
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.servers import ROOT

CONNECTIONS = 32
"""How many requests are under way at any time."""

_PROCESSES = 2
_STRAGGLERS = 60  # seconds that an answer may take
_HEAD_END, _LENGTH = b"\r\n\r\n", b"content-length: "
_OK = b"HTTP/1.1 200"

WRK = shutil.which("wrk")


@dataclass(frozen=True)
class Result:
    """What the clients saw. Times are in seconds."""

    answered: int
    seconds: float
    p50: float
    p99: float
    failed: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


def request(path: str, headers: dict[str, str], body: str = "") -> bytes:
    """A whole request: POST where there is a body."""
    if body:
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", body]).encode()


@contextmanager
def flood(port: int, requests: Sequence[bytes], seconds: float, connections: int = CONNECTIONS) -> Iterator[None]:
    """Load in the background, for `seconds` or until the block ends."""
    with tempfile.NamedTemporaryFile() as file, _generator(port, requests, seconds, connections, file.name) as process:
        yield
        process.kill()


def load(
    port: int, requests: Sequence[bytes], seconds: float, connections: int = CONNECTIONS, *, refused_too: bool = False
) -> Result:
    """Send `requests` in turn, over and over for `seconds`, and return when that is done.

    All must succeed, unless those count that are `refused_too`.
    """
    with tempfile.NamedTemporaryFile() as file, _generator(port, requests, seconds, connections, file.name) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load stopped with exit status {process.returncode}")
    result = Result(**json.loads(output.splitlines()[-1]))
    if (result.failed and not refused_too) or not result.answered:
        raise RuntimeError(f"{result.failed} requests failed, {result.answered} were answered")
    return result


def _generator(
    port: int, requests: Sequence[bytes], seconds: float, connections: int, file: str
) -> "subprocess.Popen[bytes]":
    Path(file).write_bytes(b"\0".join(requests))
    if WRK:
        # wrk counts whole seconds.
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={_STRAGGLERS}s"]
        script = str(Path(__file__).with_name("wrk.lua"))
        command = [WRK, *options, "-s", script, f"http://127.0.0.1:{port}", "--", file]
    else:
        command = [sys.executable, "-m", __name__, str(port), str(connections), str(seconds), file]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def _main(port: int, connections: int, seconds: float, file: str) -> None:
    requests = Path(file).read_bytes().split(b"\0")
    shares = [connections // _PROCESSES + (n < connections % _PROCESSES) for n in range(_PROCESSES)]
    with multiprocessing.Pool(_PROCESSES) as pool:
        parts = pool.starmap(_clients, [(port, share, seconds, requests[n:]) for n, share in enumerate(shares)])
    latencies = sorted(latency for part, _ in parts for latency in part)
    p50, p99 = (latencies[int(len(latencies) * share)] if latencies else 0.0 for share in (0.5, 0.99))
    failed = sum(failures for _, failures in parts)
    print(json.dumps({"answered": len(latencies), "seconds": seconds, "p50": p50, "p99": p99, "failed": failed}))


def _clients(port: int, connections: int, seconds: float, requests: Sequence[bytes]) -> tuple[list[float], int]:
    """The latencies of what was answered within `seconds`, and how many answers were no success."""
    latencies: list[float] = []
    failed, now, turn = 0, time.perf_counter, itertools.cycle(requests)
    with selectors.DefaultSelector() as selector, ExitStack() as exits:
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port), timeout=_STRAGGLERS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exits.callback(client.close)
            selector.register(client, selectors.EVENT_READ, [now(), b""])
            client.sendall(next(turn))
        end = now() + seconds
        while (left := end - now()) > 0:
            for key, _ in selector.select(left):
                client, state = cast(socket.socket, key.fileobj), key.data
                received = client.recv(65536)
                state[1] += received
                if received and not _is_whole(state[1]):
                    continue
                failed += not state[1].startswith(_OK)
                if not received:
                    selector.unregister(client)
                    continue
                latencies.append(now() - state[0])
                state[:] = now(), b""
                client.sendall(next(turn))
    return latencies, failed


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(_HEAD_END)
    if not end:
        return False
    _, _, length = head.lower().partition(_LENGTH)
    return len(body) >= int(length.split(b"\r\n", 1)[0] or 0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])

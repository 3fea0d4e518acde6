"""`.ci/vulnerabilities.py`: a known vulnerability fails it; no answer does not, and is called no check."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.servers import ROOT


def ran(url: str, *seconds: str) -> subprocess.CompletedProcess[str]:
    """The script, having asked there."""
    command = [sys.executable, ".ci/vulnerabilities.py", url, *seconds]
    environ = {"no_proxy": "*"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environ, timeout=30)


@contextmanager
def osv(answer: Callable[[dict[str, Any]], object], status: int = 200) -> Iterator[str]:
    """Something that answers in OSV's place."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(answer(question)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def about(names: set[str]) -> Callable[[dict[str, Any]], object]:
    """An answer that knows something of these."""

    def answer(question: dict[str, Any]) -> object:
        asked = [query["package"]["name"] for query in question["queries"]]
        return {"results": [{"vulns": [{"id": f"TEST-{name}"}]} if name in names else {} for name in asked]}

    return answer


def test_what_is_pinned_is_asked_about() -> None:
    """What the service needs and what the tests need, each with its version."""
    questions = []
    with osv(lambda question: questions.append(question) or about(set())(question)) as url:  # type: ignore[func-returns-value]
        assert ran(url).returncode == 0
    (question,) = questions
    asked = {query["package"]["name"]: query["version"] for query in question["queries"]}
    assert {query["package"]["ecosystem"] for query in question["queries"]} == {"PyPI"}
    assert {f"{name}=={asked[name]}" for name in ("flask", "pytest")} <= {
        line.split()[0] for line in (ROOT / "tests/requirements.txt").read_text("utf-8").splitlines() if "==" in line
    }


def test_a_known_vulnerability_fails_it() -> None:
    """Each is named, with what has it."""
    with osv(about({"flask", "pytest"})) as url:
        done = ran(url)
    assert done.returncode != 0
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["TEST-flask", "TEST-pytest"]


@pytest.mark.parametrize(("answer", "status"), [({}, 503), ({}, 200), ([], 200), ({"results": []}, 200), ("", 200)])
def test_what_is_no_answer_is_called_no_check(answer: object, status: int) -> None:
    """It says so, and that is all."""
    with osv(lambda _: answer, status) as url:
        done = ran(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NOT CHECKED: ")


def test_without_a_way_there_nothing_was_checked() -> None:
    """As on a machine without the Internet."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = ran(f"http://127.0.0.1:{nobody.getsockname()[1]}/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NOT CHECKED: ")


def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    """However busily it comes: the time is that of the whole answer."""
    ended = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while not ended.wait(0.05):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle)
        thread.start()
        done = ran(f"http://127.0.0.1:{listener.getsockname()[1]}/", "1")
        ended.set()
        thread.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("NOT CHECKED: ")

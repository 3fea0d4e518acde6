"""`tests/smoke.sh`, the operator's check after a deployment, against servers that deserve its verdict."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.databases import PASSWORD
from tests.servers import Server, free_port

SCRIPT = Path(__file__).parent / "smoke.sh"
TOKEN = "a-token-that-nobody-should-see"


def smoke(base_url: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run it as an operator does."""
    account = {"AUTHSVC_SMOKE_USER": "user", "AUTHSVC_SMOKE_PASSWORD": PASSWORD}
    environ = {"PATH": os.environ["PATH"], **account, **settings}
    return subprocess.run([SCRIPT, base_url], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_working_service_passes_every_check(server: Server) -> None:
    """One line per check, a last line that sums up, and exit status 0."""
    result = smoke(f"http://127.0.0.1:{server.port}")
    *checks, verdict = result.stdout.splitlines()
    assert (result.returncode, verdict, result.stderr) == (0, "all checks hold", "")
    assert {line.split()[0] for line in checks} == {"ok"}


def test_it_can_be_run_again_and_again(server: Server) -> None:
    """Its wrong guesses are forgiven by its logins: the tenth run finds what the first found."""
    assert {smoke(f"http://127.0.0.1:{server.port}").returncode for _ in range(10)} == {0}


def test_a_login_that_fails_fails_it(server: Server) -> None:
    """Where the account's password is another one, the lines say so and the exit status is 1."""
    result = smoke(f"http://127.0.0.1:{server.port}", AUTHSVC_SMOKE_PASSWORD="not-its-password")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (1, "not all checks hold")
    assert "FAIL  /api/auth: login" in result.stdout
    assert "FAIL  /AccAdmin: login" in result.stdout


def test_a_dead_port_fails_it() -> None:
    """Where nobody answers, the first line says so, and nothing more is tried."""
    result = smoke(f"http://127.0.0.1:{free_port()}")
    assert (result.returncode, len(result.stdout.splitlines())) == (1, 1)


def test_without_an_account_it_says_how_to_call_it() -> None:
    """Exit status 2 tells a wrong call from a service that does not work."""
    result = smoke("http://127.0.0.1", AUTHSVC_SMOKE_PASSWORD="")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: ")


class Confused(BaseHTTPRequestHandler):
    """Answers whatever it is asked with a token, in every place that a token has."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("satoken", TOKEN)
        self.end_headers()
        self.wfile.write(json.dumps({"code": 200, "data": {"tokenInfo": {"tokenValue": TOKEN}}}).encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_it_prints_no_secret() -> None:
    """Neither the password nor a token is in what it prints, also where an answer is none that it expects."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Confused) as confused:
        threading.Thread(target=confused.serve_forever).start()
        try:
            result = smoke(f"http://127.0.0.1:{confused.server_port}")
        finally:
            confused.shutdown()
    assert result.returncode == 1
    assert "FAIL  /api/auth: verify" in result.stdout
    assert PASSWORD not in result.stdout + result.stderr
    assert TOKEN not in result.stdout + result.stderr


def test_it_keeps_secrets_off_command_lines(server: Server, tmp_path: Path) -> None:
    """What curl is called with, which everybody on the machine can read, holds neither password nor token."""
    spy, real = tmp_path / "curl", subprocess.check_output(["which", "curl"], text=True).strip()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/seen\nexec {real} "$@"\n')
    spy.chmod(0o755)
    result = smoke(f"http://127.0.0.1:{server.port}", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 0
    seen = (tmp_path / "seen").read_text()
    assert "password@-" in seen
    assert PASSWORD not in seen
    assert "satoken" not in seen

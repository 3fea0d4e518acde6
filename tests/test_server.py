"""The running service: real processes, real sockets, and what is left of it when it is stopped or killed."""

import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import make_url

from authsvc.config import PREFIX
from tests.conftest import StartServer
from tests.databases import PASSWORD, Databases
from tests.dialects import FORM, JSON, Auth, Console
from tests.refusals import (
    BAD_PARAMETER,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKEN_REVOKED,
    TOO_LARGE,
    WRONG_METHOD,
)
from tests.servers import ROOT, Server, free_port, wait_for

MEGABYTE = 1 << 20
UNUSABLE = f'{{"code": 500, "msg": "{BAD_PARAMETER.message}", "data": null}}'
"""What the console is told of a body, or a parameter, that cannot be used."""


@pytest.fixture
def auth(server: Server) -> Auth:
    """The `/api/auth` dialect of the running service."""
    return server.auth


@pytest.fixture
def console(server: Server) -> Console:
    """The `/AccAdmin` dialect of the running service."""
    return server.console


def exchange(server: Server, *parts: bytes) -> bytes:
    """Send these bytes on one connection; return all that comes back until the server closes it."""
    with server.connect() as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it has heard enough, and has said so
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def post(path: str, body: bytes, kind: str = "application/x-www-form-urlencoded") -> bytes:
    """A request in plain bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


# Both dialects over real sockets


def test_a_session_lives_from_login_to_logout(auth: Auth) -> None:
    """In /api/auth: opened, checked, ended, refused."""
    token = auth.token("user", PASSWORD)
    verdicts = [auth.verdict(act(token)) for act in (auth.verify, auth.whoami, auth.logout, auth.verify)]
    assert verdicts == [(200, None), (200, None), (200, None), (401, TOKEN_REVOKED.reason)]


def test_a_console_session_lives_from_login_to_logout(console: Console) -> None:
    """In /AccAdmin too."""
    token = console.token("user", PASSWORD)
    verdicts = [console.verdict(act(token))[0] for act in (console.info, console.exit, console.info)]
    assert verdicts == [200, 200, 401]


def test_a_token_is_good_in_both_dialects(auth: Auth, console: Console) -> None:
    """Whichever issued it, and ended in one it is ended in the other."""
    token = auth.token("user", PASSWORD)
    assert console.info(token).data["admin"]["name"] == "user"
    assert auth.verify(console.token("user", PASSWORD)).data["username"] == "user"
    console.exit(token)
    assert auth.verify(token).status == 401


def test_a_cookie_is_enough(server: Server) -> None:
    """As a browser has it: log in, be known, log out, be forgotten."""
    cookie = server.auth.login("user", PASSWORD).cookie[1]
    headers = {"Cookie": f"satoken={cookie}"}
    statuses = [server.auth.call("GET", path, headers=headers).status for path in ("/login", "/logout", "/login")]
    assert statuses == [200, 200, 403]


def test_the_service_is_ready(server: Server) -> None:
    """It has brought the schema up to date before it answered."""
    assert server.send("GET", "/readyz", {}, b"").json == {"status": "ready"}


# Bad input in real bytes


@pytest.mark.parametrize("path", ["/api/auth/login", "/AccAdmin/doLogin", "/nosuch"])
@pytest.mark.parametrize("length", [True, False], ids=["with length", "without length"])
def test_a_body_of_10_megabytes_is_refused(path: str, length: bool, server: Server) -> None:
    """Announced or not, in the caller's dialect."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    if length:
        answer = exchange(server, f"{head}Content-Length: {10 * MEGABYTE}\r\n\r\n".encode(), *[b"x" * MEGABYTE] * 10)
    else:
        chunk = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
        answer = exchange(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 10, b"0\r\n\r\n")
    if path.startswith("/AccAdmin"):
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.decode().endswith(UNUSABLE)
    else:
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert TOO_LARGE.reason in answer.decode()


@pytest.mark.parametrize(
    ("kind", "chunks", "status"),
    [
        pytest.param(JSON, [b'{"username": "user", ', f'"password": "{PASSWORD}"}}'.encode()], 200, id="JSON"),
        pytest.param(JSON, [b'{"username": "user", ', b'"password": "corr'], 400, id="JSON without its end"),
        pytest.param(FORM, [b"user", f"name=user&password={PASSWORD}".encode()], 411, id="form"),
        pytest.param(FORM, [b"x" * 4096] * 5, 413, id="more than 16 KiB"),
    ],
)
def test_a_body_without_length_proves_its_own_end(kind: str, chunks: list[bytes], status: int, server: Server) -> None:
    """So does a JSON object; of a form nobody knows whether all of it arrived. Up to 16 KiB, like any other."""
    head = f"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    answer = exchange(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status)


BAD_FORMS = [
    b"%ff=%ff&NAME=%ff&password=x",
    b"NAME=\xff\xfe&password=x",
    b"NAME=a%00b&password=x",
    b"NAME=%ED%A0%80&password=x",
]
BAD_JSON = [
    b'{"NAME": "\xff", "password": "x"}',
    b'{"NAME": "\\u0000", "password": "x"}',
    b'{"NAME": "\\ud800", "password": "x"}',
    b'{"NAME": ["x"], "password": "x"}',
    b"[" * 16_000,
    b'{"NAME":' * 1_000,
    b"\x00\xff",
    b"null",
]


@pytest.mark.parametrize("body", [*BAD_FORMS, *BAD_JSON])
def test_bad_bytes_are_refused_in_the_callers_dialect(body: bytes, server: Server) -> None:
    """Invalid UTF-8, NUL, lone surrogates, deep nesting: a refusal of the parameters, nothing worse."""
    kind = "application/x-www-form-urlencoded" if body in BAD_FORMS else "application/json"
    auth = exchange(server, post("/api/auth/login", body.replace(b"NAME", b"username"), kind))
    console = exchange(server, post("/AccAdmin/doLogin", body.replace(b"NAME", b"key"), kind))
    assert auth.startswith(b"HTTP/1.1 400 ")
    assert console.decode().endswith(UNUSABLE)


@pytest.mark.parametrize("query", ["username=%ff", "username=%00", "username=%ED%A0%80", "username=a&username=b"])
def test_bad_queries_are_refused(query: str, auth: Auth) -> None:
    """In a URL as in a body."""
    assert auth.verdict(auth.call("GET", f"/login?{query}&password=x"))[0] == 400


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"x\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nsatoken: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        bytes(range(256)) * 16,
    ],
    ids=range(14),
)
def test_garbage_is_no_request(request_: bytes, server: Server) -> None:
    """It is refused or dropped, never a 5xx, and the service goes on."""
    with server.connect() as connection:
        try:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except OSError:
            answer = b""  # it has hung up at the first bytes
    assert not answer or re.match(rb"HTTP/1\.\d 4\d\d ", answer)
    assert server.answers()


def test_requests_follow_each_other_on_one_connection(server: Server) -> None:
    """A refused body does not spoil the next request, and none sees anything of the one before."""
    bad = b"POST /api/auth/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    good = b"GET /api/auth/verify HTTP/1.1\r\nHost: x\r\n"
    answers = exchange(server, bad, good + b"satoken: x\r\n\r\n", good + b"Connection: close\r\n\r\n")
    reasons = re.findall(r'"reason": "([^"]*)"', answers.decode())
    assert reasons == [refused.reason for refused in (WRONG_METHOD, TOKEN_INVALID, TOKEN_MISSING)]


# Many at once


def test_parallel_logins_are_counted_exactly(databases: Databases, start_server: StartServer) -> None:
    """Over several workers and both dialects: each has its own session, and none is lost from the count."""
    server = start_server(databases.copy(), AUTHSVC_WORKERS="2")

    def login(number: int) -> str:
        return (server.auth if number % 2 else server.console).token("user", PASSWORD)

    with ThreadPoolExecutor(30) as pool:
        tokens = set(pool.map(login, range(30)))
        verdicts = {answer.status for answer in pool.map(server.auth.verify, tokens)}
    assert (len(tokens), verdicts) == (30, {200})
    assert server.console.info(tokens.pop()).data["admin"]["loginCount"] == 30


def test_of_parallel_logouts_one_wins(auth: Auth) -> None:
    """Over several workers too."""
    token = auth.token("user", PASSWORD)
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(answer.status for answer in pool.map(auth.logout, [token] * 16))
    assert statuses == [200] + [403] * 15


# Stopping, killing, starting again


def test_sigterm_finishes_what_is_under_way(databases: Databases, start_server: StartServer) -> None:
    """It accepts nothing new, answers what it has begun, and exits with 0."""
    server = start_server(databases.copy())
    # Past its first moments, in which Granian may miss a signal (and is then ended after 20 seconds).
    for _ in range(20):
        server.auth.token("user", PASSWORD)
    body = f"username=user&password={PASSWORD}".encode()
    head, _, _ = post("/api/auth/login", body).partition(b"\r\n\r\n")
    with server.connect() as connection:
        # The server asks for the body when it has begun with the request: then it is under way.
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not server.answers())
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(30) == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_start_can_be_broken_off(sent: signal.Signals, sqlite: Databases, tmp_path: Path) -> None:
    """At whichever moment: nothing is left running, and it is no failure. Ctrl-C goes to all processes at once."""
    url = sqlite.copy()
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = Server(folder, url, AUTHSVC_WORKERS="2", AUTHSVC_SESION_LIFETIME="60")
        try:
            wait_for(lambda server=server: "setting.risky" in server.log)
            time.sleep(number / 20)
            os.killpg(server.process.pid, sent) if sent == signal.SIGINT else server.process.send_signal(sent)
            assert (server.process.wait(30), server.errors) == (0, "")
            assert not server.answers()
        finally:
            server.kill()


def test_workers_end_with_their_parent(databases: Databases, start_server: StartServer) -> None:
    """Where it was killed nobody would lead them, and they would keep the port from the next."""
    server = start_server(databases.copy(), AUTHSVC_WORKERS="2")
    server.process.kill()
    try:
        wait_for(lambda: not server.answers())
    finally:
        os.killpg(server.process.pid, signal.SIGKILL)  # the process is not waited for yet, so its number is still its


def test_a_killed_worker_is_replaced(databases: Databases, start_server: StartServer) -> None:
    """The service goes on without anybody's help."""
    server = start_server(databases.copy())
    _kill_workers(server)
    wait_for(server.answers)
    assert server.auth.login("user", PASSWORD).status == 200


def test_a_log_that_cannot_be_written_stops_nothing(sqlite: Databases, tmp_path: Path) -> None:
    """Neither the start, nor requests, nor the replacement of a worker, which is something to log."""
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    server = Server(tmp_path, sqlite.copy())
    try:
        server.wait_until_up()
        _kill_workers(server)
        wait_for(server.answers)
        assert server.auth.login("user", PASSWORD).status == 200
        assert (server.stop(), server.errors) == (0, "")
    finally:
        server.kill()


def _kill_workers(server: Server) -> None:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert children
    for child in children:
        os.kill(int(child), signal.SIGKILL)


def test_the_first_administrators_password_is_shown_once(databases: Databases, start_server: StartServer) -> None:
    """As a plain line on standard error, in no log, and not at the next start."""
    url = databases.empty()
    server = start_server(url)
    line = re.fullmatch(
        r"First administrator: admin, password (\S+) \(shown only once; a container's log keeps it: "
        r"change it with `flask account password admin`\)\n",
        server.errors,
    )
    assert line is not None
    assert server.auth.login("admin", line[1]).data["role"] == "admin"
    assert line[1] not in server.log
    assert server.stop() == 0
    assert start_server(url).errors == ""


def test_the_first_administrator_may_have_another_name(databases: Databases, start_server: StartServer) -> None:
    """The line names it as the command takes it."""
    server = start_server(databases.empty(), AUTHSVC_ADMIN_NAME="Erika Muster")
    wait_for(lambda: "\n" in server.errors)
    password = server.errors.split()[5]
    assert server.errors.startswith(f"First administrator: Erika Muster, password {password} ")
    assert server.errors.endswith("`flask account password 'Erika Muster'`)\n")
    assert server.auth.login("erika muster", password).data["role"] == "admin"


def test_the_first_administrators_password_is_in_no_log(databases: Databases) -> None:
    """Not even where standard error is closed, and there is nowhere to show it."""
    environ = {"PATH": os.environ["PATH"], f"{PREFIX}DATABASE_URL": databases.empty(), f"{PREFIX}SECRET_KEY": "k" * 32}
    environ |= {f"{PREFIX}PORT": str(free_port()), f"{PREFIX}WORKERS": "1"}
    command = ["sh", "-c", 'exec "$0" wsgi.py 2>&-', sys.executable]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout
        log = []
        for line in process.stdout:
            log.append(line)
            if b'"database.ready"' in line:
                process.terminate()
    assert b"account.added" in b"".join(log)
    assert [line for line in log if not line.startswith(b"{")] == []


def test_workers_that_start_together_do_not_disturb_each_other(databases: Databases, start_server: StartServer) -> None:
    """On an empty database one of them makes it what it should be, the others wait for that, and no start is slow."""
    for _ in range(4):
        server = start_server(databases.empty(), AUTHSVC_WORKERS="4")
        wait_for(lambda server=server: server.log.count('"database.ready"') == 4)
        assert '"database.not_ready"' not in server.log
        assert server.errors.count("First administrator") == 1
        assert server.stop() == 0


def test_a_start_waits_for_no_writer(sqlite: Databases, start_server: StartServer) -> None:
    """Where there is nothing to be done to the database, it is only read: a worker that is replaced is back at once."""
    url = sqlite.copy()
    with closing(sqlite3.connect(str(make_url(url).database), isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        server = start_server(url)
        wait_for(lambda: '"database.' in server.log)
    assert '"database.ready"' in server.log


def test_a_given_password_makes_the_first_administrator_only(databases: Databases, start_server: StartServer) -> None:
    """AUTHSVC_ADMIN_PASSWORD is not shown, and never changes an account that exists."""
    url = databases.empty()
    first = start_server(url, AUTHSVC_ADMIN_PASSWORD=PASSWORD)
    assert first.auth.login("admin", PASSWORD).status == 200
    assert PASSWORD not in first.errors + first.log
    first.stop()
    second = start_server(url, AUTHSVC_ADMIN_PASSWORD="another-password")
    assert [second.auth.login("admin", each).status for each in (PASSWORD, "another-password")] == [200, 403]


def test_a_server_logs_json_alone(databases: Databases, start_server: StartServer) -> None:
    """Its own lines and those of the server below it; nothing comes on standard error."""
    server = start_server(databases.copy(), AUTHSVC_SESION_LIFETIME="60")
    exchange(server, b"garbage\r\n\r\n")
    server.auth.login("user", "wrong")
    server.stop()
    events = [(line["event"], line["level"]) for line in server.log_lines]
    assert events[0] == ("setting.risky", "WARNING")
    assert ("server.starting", "INFO") in events
    assert ("login.refused", "WARNING") in events
    assert server.errors == ""


# Starting with bad settings


@pytest.mark.parametrize("command", [["wsgi.py"], ["-c", "import wsgi"]], ids=["run", "imported"])
def test_bad_settings_stop_the_start(command: list[str], tmp_path: Path) -> None:
    """With exit status 2 and one line for each problem, none of which shows a secret."""
    environ = {"PATH": os.environ["PATH"], "AUTHSVC_PORT": "http", "AUTHSVC_SECRET_KEY": "hunter2"}
    environ["AUTHSVC_DATABASE_URL"] = "mysql://root:hunter2@db.example/authsvc"
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [
        "AUTHSVC_DATABASE_URL: must begin with sqlite:/// or postgresql://",
        "AUTHSVC_SECRET_KEY: is shorter than 32 characters",
        "AUTHSVC_PORT: must be a whole number from 1 to 65535",
    ]
    assert list(tmp_path.iterdir()) == []


def test_importing_the_application_touches_no_database(databases: Databases) -> None:
    """`wsgi:app` is a plain WSGI application; what it needs it opens when it is asked something."""
    url = databases.empty()
    environ = {"PATH": os.environ["PATH"], f"{PREFIX}DATABASE_URL": url, f"{PREFIX}SECRET_KEY": "k" * 32}
    code = "import wsgi; print(wsgi.app.test_client().get('/healthz').json)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "{'status': 'ok'}"
    assert done.stderr == b""
    database = make_url(url).database
    assert make_url(url).get_backend_name() != "sqlite" or not Path(str(database)).exists()


def test_starters_at_the_same_moment_share_key_and_administrator(sqlite: Databases, tmp_path: Path) -> None:
    """Two that start on one empty database agree about everything; one of them shows the password."""
    url, folders = sqlite.empty(), [tmp_path / "a", tmp_path / "b"]
    servers = []
    try:
        for folder in folders:
            folder.mkdir()
            servers.append(Server(folder, url, AUTHSVC_SECRET_KEY=""))
        shown = "".join(server.wait_until_up().errors for server in servers)
        (password,) = re.findall(r"password (\S+) \(", shown)
        token = servers[0].auth.token("admin", password)
        assert servers[1].auth.verify(token).data["id"] == 1
    finally:
        for server in servers:
            server.kill()


# Whoever reaches the server directly

SILENT = 2_500
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def test_http_2_is_not_spoken(server: Server) -> None:
    """Its preface is no request: no frame comes back, and so nothing that frames could do."""
    answer = exchange(server, PREFACE)
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    answer = exchange(server, upgrade + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_silent_connections_stop_nobody(databases: Databases, start_server: StartServer) -> None:
    """2,500 of them, and while they stay a session is checked; the service stops as if there were none."""
    server = start_server(databases.copy())
    token = server.auth.token("user", PASSWORD)
    with ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(SILENT)]
        assert server.auth.verify(token).status == 200
        # Answered although nobody had to go first: after a while the service hangs up on them.
        assert select.select(silent[:1], [], [], 0)[0] == []
        assert server.auth.login("user", PASSWORD).status == 200
        assert server.stop() == 0


def test_a_header_has_its_length(server: Server) -> None:
    """32 KiB, and what the last read brought on top; what is longer is refused, or hung up on."""
    small, large = (
        exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx: " + b"x" * size + b"\r\n\r\n")
        for size in (16_000, 200_000)
    )
    assert small.startswith(b"HTTP/1.1 200 ")
    assert not large or large.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_header_that_never_ends_is_hung_up_on(server: Server) -> None:
    """Whoever sends half of one holds the connection for ten seconds (Granian's own patience is thirty)."""
    with server.connect() as connection:
        connection.settimeout(20)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        received = connection.recv(65536)
    assert not received or received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("kind", ["form", "json"])
@pytest.mark.parametrize("announced", [True, False], ids=["with length", "chunked"])
def test_a_login_cut_off_at_any_byte_opens_nothing(kind: str, announced: bool, server: Server) -> None:
    """Nor is it a wrong guess: after them all there are as many guesses as before, and the whole one gets in."""
    form = {"username": "user", "password": PASSWORD}
    body = (urlencode(form) if kind == "form" else json.dumps(form)).encode()
    head = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Content-Type: {FORM if kind == 'form' else JSON}\r\n"
    name = f"{'whole' if announced else 'chunked'}-{kind}"
    if announced:
        head += f"Content-Length: {len(body)}\r\n"
    else:
        head += "Transfer-Encoding: chunked\r\n"
        body = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])

    def send(end: int) -> bytes:
        with server.connect() as connection:
            connection.sendall(f"{head}X-Request-ID: {name}-{end}\r\n\r\n".encode() + body[:end])
            if end < len(body):
                connection.shutdown(socket.SHUT_WR)
            try:
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                return b""

    # What a chunked object lacks at its very end is only what says that no more comes.
    last = len(body) - (7 if name == "chunked-json" else 0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(last)))
    wait_for(lambda: server.log.count(f'"{name}-') >= last)
    lines = [line for line in server.log_lines if line.get("request_id", "").startswith(f"{name}-")]
    assert {(line["event"], line["status"]) for line in lines} <= {("request", 400), ("request", 411)}
    assert send(len(body)).startswith(b"HTTP/1.1 411 " if name == "chunked-form" else b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "lengths",
    [
        *("-1", "+5", "5_0", "0x5", "5, 6", "", " ", "5 5", "9" * 30, "1e1", "5\r\nContent-Length: 6"),
        "5\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_doubtful_length_is_no_request(lengths: str, server: Server) -> None:
    """What two parsers might read differently is refused, or read with what follows as part of nothing."""
    head = f"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: {lengths}\r\n"
    smuggled = b"GET /api/auth/verify HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\nhello" + smuggled)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert b"smuggled" not in answer or not lengths.strip()


@pytest.mark.parametrize(
    "chunks",
    [b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
     b"+5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"ffffffffffffffff\r\nhello",
     b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
     b"5\r\nhelloXX0\r\n\r\n", b"0\r\nsatoken: x\r\n\r\n"],
    ids=range(9),
)  # fmt: skip
def test_odd_chunks_are_no_body(chunks: bytes, server: Server) -> None:
    """Refused, never a 5xx; the service goes on."""
    head = b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/json\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head + chunks)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert server.answers()


def test_stuck_bodies_refuse_no_login_from_elsewhere(databases: Databases, start_server: StartServer) -> None:
    """200 bodies of one address that never end: others log in, and every check is answered."""
    server = start_server(databases.copy())
    head, _, _ = post("/api/auth/login", b"x" * 100).partition(b"\r\n\r\n")
    with ExitStack() as stuck:
        for _ in range(200):
            connection = stuck.enter_context(closing(socket.socket()))
            connection.bind(("127.0.0.2", 0))
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head + b"\r\n\r\nx")
        # Whoever is refused a place is told; the others hold theirs.
        wait_for(lambda: server.log.count('"cause": "busy"') >= 200 - 128)
        token = server.auth.token("user", PASSWORD)
        assert [server.auth.verify(token).status for _ in range(20)] == [200] * 20

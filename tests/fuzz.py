"""Hostile input by the hundred thousand: `python -m tests.fuzz --seconds 20` says how much of what was tried.

Each kind of input has its share of the time. What must not come of any: a 500 (in whatever dialect), an exception, a
log line that is no JSON or longer than 8 KiB, a worker that ends, a process that grows and grows.
"""

import argparse
import io
import json
import random
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import argon2
from flask import Flask
from werkzeug.security import generate_password_hash

from authsvc import create_app, errors, logs, otp
from authsvc.config import load
from authsvc.identifiers import parse_key
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import DamagedHash, _cost
from authsvc.tokens import Tokens, has_form
from tests.databases import PASSWORD, SECRET_KEY, SqliteDatabases, cheap_passwords, close
from tests.dialects import FORM, JSON, Auth, in_process
from tests.servers import Server

LOG_LINE_MAX = 8192
_GROWTH_MAX = 64 * 1024  # KiB, over the second half
_UNITS_MAX = 0.1  # of a hash of ours, to be matched: dear ones are refused elsewhere
_PATIENCE, _SOON, _AT_ONCE = 5.0, 0.1, 64
_NASTY = [
    *(b"", b"\x00", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x92\xa9", b"\r\n", b"\n", b"\r"),
    *(b"\t", b" ", b"%00", b"%ff", b"%", b"%zz", b"%ED%A0%80", b"%0d%0a", b"..", b"//", b"/", b"\\", b";", b"?", b"#"),
    *(
        b"&",
        b"=",
        b"+",
        b'"',
        b"'",
        b"{",
        b"[",
        b"}",
        b",",
        b":",
        b"null",
        b"NaN",
        b"1e999",
        b"-0",
        b"\\ud800",
        b'{"a":',
    ),
    *(
        b"\\ud800",
        b"\\u0000",
        b"[" * 64,
        b"0",
        b"-1",
        b"+5",
        b"1_0",
        b"0x10",
        b"9" * 20,
        b"9" * 300,
        "１２".encode(),
        "²".encode(),
    ),
    *("\u202e".encode(), "\u200b".encode(), b"satoken", b"Bearer ", b"chunked", b"identity", b"close", b"100-continue"),
    *(b"https", b"cross-site", b"x" * 300, b"$argon2id$v=19$", b"m=", b"t=", b"p=", b"scrypt:", b"pbkdf2:", b"sha256"),
    *(b"$", b"::ffff:1.2.3.4", b"fe80::1%eth0"),
]
_METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "get", "PoSt", "PATCH", "TRACE", "X" * 40]
_PATHS = [
    *("/api/auth/login", "/api/auth/logout", "/api/auth/verify", "/api/auth/password", "/AccAdmin/doLogin"),
    *("/AccAdmin/doExit", "/AccAdmin/getLoginInfo", "/healthz", "/readyz", "/openapi.json", "/docs", "/", "/nosuch"),
]
_NAMES = ["username", "key", "password", "otp_code", "new_password", "permission", "remember", "satoken", ""]
_HEADERS = [
    *("satoken", "Authorization", "Cookie", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Dest", "Sec-Purpose", "Host"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID", "User-Agent", "Accept", "Range", "If-None-Match"),
    *("Access-Control-Request-Method", "Access-Control-Request-Headers", "Content-Encoding", "Expect", "Forwarded"),
]
_VALUES = [
    *("", "null", "http://localhost", "https://console.example", "HTTPS://CONSOLE.EXAMPLE", "same-origin", "same-site"),
    *("cross-site", "none", "empty", "document", "image", "prefetch", "Bearer TOKEN", "bearer  TOKEN", "TOKEN"),
    *("satoken=TOKEN", '__Host-satoken=TOKEN; satoken="TOKEN"', "satoken=TOKEN; satoken=x", "203.0.113.9", "https"),
    "Basic eDp5",
]
_JSON = [
    *(b"null", b"1", b"[]", b"{}", b"true", b'"\\ud800"', b'"\\u0000"', b"1e400", b"9" * 400, b"[" * 2000, b"NaN"),
]


@dataclass
class Report:
    """What was tried, and what came of it."""

    tried: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def came(self, kind: str, outcome: object) -> None:
        """Count one input."""
        self.tried[kind] += 1
        self.outcomes[f"{kind} {outcome}"] += 1

    def fail(self, what: str, given: object) -> None:
        """Note what must not be; the first few will do."""
        if len(self.failures) < 20:
            self.failures.append(f"{what}: {given!r}"[:2000])


class _Log(io.StringIO):
    """Reads each line as it is written, and keeps none."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def write(self, text: str) -> int:
        """Hold one line, or more, to what is promised."""
        check_log(text, self._report)
        return len(text)


def check_log(text: str, report: Report) -> None:
    """Hold log lines to what is promised of all of them."""
    for line in text.splitlines():
        if len(line.encode()) > LOG_LINE_MAX:
            report.fail("a long log line", line)
        try:
            event = json.loads(line)["event"]
        except (ValueError, KeyError):
            report.fail("no log line", line)
        else:
            if event in {"request.failed", "session.touch_failed"}:
                report.fail("an exception", line)


class Fuzz:
    """The inputs, each from one source of chance: the same `seed`, the same inputs."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.token = ""

    def bytes_(self, seed: bytes = b"") -> bytes:
        """`seed`, or something else, changed here and there."""
        chance = self.chance
        text = bytearray(seed or chance.choice(_NASTY) + chance.choice(_NASTY))
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            at = chance.randrange(len(text) + 1)
            match chance.randrange(5):
                case 0:
                    text[at:at] = chance.choice(_NASTY)
                case 1:
                    del text[at : at + chance.choice((1, 1, 2, 8))]
                case 2:
                    text[at : at + 1] = bytes([chance.randrange(256)])
                case 3:
                    text[at:at] = text[at : at + chance.choice((1, 4, 16, 64))]
                case 4:
                    text[at : at + 1] = bytes([chance.choice(b"\x00\x7f\x80\xff :;,=&%\"'\\/$.-_")])
        return bytes(text)

    def value(self) -> bytes:
        """Of a header."""
        known = self.chance.choice(_VALUES).replace("TOKEN", self.token).encode()
        return self.bytes_(known) if self.chance.randrange(4) == 0 else known

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names and values of parameters."""
        chance = self.chance
        values = [b"user", b"2", PASSWORD.encode(), b"x,123456", b"a" * 257, *_NASTY]
        usual = [(b"username", b"user"), (b"key", b"user"), (b"password", chance.choice((b"x", PASSWORD.encode())))]
        odd = [
            (chance.choice(_NAMES).encode(), self.bytes_(chance.choice(values)) if chance.randrange(3) else b"user")
            for _ in range(chance.randrange(4))
        ]
        return [*(usual if chance.randrange(3) == 0 else []), *odd]

    def form(self) -> bytes:
        """Parameters as a form has them, as a rule."""
        pairs = (name + b"=" + quote_from_bytes(value).encode() for name, value in self.fields())
        return self._spoilt(b"&".join(pairs))

    def json(self) -> bytes:
        """Parameters as JSON has them, as a rule."""
        chance = self.chance
        members = [
            b'"%b":%b' % (name, chance.choice(_JSON) if chance.randrange(4) == 0 else b'"%b"' % value)
            for name, value in self.fields()
        ]
        return self._spoilt(b"{" + b",".join(members) + b"}")

    def _spoilt(self, text: bytes) -> bytes:
        text = self.bytes_(text) if self.chance.randrange(3) == 0 else text
        return text[: self.chance.randrange(len(text) + 1)] if self.chance.randrange(8) == 0 else text

    def request(self) -> tuple[str, str, bytes, list[tuple[str, bytes]], bytes]:
        """Method, path, query, headers and body."""
        chance = self.chance
        path = chance.choice(_PATHS)
        if chance.randrange(6) == 0:
            path = self.bytes_(path.encode()).decode("latin-1")
        headers = [(chance.choice(_HEADERS), self.value()) for _ in range(chance.randrange(4))]
        body = b""
        if chance.randrange(2):
            body, kind = chance.choice(((self.form(), FORM), (self.json(), JSON), (self.bytes_(), "text/plain")))
            headers.append(("Content-Type", kind.encode() if chance.randrange(8) else self.bytes_(kind.encode())))
        method = chance.choice(_METHODS if chance.randrange(4) == 0 else ["GET", "POST"])
        return method, path, self.form(), headers, body

    def http(self) -> bytes:
        """A request as HTTP/1 writes it, as a rule, and its body as announced, as a rule."""
        chance = self.chance
        method, path, query, headers, body = self.request()
        lengths = [
            *([b"Content-Length: %d" % len(body)] * 16),
            b"Content-Length: %d" % (len(body) + chance.choice((-1, 1, 10**6))),
            *(b"Content-Length: " + each for each in (b"+5", b"-5", b"5_0", b"0x5", b"5, 5", b"9" * 30, b"")),
            b"Content-Length: %d\r\nContent-Length: %d" % (len(body), chance.choice((len(body), 3))),
            b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(body),
            b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(body),
            *([b"Transfer-Encoding: chunked"] * 6),
            *(b"Transfer-Encoding: " + each for each in (b"identity", b"gzip, chunked", b"chunked, chunked", b"xch")),
            b"Transfer-Encoding:\tchunked",
        ]
        length = chance.choice(lengths)
        if b"hunked" in length:
            cut = chance.randrange(len(body) + 1)
            extension = chance.choice((b"", b"", b";a=b", b";" + b"x" * 200, b" "))
            chunks = (b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in (body[:cut], body[cut:]) if part)
            body = b"".join(chunks) + chance.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"zz\r\n"))
        lines = [
            b"%b %b%b HTTP/1.%b" % (
                method.encode(),
                path.encode("latin-1"),
                b"?" + query if query and chance.randrange(4) == 0 else b"",
                b"1" if chance.randrange(6) else chance.choice((b"0", b"2", b"", b"1 ")),
            ),
            b"Host: localhost",
            b"Connection: close",
            *(name.encode() + b": " + value for name, value in headers),
            length,
        ]  # fmt: skip
        whole = b"\r\n".join(lines) + b"\r\n\r\n" + body
        match chance.randrange(6):
            case 0:
                return self.bytes_(whole)
            case 1:
                return whole[: chance.randrange(len(whole))]
        return whole


def _requests(fuzz: Fuzz, report: Report, app: Flask) -> Callable[[], None]:
    """Parameters, headers, methods and paths, without a server."""
    auth = Auth(in_process(app))

    def one() -> None:
        if report.tried["requests"] % 256 == 0:  # some inputs end its session
            fuzz.token = auth.login("admin", PASSWORD).headers.get("satoken", fuzz.token)
        method, path, query, headers, body = fuzz.request()
        environ: dict[str, Any] = {
            **{f"HTTP_{name.upper().replace('-', '_')}": value.decode("latin-1") for name, value in headers},
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query.decode("latin-1"),
            "REMOTE_ADDR": fuzz.chance.choice(("192.0.2.1", "2001:db8::1", "", "unknown")),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
        }
        if "HTTP_CONTENT_TYPE" in environ:
            environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
        if fuzz.chance.randrange(4) == 0:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        elif body:
            environ["CONTENT_LENGTH"] = str(len(body) + (fuzz.chance.randrange(8) == 0))
        told: list[str] = []
        start: Any = lambda status, _headers, *_: told.append(status)  # noqa: E731 - all that WSGI asks for
        try:
            b"".join(app.wsgi_app(environ, start))
        except Exception as error:  # noqa: BLE001 - that there is one is the finding
            report.fail(repr(error), environ)
        status = told[0][:3] if told else "none"
        report.came("requests", status)
        if status >= "500":
            report.fail(status, environ)

    return one


def _texts(fuzz: Fuzz, report: Report) -> Callable[[], None]:
    """Tokens, keys, codes and stored seeds, each by itself."""
    tokens, seeds = Tokens([SECRET_KEY]), Seeds([SECRET_KEY])
    good = seeds.encrypt(otp.new_seed(), 2)

    def one() -> None:
        token, id_hash = tokens.issue()
        text = fuzz.bytes_(token.encode()).decode("utf-8", "surrogateescape")
        seed = fuzz.bytes_(good.encode()).decode("utf-8", "replace")
        try:
            has_form(text)
            parse_key(text)
            otp.recovery_hash(text)
            otp.split_appended(text)
            with suppress(errors.TokenInvalid):
                assert tokens.read(text).id_hash == id_hash
            with suppress(DamagedSeed):
                assert seeds.decrypt(seed, 2)
                # Base64 has spare bits; what is sealed in it has none.
                assert seed.rstrip("=")[:-1] == good.rstrip("=")[:-1]
        except Exception as error:  # noqa: BLE001 - that there is one is the finding
            report.fail(repr(error), (text, seed))
        report.came("texts", "read")

    return one


def _hashes(fuzz: Fuzz, report: Report) -> Callable[[], None]:
    """Stored hashes, damaged in every way."""
    passwords = cheap_passwords()
    kinds = [argon2.PasswordHasher(1, 8, 1, type=kind).hash("x") for kind in argon2.Type]
    kinds += [generate_password_hash("x", each) for each in ("scrypt:1024:8:1", "pbkdf2:sha256:10")]

    def one() -> None:
        stored = fuzz.bytes_(fuzz.chance.choice(kinds).encode()).decode("utf-8", "replace")
        try:
            outcome = "dear" if _cost(stored).units > _UNITS_MAX else str(passwords.matches(stored, "x"))
        except DamagedHash:
            outcome = "damaged"
        except Exception as error:  # noqa: BLE001 - that there is one is the finding
            outcome = "none"
            report.fail(repr(error), stored)
        report.came("hashes", outcome)

    return one


def _sockets(fuzz: Fuzz, report: Report, server: Server) -> Callable[[], None]:
    """HTTP/1 itself, over a raw socket to a real server."""

    def many() -> None:
        with ExitStack() as stack:
            sent, received = {}, {}
            for _ in range(_AT_ONCE):
                connection = stack.enter_context(server.connect())
                sent[connection], received[connection] = fuzz.http(), b""
                with suppress(ConnectionError):
                    connection.sendall(sent[connection])
            waiting = set(received)
            _read(received, waiting, _SOON)
            # These wait for more, and there is none; told so at once, the others would have answered nothing.
            for connection in waiting:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
            _read(received, waiting, _PATIENCE)
            for connection in waiting:
                report.fail("no end", sent[connection])
            for connection, answer in received.items():
                status = answer[9:12].decode("latin-1") or "none"
                report.came("sockets", status)
                if answer and (not answer.startswith(b"HTTP/1.") or status >= "500"):
                    report.fail(status, sent[connection])

    return many


def _read(received: dict[socket.socket, bytes], waiting: set[socket.socket], seconds: float) -> None:
    """Read from all that wait, for so long at the most; those that have ended wait no more."""
    until = time.monotonic() + seconds
    while waiting and (left := until - time.monotonic()) > 0:
        for connection in select.select(waiting, [], [], left)[0]:
            try:
                chunk = connection.recv(65536)
            except ConnectionError:
                chunk = b""
            received[connection] += chunk
            if not chunk:
                waiting.remove(connection)


def _resident(pid: int | str) -> int:
    """KiB of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def _workers(server: Server) -> list[str]:
    return Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text("ascii").split()


def run(seconds: float, seed: int, folder: Path) -> Report:
    """Try for so long, in a folder of its own."""
    report, fuzz = Report(), Fuzz(seed)
    databases = SqliteDatabases(folder)
    url = databases.copy()
    environ = {"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
    app = create_app(load({**environ, "AUTHSVC_CORS_ORIGINS": "https://console.example"}), cheap_passwords())
    server_folder = folder / "server"
    server_folder.mkdir()
    server = Server(server_folder, url)
    logs.configure("DEBUG", _Log(report))
    try:
        server.wait_until_up()
        workers = _workers(server)
        kinds = [(_requests(fuzz, report, app), "self", 0.45), (_sockets(fuzz, report, server), workers[0], 0.35)]
        kinds += [(_texts(fuzz, report), "self", 0.1), (_hashes(fuzz, report), "self", 0.1)]
        for one, pid, share in kinds:
            for half in range(2):
                before, until = _resident(pid), time.monotonic() + seconds * share / 2
                while time.monotonic() < until:
                    one()
                if half and (grown := _resident(pid) - before) > _GROWTH_MAX:
                    report.fail("memory grows", f"{grown} KiB in {one.__qualname__}")
        if not server.answers() or _workers(server) != workers:
            report.fail("a worker has ended", server.errors)
        check_log(server.log, report)
    finally:
        server.kill()
        close(app)
    return report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None, help="the same seed, the same inputs")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.seconds, seed, Path(folder))
    for lines in (report.tried, report.outcomes):
        for what, count in sorted(lines.items()):
            print(f"{count:>9,}  {what}")
    print(f"{report.tried.total():>9,}  in all; seed {seed}")
    for failure in report.failures:
        print(failure)
    return 1 if report.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Log lines."""

import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from authsvc import logs
from authsvc.events import Event
from tests.conftest import Authenticator, Clock, Commands, Log, MakeApp, World
from tests.databases import PASSWORD, SECRET_KEY, Databases
from tests.dialects import Auth, Console, in_process
from tests.doors import Door

Query = Callable[..., list[Any]]


def test_a_line_is_one_json_object(log: Log) -> None:
    """With time (UTC), level, event and what belongs to it; absent fields are left out."""
    before = datetime.now(UTC).replace(microsecond=0)
    logs.audit(Event.LOGIN_REFUSED, cause="unknown_account")
    (line,) = log.lines()
    assert list(line) == ["time", "level", "event", "cause"]
    assert line | {"time": ""} == {"time": "", "level": "WARNING", "event": "login.refused", "cause": "unknown_account"}
    assert datetime.fromisoformat(line["time"]) >= before
    assert line["time"].endswith("+00:00")


def test_nobodys_input_forges_a_line(auth: Auth, log: Log) -> None:
    """Whatever a caller sends, a request has its own lines and no others."""
    forged = '\n{"event": "login.succeeded"}\r\n\u2028'
    auth.call("GET", "/verify%0a%7b%22event%22:%20%22logout%22%7d", headers={"User-Agent": "x"})
    auth.login(forged, PASSWORD, headers={"X-Request-ID": "a" * 65})
    logs.notice("x", value=forged)
    assert [line["event"] for line in log.lines()] == ["request", "request", "x"]
    assert log.text.isascii()


class Disk(io.StringIO):
    """Tells each write from the next; full, it takes nothing."""

    def __init__(self, *, full: bool) -> None:
        super().__init__()
        self.full = full
        self.written: list[str] = []

    def write(self, text: str) -> int:
        """Write, or not."""
        if self.full:
            raise OSError
        self.written.append(text)
        return len(text)


def test_a_line_is_written_in_one_piece(auth: Auth, log: Log) -> None:
    """Or else lines of threads and workers would mix."""
    disk = Disk(full=False)
    logs.configure("INFO", disk)
    auth.login("user", PASSWORD)
    assert [json.loads(line)["event"] for line in disk.written] == ["login.succeeded", "request"]
    assert {line[-1] for line in disk.written} == {"\n"}
    assert log.text == ""


def test_a_line_that_cannot_be_written_is_lost(auth: Auth, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    """The request is answered, and nothing is shown elsewhere."""
    logs.configure("INFO", Disk(full=True))
    assert auth.login("user", PASSWORD).status == 200
    assert (log.text, *capsys.readouterr()) == ("", "", "")


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_the_level_is_where_our_lines_begin(level: str, log: Log) -> None:
    """The libraries' begin at WARNING: below it they tell what they handle."""
    stream = io.StringIO()
    logs.configure(level, stream)
    for name in ("authsvc", "sqlalchemy.engine"):
        for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logging.getLogger(name).log(each, name)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert next(line["level"] for line in lines if line["event"] == "authsvc") == level
    assert [line["level"] for line in lines if line["event"] != "authsvc"] == ["WARNING", "ERROR", "CRITICAL"]
    assert log.text == ""


def test_an_error_is_told_without_its_message(log: Log) -> None:
    """Types and places, causes included: messages may quote what a caller or a row held."""
    try:
        try:
            int(PASSWORD)
        except ValueError as error:
            raise RuntimeError(PASSWORD) from error
    except RuntimeError:
        logs.failed("request.failed")
    (line,) = log.lines()
    assert [part for part in line["error"] if "." not in part] == ["RuntimeError", "ValueError"]
    assert any("test_logs.py" in part for part in line["error"])
    assert PASSWORD not in log.text


# What is logged of what happens


@pytest.mark.parametrize(
    ("key", "password", "cause", "account_id"),
    [
        ("nobody", PASSWORD, "unknown_account", None),
        ("user", "wrong", "wrong_password", 2),
        ("2", "wrong", "wrong_password", 2),
        ("off", "wrong", "wrong_password", 3),
        ("off", PASSWORD, "account_disabled", 3),
    ],
)
def test_a_refused_login_is_logged_with_its_true_cause(
    key: str, password: str, cause: str, account_id: int | None, console: Console, command: Commands, log: Log
) -> None:
    """The operator learns what the caller does not."""
    command("account", "add", "off", "--password-stdin", stdin=PASSWORD)
    command("account", "disable", "off")
    console.login(key, password)
    (line,) = log.lines("login.refused", "login.succeeded")
    assert (line["event"], line["cause"], line.get("account_id")) == ("login.refused", cause, account_id)
    assert line["address"] == "127.0.0.1"


def test_a_refused_code_is_logged_with_its_cause(door: Door, authenticator: Authenticator, log: Log) -> None:
    """Missing or wrong, and whose it was: somebody knows the password."""
    for code in (None, authenticator.wrong_code()):
        door(PASSWORD, code=code)
    lines = log.lines("login.refused")
    assert [(line["cause"], line["account_id"]) for line in lines] == [("code_required", 2), ("wrong_code", 2)]


@pytest.mark.parametrize("leave", [Auth.logout, Console.exit])
def test_logins_and_logouts_are_logged(leave: Callable[[Any, str], object], world: World, log: Log) -> None:
    """In either dialect, each with its account."""
    token = world.auth.token("user", PASSWORD)
    leave(world.auth if leave is Auth.logout else world.console, token)
    lines = log.lines("login.succeeded", "logout")
    assert [(line["event"], line["account_id"]) for line in lines] == [("login.succeeded", 2), ("logout", 2)]


def test_the_lines_of_a_request_share_its_id(console: Console, log: Log) -> None:
    """What was done for a request can be found by the id that its caller got."""
    answer = console.login("user", PASSWORD)
    assert [(line["event"], line["request_id"]) for line in log.lines()] == [
        (event, answer.headers["X-Request-ID"]) for event in ("login.succeeded", "request")
    ]


def test_no_secret_is_ever_logged(
    make_app: MakeApp, databases: Databases, query: Query, clock: Clock, log: Log
) -> None:
    """No password, token, key, hash or query string, whatever goes well or wrong and however talkative the log."""
    app = make_app(AUTHSVC_LOG_LEVEL="DEBUG")
    auth, console = Auth(in_process(app)), Console(in_process(app))
    wrong = "a-wrong-password"
    token = auth.token("user", PASSWORD)
    for dialect, path in ((auth, "/login"), (console, "/doLogin")):
        for password in (PASSWORD, wrong, f"{wrong}%ff", wrong * 20):
            name = dialect.name_parameter
            dialect.call("GET", f"{path}?{name}=user&password={password}&query=secretquery")
            dialect.call("POST", path, form={name: password, "password": password})
    for sent in (token, token[:-1], token * 2):
        auth.verify(sent)
        auth.call("GET", f"/nosuch/?satoken={sent}")
        auth.call("PUT", f"/verify?satoken={sent}", headers={"Authorization": f"Bearer {sent}"})
    query("UPDATE account SET password_hash = 'pbkdf2:sha256:x$secrethash$00' WHERE name = 'user'")
    auth.login("user", PASSWORD)
    query("ALTER TABLE session RENAME TO gone")
    clock.advance(60)
    auth.verify(token)
    auth.login("admin", PASSWORD)
    away = Auth(in_process(make_app(AUTHSVC_DATABASE_URL=databases.empty())))
    away.login(PASSWORD, wrong)
    assert log.text.count("\n") > 20
    hashes = [row[0] for row in query("SELECT password_hash FROM account")]
    secrets = [PASSWORD, wrong, token, token[:40], SECRET_KEY, "secretquery", "secrethash", "satoken=", *hashes]
    assert [secret for secret in secrets if secret in log.text] == []


# What attackers send, and what assessors look for


def longest(log: Log) -> int:
    """Bytes of the longest line."""
    return max(len(line.encode()) for line in log.text.splitlines())


@pytest.mark.parametrize(
    "environ",
    [
        {"REQUEST_METHOD": "X" * 300_000},
        {"PATH_INFO": "/" + "x" * 2_000},
        {"PATH_INFO": "/" + "\xff" * 60_000},
        {"PATH_INFO": "/" + "\U0001f4a9".encode().decode("latin-1") * 20_000},
        {"PATH_INFO": "/" + "\x00\x1b" * 20_000},
        {"HTTP_X_REQUEST_ID": "x" * 64, "HTTP_USER_AGENT": "\x1b" * 60_000, "HTTP_HOST": "h" * 60_000},
    ],
    ids=["method", "path", "bytes", "beyond ASCII", "controls", "headers"],
)
def test_no_request_makes_a_line_longer_than_8_kib(environ: dict[str, str], make_app: MakeApp, log: Log) -> None:
    """Whatever is long about it; the line is still one JSON object that tells its event."""
    run_wsgi_app(make_app(), EnvironBuilder("/nosuch").get_environ() | environ, buffered=True)
    (line,) = log.lines("request")
    assert longest(log) <= 8192
    assert (line["address"], len(line["method"]) <= 32, len(line["path"]) <= 500) == ("unknown", True, True)


def test_no_field_makes_a_line_longer_than_8_kib(log: Log) -> None:
    """Nor does an error of which there is no end."""
    logs.notice("x", value="\U0001f4a9" * 100_000, **{f"field{number}": "é" * 500 for number in range(5)})
    try:
        _deep(400)
    except ValueError:
        logs.failed("request.failed")
    assert [line["event"] for line in log.lines()] == ["x", "request.failed"]
    assert longest(log) <= 8192


def _deep(levels: int) -> None:
    try:
        if levels:
            _deep(levels - 1)
        raise ValueError  # noqa: TRY301 - each with the last one as its cause
    except ValueError as error:
        raise ValueError from error


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_audit_events_are_logged_at_every_level(level: str, world: World, log: Log) -> None:
    """Whoever wants less noise does not lose who logged in; other lines follow the level."""
    logs.configure(level, log._stream)
    token = world.auth.token("user", PASSWORD)
    world.auth.verify(token, "nosuch")
    world.auth.login("user", "wrong")
    world.auth.logout(token)
    lines = log.lines("login.succeeded", "permission.refused", "login.refused", "logout")
    assert [(line["event"], line["level"]) for line in lines] == [
        ("login.succeeded", "INFO"),
        ("permission.refused", "WARNING"),
        ("login.refused", "WARNING"),
        ("logout", "INFO"),
    ]
    assert bool(log.lines("request")) == (level in {"DEBUG", "INFO"})


@pytest.mark.parametrize("who", ["user", "admin"])
def test_a_session_that_a_login_ends_is_logged(who: str, world: World, log: Log) -> None:
    """Whose it was, too: the token that came along may be another account's."""
    token = world.auth.token(who, PASSWORD)
    world.console.login("user", PASSWORD, token=token)
    (line,) = log.lines("session.ended")
    assert (line["account_id"], line["cause"], line["count"]) == ({"user": 2, "admin": 1}[who], "login.succeeded", 1)
    world.auth.login("user", PASSWORD, token=token)  # it is dead by now
    assert len(log.lines("session.ended")) == 1


def test_a_refused_permission_is_logged(world: World, log: Log) -> None:
    """Who lacked which."""
    world.auth.verify(world.auth.token("user", PASSWORD), "in-system")
    (line,) = log.lines("permission.refused")
    assert (line["level"], line["account_id"], line["permission"]) == ("WARNING", 2, "in-system")


def test_a_login_is_logged_with_its_factors(
    door: Door, authenticator: Authenticator, log: Log, command: Commands
) -> None:
    """The password alone, or with which kind of code; never the code."""
    codes = [authenticator.code(), authenticator.recovery_codes[0]]
    for code in codes:
        door(PASSWORD, code=code)
    command("account", "otp", "user", "--off")
    door(PASSWORD)
    factors = [line["factors"] for line in log.lines("login.succeeded")]
    assert factors == [["password", "one_time_code"], ["password", "recovery_code"], ["password"]]
    assert [code for code in codes if code in log.text] == []


def test_a_changed_password_is_logged(auth: Auth, token: str, log: Log) -> None:
    """With the sessions that it ended."""
    auth.call("POST", "/password", form={"password": PASSWORD, "new_password": "another-password"}, token=token)
    lines = log.lines("password.changed", "session.ended")
    assert [(line["event"], line["account_id"], line.get("cause")) for line in lines] == [
        ("password.changed", 2, None),
        ("session.ended", 2, "password.changed"),
    ]

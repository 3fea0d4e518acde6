"""Fixtures that turn tests into sentences: `auth.login("user", PASSWORD)`, `console.info(token)`, `clock.advance(60)`.

A behavioural test gets everything from `database_url`, directly or not, and thereby runs on every database there is.
"""

import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pyotp
import pytest
from click.testing import Result
from flask import Flask
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text

from authsvc import create_app, logs
from authsvc.config import load
from authsvc.passwords import Passwords
from tests.databases import (
    NOW,
    PASSWORD,
    SECRET_KEY,
    Databases,
    PostgresDatabases,
    SqliteDatabases,
    cheap_passwords,
    close,
)
from tests.description import described
from tests.dialects import Auth, Console, in_process
from tests.doors import Door, door_of
from tests.hashers import WatchedHasher
from tests.postgres import running_postgres
from tests.servers import Server

_LEFT_OUT = pytest.StashKey[int]()

settings.register_profile(
    "suite",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=60,
    # Each example asks the same application, which is what a service is: nothing of one request may reach the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


# What is left out


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the one marker there is."""
    config.addinivalue_line("markers", "pgbouncer: needs PgBouncer, which is no Python package")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without PgBouncer, leave out what needs it."""
    if shutil.which("pgbouncer") is None:
        left_out = [item for item in items if item.get_closest_marker("pgbouncer")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[_LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if count := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(
            f"Left out: {count} tests behind PgBouncer, which is not installed (.ci/run has it)"
        )


# Databases


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """SQLite files."""
    return SqliteDatabases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Databases]:
    """Databases on the server at AUTHSVC_TEST_DATABASE_URL or, without one, on one started for the tests."""
    with ExitStack() as stack:
        url = os.environ.get("AUTHSVC_TEST_DATABASE_URL") or stack.enter_context(running_postgres()).url()
        databases = PostgresDatabases(url)
        stack.callback(databases.close)
        yield databases


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """The databases of one kind; each kind is a parameter here and a fixture of that name."""
    return cast(Databases, request.getfixturevalue(request.param))


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A database of this test's own, with `admin` and `user` in it."""
    url = databases.copy()
    yield url
    databases.drop(url)


@pytest.fixture
def query(database_url: str) -> Iterator[Callable[..., list[Any]]]:
    """Looks into, and spoils, this test's database behind the service's back."""
    engine = create_engine(load({"AUTHSVC_DATABASE_URL": database_url, "AUTHSVC_SECRET_KEY": SECRET_KEY}).database_url)

    def run(statement: str, **values: object) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    yield run
    engine.dispose()


# The application, in this process


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it; back, too."""
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """The clock of the application under test."""
    return Clock(NOW)


class MakeApp(Protocol):
    """Builds an application on this test's database; settings are named as in the environment."""

    def __call__(self, passwords: Passwords | None = None, **settings: str) -> Flask:
        """Return the application."""


@pytest.fixture
def make_app(database_url: str, clock: Clock) -> Iterator[MakeApp]:
    """Builds applications, one test's replicas."""
    apps = []

    def make(passwords: Passwords | None = None, **settings: str) -> Flask:
        environ = {"AUTHSVC_DATABASE_URL": database_url, "AUTHSVC_SECRET_KEY": SECRET_KEY, **settings}
        apps.append(create_app(load(environ), passwords or cheap_passwords(), clock))
        return apps[-1]

    yield make
    for app in apps:
        close(app)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """The application with its default settings."""
    return make_app()


@pytest.fixture
def auth(app: Flask) -> Auth:
    """The `/api/auth` dialect of the application; every answer must be as described."""
    return Auth(described(in_process(app)))


@pytest.fixture
def console(app: Flask) -> Console:
    """The `/AccAdmin` dialect of the application; every answer must be as described."""
    return Console(described(in_process(app)))


@pytest.fixture
def door(app: Flask) -> Door:
    """Where to try passwords, in both dialects by turns."""
    return door_of(app)


@pytest.fixture
def hasher() -> Iterator[WatchedHasher]:
    """A hasher to be watched; whatever it still holds up goes on when the test ends."""
    hasher = WatchedHasher()
    yield hasher
    hasher.let_go()


@pytest.fixture
def token(auth: Auth) -> str:
    """The token of a live session of `user`."""
    return auth.token("user", PASSWORD)


class Commands:
    """The administrator's command line."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run one command, which must succeed; return what it prints."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Run one command and return the JSON it prints."""
        return json.loads(self(*arguments, "--json"))

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """Run one command, which must fail with status 1 and one line; return that line."""
        result = self.run(*arguments, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        return line.removeprefix("Error: ")

    def run(self, *arguments: str, stdin: str = "") -> Result:
        """Run one command."""
        # `flask` itself has the application's context around its commands, the test runner has not.
        with _logging_preserved(), self._app.app_context():
            return self._app.test_cli_runner().invoke(args=arguments, input=stdin, prog_name="flask")


@pytest.fixture
def command(app: Flask) -> Commands:
    """`flask ...`."""
    return Commands(app)


@dataclass(frozen=True)
class World:
    """All that a situation may need to come about."""

    auth: Auth
    console: Console
    clock: Clock
    command: Commands


@pytest.fixture
def world(auth: Auth, console: Console, clock: Clock, command: Commands) -> World:
    """The application and everything around it."""
    return World(auth, console, clock, command)


class Authenticator:
    """The owner's app with the seed of `user`, and the recovery codes."""

    def __init__(self, enrolment: Mapping[str, Any], clock: Clock) -> None:
        self.seed: str = enrolment["secret"]
        self.recovery_codes: list[str] = enrolment["recovery_codes"]
        self._totp, self._clock = pyotp.TOTP(self.seed), clock

    def code(self, steps: int = 0) -> str:
        """The code of now, or of so many steps later."""
        return self._totp.at(int(self._clock()) + 30 * steps)

    def wrong_code(self) -> str:
        """A code that is not, was not and will not be right for a while."""
        near = {self.code(steps) for steps in range(-50, 50)}
        return next(code for code in ("000000", *map(str, range(100_000, 200_000))) if code not in near)


@pytest.fixture
def authenticator(command: Commands, clock: Clock) -> Authenticator:
    """Two-step verification is on for `user`."""
    return Authenticator(command.json("account", "otp", "user"), clock)


# Logs


class Log:
    """What was logged during a test."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All of it."""
        return self._stream.getvalue()

    def lines(self, *events: str) -> list[dict[str, Any]]:
        """The lines that report one of `events`, or all."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if not events or line["event"] in events]


@pytest.fixture
def log() -> Iterator[Log]:
    """The log, at its most talkative."""
    with _logging_preserved():
        stream = io.StringIO()
        logs.configure("DEBUG", stream)
        logs.bind(None)  # the requests of this thread's earlier tests are over
        yield Log(stream)


@contextmanager
def _logging_preserved() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("authsvc")
    handlers, levels, stream = list(root.handlers), (root.level, ours.level), logs._handler.stream
    root.handlers.clear()
    yield
    logs._handler.setStream(stream)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


# The service in processes of its own


class StartServer(Protocol):
    """Starts a server and returns when it answers."""

    def __call__(self, database_url: str, **settings: str) -> Server:
        """Return the running server; its settings are named as in the environment."""


@contextmanager
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers; whatever happens, they end with the block."""
    started: list[Server] = []

    def start(database_url: str, **settings: str) -> Server:
        started.append(Server(tmp_path_factory.mktemp("server"), database_url, **settings))
        return started[-1].wait_until_up()

    try:
        yield start
    finally:
        for server in started:
            server.kill()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers of this test's own; whatever happens, they end with it."""
    with servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that many tests share: they leave its accounts as they found them."""
    with servers(tmp_path_factory) as start:
        yield start(databases.copy(), AUTHSVC_WORKERS="2")

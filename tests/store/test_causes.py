"""Why a database cannot be worked with: asked of real servers, each wrong in one way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc import create_app
from authsvc.config import load
from authsvc.store import causes
from tests.conftest import Log
from tests.databases import SECRET_KEY, cheap_passwords, close
from tests.dialects import in_process
from tests.postgres import Postgres, running_postgres
from tests.servers import free_port

SECRET = "hunter2-the-second"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server that asks for passwords."""
    with running_postgres() as server:
        server.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'")
        server.execute("CREATE ROLE full_up LOGIN CONNECTION LIMIT 0")
        server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        server.execute("CREATE DATABASE closed")
        server.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        server.configure_access("host all app 127.0.0.1/32 scram-sha-256\nhost all rejected 127.0.0.1/32 reject\n")
        yield server


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("postgresql://app:wrong-{secret}@127.0.0.1:{port}/postgres", causes.LOGIN),
        ("postgresql://app@127.0.0.1:{port}/postgres", causes.LOGIN),
        ("postgresql://nosuch:{secret}@127.0.0.1:{port}/postgres", causes.LOGIN),
        ("postgresql://rejected:{secret}@127.0.0.1:{port}/postgres", "the role may not connect to it"),
        ("postgresql://app:{secret}@127.0.0.1:{port}/closed", "the role may not connect to it"),
        ("postgresql://app:{secret}@127.0.0.1:{port}/nosuch", "there is no database of this name"),
        ("postgresql://full_up@127.0.0.1:{port}/postgres", causes.FULL),
        ("postgresql://app:{secret}@127.0.0.1:{port}/latin", causes.ENCODING),
        ("postgresql://app:{secret}@127.0.0.1:{port}/postgres", causes.TABLES),
        (
            "postgresql://app:{secret}@127.0.0.1:{port}/postgres?sslmode=require",
            "TLS cannot be agreed on, or a certificate is not trusted",
        ),
        (
            "postgresql://app:{secret}@127.0.0.1:{port}/postgres?sslmode=nonsense",
            "a parameter of its URL has an unknown value",
        ),
        ("postgresql://app:{secret}@127.0.0.1:{nobody}/postgres", "nobody listens at its address"),
        ("postgresql://app:{secret}@/postgres?host=/nonexistent", "nobody listens at its address"),
        ("postgresql://app:{secret}@no.such.host.invalid/postgres", "its host's name is unknown"),
        ("sqlite:////proc/nonexistent/authsvc.db", "its file is not there, or cannot be opened"),
        ("sqlite:///{damaged}", "its file is damaged, or no database"),
    ],
)
def test_each_failure_has_its_phrase(url: str, cause: str, postgres: Postgres, tmp_path: Path, log: Log) -> None:
    """The same at /readyz and in the log, and nothing of the URL with it."""
    (tmp_path / "damaged").write_text("This is no database. " * 100)
    url = url.format(secret=SECRET, port=postgres.port, nobody=free_port(), damaged=tmp_path / "damaged")
    app = create_app(load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}), cheap_passwords())
    send = in_process(app)
    assert send("GET", "/readyz", {}, b"").json["reason"] == f"The database does not answer: {cause}."
    assert (
        send("POST", "/api/auth/login", {"Content-Type": "application/json"}, b'{"username":"a","password":"b"}').status
        == 503
    )
    lines = log.lines("request", "request.failed")
    assert {line["cause"] for line in lines if "cause" in line} == {f"unavailable: {cause}"}
    assert SECRET not in log.text
    close(app)


class DriverError(Exception):
    """What a driver raises."""

    def __init__(self, text: str = "", **codes: str | None) -> None:
        super().__init__(text)
        vars(self).update(codes)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DriverError(sqlstate="57014"), causes.SLOW),
        (DriverError(sqlstate="53100"), "its disk is full"),
        (DriverError(sqlite_errorname="SQLITE_BUSY"), causes.WRITER),
        (DriverError(sqlite_errorname="SQLITE_BUSY_SNAPSHOT"), causes.WRITER),
        (DriverError(sqlite_errorname="SQLITE_IOERR_WRITE"), "its disk cannot be read or written"),
        (DriverError("No Such Table: account", sqlite_errorname="SQLITE_ERROR"), causes.TABLES),
        (DriverError("the database system is Starting Up", sqlstate="57P03"), "it is starting or stopping"),
        (
            DriverError("terminating connection due to administrator command", sqlstate="57P01"),
            "it ended the connection",
        ),
        (DriverError("connection is lost", sqlstate=None), "it ended the connection"),
        (DriverError("connection timeout expired"), causes.SILENT),
        # It tells of a row, not of the database: its text may say anything.
        (DriverError("timeout", sqlstate="23505"), None),
        (DriverError("whatever", sqlstate="57P05"), None),
        (DriverError("whatever"), None),
    ],
)
def test_a_code_says_more_than_a_text(error: Exception, cause: str | None) -> None:
    """Texts count where there is no code, or one that is met in connecting."""
    assert causes.known_cause(error) == cause

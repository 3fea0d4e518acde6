"""Behind PgBouncer, with the very lines of deploy/README.md. Left out where the machine has no PgBouncer."""

import os
import re
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import StartServer, servers
from tests.databases import PASSWORD, fill
from tests.deployment import blocks
from tests.dialects import Auth
from tests.postgres import Postgres, running_pair, running_postgres
from tests.servers import Server, free_port, wait_for
from tests.test_failover import hand_over
from tests.wire import wire_to

pytestmark = pytest.mark.pgbouncer

POOLINGS = ["transaction", "session"]
(LINES,), (STATEMENTS,) = (blocks(language, "PgBouncer") for language in ("ini", "sql"))
_NOBODY = 65534


@contextmanager
def pgbouncer(port: int, pooling: str = "transaction", lines: str = LINES) -> Iterator[str]:
    """A pooler before the server at this port, configured as the README says; yields the URL of the database."""
    configured = lines.replace("host=postgres", f"host=127.0.0.1 port={port}")
    configured = configured.replace("pool_mode = transaction", f"pool_mode = {pooling}")
    own_port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101
        (Path(folder) / "users").write_text('"authsvc" ""\n')
        machine = f"listen_addr = 127.0.0.1\nlisten_port = {own_port}\nunix_socket_dir =\nauth_type = trust\n"
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(f"{configured}{machine}auth_file = {folder}/users\nadmin_users = authsvc\n")
        with (Path(folder) / "log").open("wb") as log:
            # It refuses to run as root.
            user = _NOBODY if os.geteuid() == 0 else None
            process = subprocess.Popen(["pgbouncer", file], user=user, group=user, stdout=log, stderr=log)
        try:
            wait_for(lambda: accepts(own_port) or process.poll() is not None)
            assert process.poll() is None, (Path(folder) / "log").read_text()
            yield f"postgresql://authsvc@127.0.0.1:{own_port}/authsvc"
        finally:
            process.kill()
            process.wait()


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def create(postgres: Postgres, *, settings: bool = True) -> None:
    """The role and the database that the README speaks of, the database filled."""
    postgres.execute("CREATE ROLE authsvc LOGIN")
    postgres.execute("CREATE DATABASE authsvc OWNER authsvc")
    if settings:
        postgres.execute(STATEMENTS)
    fill(f"postgresql://authsvc@127.0.0.1:{postgres.port}/authsvc")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server with the README's role and database."""
    with running_postgres() as server:
        create(server)
        yield server


@pytest.fixture(scope="module", params=POOLINGS)
def pooled(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """The database's URL through a pooler, of either kind."""
    with pgbouncer(postgres.port, request.param) as url:
        yield url


@pytest.fixture(scope="module")
def service(pooled: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows the pooler only."""
    with servers(tmp_path_factory) as start:
        yield start(pooled, AUTHSVC_WORKERS="2")


def readiness(server: Server) -> Any:
    """What /readyz says."""
    return server.send("GET", "/readyz", {}, b"").json


def warned(server: Server) -> set[str]:
    """What it has warned of at start."""
    wait_for(lambda: '"database.ready"' in server.log)
    risks = [line["risk"] for line in server.log_lines if line["event"] == "setting.risky"]
    return {what for risk in risks for what in ("prepared statements", "time-outs") if what in risk}


def test_all_that_it_does_works(service: Server) -> None:
    """Many at once, often enough that statements would be prepared: nobody gets another's answer, nobody an error."""

    def visit(name: str) -> tuple[object, ...]:
        token = service.auth.token(name, PASSWORD)
        checks = [service.auth.verify(token) for _ in range(5)]
        wrong = service.auth.login(name, "wrong password").status
        return {answer.data["username"] for answer in checks}, wrong, service.auth.logout(token).status

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(visit, ["admin", "user"] * 2))
    assert found == [({name}, 403, 200) for name in ("admin", "user")] * 2
    answers = Counter(line["status"] for line in service.log_lines if line["event"] == "request")
    assert set(answers) == {200, 403}


def test_a_locked_account_stops_no_check(service: Server, postgres: Postgres) -> None:
    """The time-outs are in force: logins to it are refused and give their connections back, sessions go on."""
    token = service.auth.token("admin", PASSWORD)
    with psycopg.connect(postgres.url("authsvc")) as somebody, ThreadPoolExecutor(24) as callers:
        somebody.execute("SELECT FROM account WHERE name = 'user' FOR UPDATE")
        refused = [callers.submit(service.auth.login, "user", PASSWORD) for _ in range(20)]
        checks = callers.map(service.auth.verify, [token] * 40)
        assert {answer.status for answer in checks} == {200}
        assert {login.result().status for login in refused} == {503}


def test_a_restarted_database_is_found_again(service: Server, postgres: Postgres) -> None:
    """Nobody restarts the pooler or the service."""
    token = service.auth.token("admin", PASSWORD)
    postgres.stop()
    assert service.auth.verify(token).status == 503
    postgres.start()
    wait_for(lambda: service.auth.verify(token).status == 200)


def test_the_start_warns_of_nothing(pooled: str, start_server: StartServer) -> None:
    """With the README's lines the time-outs are in force, and statements are not prepared."""
    assert warned(start_server(pooled)) == set()


def test_statements_can_be_prepared_in_session_pooling(postgres: Postgres, start_server: StartServer) -> None:
    """The URL says so, and nothing is left to warn of."""
    with pgbouncer(postgres.port, "session") as url:
        assert warned(start_server(f"{url}?prepare_threshold=5")) == set()


def test_the_start_warns_where_prepared_statements_cannot_work(postgres: Postgres, start_server: StartServer) -> None:
    """A pooler that does not know of them, in transaction pooling, and a URL that wants them."""
    lines = LINES + "max_prepared_statements = 0\n" * (version() >= (1, 21))
    with pgbouncer(postgres.port, lines=lines) as url:
        assert warned(start_server(f"{url}?prepare_threshold=5")) == {"prepared statements"}


def version() -> tuple[int, int]:
    """That of the pooler."""
    told = subprocess.run(["pgbouncer", "--version"], check=True, capture_output=True, text=True).stdout
    major, minor = re.findall(r"[0-9]+", told)[:2]
    return int(major), int(minor)


def test_the_start_warns_where_time_outs_are_not_in_force(start_server: StartServer) -> None:
    """The pooler ignores ours, and nobody has given them to the role."""
    with running_postgres() as server:
        create(server, settings=False)
        with pgbouncer(server.port) as url:
            assert warned(start_server(url)) == {"time-outs"}


def test_a_pooler_that_is_not_told_to_ignore_them_is_named(postgres: Postgres, start_server: StartServer) -> None:
    """/readyz and the log say which parameter it refuses, and where to read on."""
    lines = LINES.replace("ignore_startup_parameters = options\n", "")
    with pgbouncer(postgres.port, lines=lines) as url:
        server = start_server(url)
        cause = "the pooler refuses the parameter `options` (see deploy/README.md)"
        assert readiness(server) == {"status": "not ready", "reason": f"The database does not answer: {cause}."}
        assert f'"cause": "unavailable: {cause}"' in server.log


def test_a_demoted_primary_gives_no_verdict(start_server: StartServer) -> None:
    """The pooler's name for the server leads to it still, and our connections to the pooler live on."""
    with ExitStack() as stack:
        primary, standby = stack.enter_context(running_pair())
        create(primary)
        wire = stack.enter_context(wire_to(primary.port))
        server = start_server(stack.enter_context(pgbouncer(wire.server_address[1])))
        ended, live = server.auth.token("user", PASSWORD), server.auth.token("user", PASSWORD)
        hand_over((primary, standby))
        standby.execute("DELETE FROM session WHERE id_hash = (SELECT min(id_hash) FROM session)", "authsvc")
        for token in (ended, live):
            assert server.auth.verify(token).status == 503
        assert server.auth.login("user", PASSWORD).status == 503
        assert readiness(server)["reason"] == "The database does not answer: no server that was reached is the primary."
        wire.port_there = standby.port
        wait_for(lambda: server.auth.login("user", PASSWORD).status == 200)
        assert {Auth.verdict(server.auth.verify(token)) for token in (ended, live)} == {
            (200, None), (401, "Token is revoked.")
        }  # fmt: skip

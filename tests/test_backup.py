"""Back up under load, destroy, restore, log in: with the commands of deploy/README.md, on both databases."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.databases import PASSWORD
from tests.postgres import Postgres, running_postgres
from tests.refusals import TOKEN_REVOKED
from tests.servers import ROOT, Server, wait_for

SECTION = (ROOT / "deploy/README.md").read_text("utf-8").partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def block(word: str) -> str:
    """The one block of commands with this word in it."""
    (found,) = (each for each in BLOCKS if word in each)
    return str(found)


SQLITE_BACKUP, SQLITE_RESTORE = block("instance/authsvc.db.key backup/"), block("backup/authsvc.db.key instance/")
POSTGRES_BACKUP, POSTGRES_RESTORE = block("pg_dump"), block("pg_restore")


def run(commands: str, folder: Path, **environ: str) -> None:
    """Run commands as somebody at a terminal in `folder`; one that fails ends it."""
    subprocess.run(
        ["/bin/sh", "-euc", commands], cwd=folder, env={**os.environ, **environ}, check=True, timeout=60, umask=0o022
    )


@contextmanager
def logins(server: Server) -> Iterator[list[str]]:
    """Somebody logs in all the time; the tokens, in their order."""
    tokens: list[str] = []
    over: list[bool] = []

    def log_in() -> None:
        while not over:
            tokens.append(server.auth.token("admin", PASSWORD))

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(log_in) for _ in range(2)]
        try:
            wait_for(lambda: len(tokens) >= 5)
            yield tokens
        finally:
            over.append(True)
    for each in running:
        each.result()


def back_up_under_load(server: Server, back_up: Callable[[], None]) -> tuple[list[str], str]:
    """The tokens from before the backup, and one from after it."""
    with logins(server) as tokens:
        before = list(tokens)
        back_up()
        # Two of them may have begun before it ended.
        done = len(tokens)
        wait_for(lambda: len(tokens) >= done + 3)
    return before, tokens[-1]


def check(server: Server, before: list[str], after: str) -> None:
    """All is as it was at the backup: nobody who was logged in is logged out, and nothing newer is left."""
    wait_for(lambda: server.send("GET", "/readyz", {}, b"").status == 200)
    assert {server.auth.verify(token).status for token in before} == {200}
    assert server.auth.verdict(server.auth.verify(after)) == (401, TOKEN_REVOKED.reason)
    assert server.auth.login("admin", PASSWORD).status == 200


def test_sqlite_comes_back(tmp_path: Path) -> None:
    """Also beside the write-ahead log of the database that was destroyed, which would bring newer rows back."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    # As an operator has it who sets nothing: the database and its key are made in instance/.
    settings = {"database_url": "", "AUTHSVC_SECRET_KEY": "", "AUTHSVC_ADMIN_PASSWORD": PASSWORD}
    server = Server(tmp_path, **settings).wait_until_up()
    try:
        before, after = back_up_under_load(server, lambda: run(SQLITE_BACKUP, tmp_path))
    finally:
        server.kill()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backup").iterdir()} == {0o600}
    database = tmp_path / "instance/authsvc.db"
    assert database.with_name("authsvc.db-wal").stat().st_size
    database.write_bytes(b"no database")
    (tmp_path / "instance/authsvc.db.key").unlink()
    run(SQLITE_RESTORE, tmp_path)
    server = Server(tmp_path, **settings).wait_until_up()
    try:
        check(server, before, after)
    finally:
        server.kill()


DOCKER = """#!/bin/sh
# docker compose exec -T postgres PROGRAM ARGUMENT..., where PostgreSQL is no container
[ "$1 $2 $3 $4" = "compose exec -T postgres" ] && shift 4 && program=$1 && shift && exec "$PROGRAMS/$program" "$@"
"""


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL with the role and the database that compose.yaml makes."""
    with running_postgres() as server:
        server.execute("CREATE ROLE authsvc LOGIN")
        server.execute("CREATE DATABASE authsvc OWNER authsvc")
        yield server


def test_postgresql_comes_back(postgres: Postgres, tmp_path: Path) -> None:
    """With two replicas, which are stopped and started where the commands say so."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PROGRAMS": str(postgres.programs),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
    }
    url = f"postgresql://authsvc@127.0.0.1:{postgres.port}/authsvc"
    folders = [tmp_path / "authsvc-1", tmp_path / "authsvc-2"]
    for folder in folders:
        folder.mkdir()

    def start() -> list[Server]:
        return [Server(folder, url, AUTHSVC_ADMIN_PASSWORD=PASSWORD) for folder in folders]

    replicas = start()
    try:
        for server in replicas:
            server.wait_until_up()
        before, after = back_up_under_load(replicas[0], lambda: run(POSTGRES_BACKUP, tmp_path, **environ))
        assert stat.S_IMODE((tmp_path / "authsvc.dump").stat().st_mode) == 0o600
        postgres.execute("DROP TABLE session CASCADE", "authsvc")
        for command in POSTGRES_RESTORE.splitlines():
            if command == "docker compose stop authsvc-1 authsvc-2":
                assert [server.stop() for server in replicas] == [0, 0]
            elif command == "docker compose start authsvc-1 authsvc-2":
                replicas = start()
            else:
                run(command, tmp_path, **environ)
        for server in replicas:
            check(server.wait_until_up(), before, after)
    finally:
        for server in replicas:
            server.kill()

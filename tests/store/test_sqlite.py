"""What SQLite leaves in its folder: while it runs, after a stop, in a backup."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.databases import PASSWORD
from tests.deployment import blocks
from tests.dialects import Auth
from tests.servers import Server, wait_for

BACKUP, RESTORE = blocks("", "Backup and restore")[:3:2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder as an operator has it, before the first start."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def service(project: Path, start_server: StartServer) -> Server:
    """A service there, with the key that it made itself."""
    return start_server(url(project), AUTHSVC_SECRET_KEY="", AUTHSVC_WORKERS="2", AUTHSVC_ADMIN_PASSWORD=PASSWORD)


def url(project: Path) -> str:
    """The address of its database."""
    return f"sqlite:///{project}/instance/authsvc.db"


def operate(project: Path, commands: str) -> None:
    """Run what deploy/README.md says, as careless with permissions as a shell is."""
    subprocess.run(["bash", "-euc", f"umask 022; {commands}"], cwd=project, check=True, capture_output=True)


def modes(folder: Path) -> dict[str, int]:
    """Of the files in a folder, who may do what."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_after_a_clean_stop_the_one_file_is_everything(project: Path, service: Server) -> None:
    """Whoever takes it alone has all that was acknowledged; nothing lies beside it but the key."""
    service.auth.token("admin", PASSWORD)
    assert service.stop() == 0
    assert sorted(modes(project / "instance")) == ["authsvc.db", "authsvc.db.key"]
    with sqlite3.connect(f"file:{project}/instance/authsvc.db?immutable=1", uri=True) as database:
        assert database.execute("SELECT count(*) FROM session").fetchone() == (1,)
    database.close()


def test_a_killed_service_loses_nothing(project: Path, service: Server, start_server: StartServer) -> None:
    """What it left beside the file is found by the next start, which warns of nothing."""
    token = service.auth.token("admin", PASSWORD)
    service.kill()
    assert (project / "instance" / "authsvc.db-wal").stat().st_size > 0
    again = start_server(url(project), AUTHSVC_SECRET_KEY="")
    assert again.auth.verify(token).status == 200
    assert "setting.risky" not in again.log


def test_everything_is_its_owners_alone(project: Path, service: Server) -> None:
    """The database, what lies beside it, and its key."""
    service.auth.token("admin", PASSWORD)
    assert len(modes(project / "instance")) == 4
    assert set(modes(project / "instance").values()) == {0o600}


def test_a_backup_of_a_running_service_can_be_restored(
    project: Path, service: Server, start_server: StartServer
) -> None:
    """By the commands of deploy/README.md: readable by its owner alone, complete, and without what came after it."""
    kept = service.auth.token("admin", PASSWORD)
    operate(project, BACKUP)
    after = service.auth.token("admin", PASSWORD)
    assert modes(project / "backup") == {"authsvc.db": 0o600, "authsvc.db.key": 0o600}
    service.kill()
    operate(project, RESTORE)
    assert set(modes(project / "instance").values()) == {0o600}
    restored = start_server(url(project), AUTHSVC_SECRET_KEY="")
    assert restored.auth.verify(kept).status == 200
    assert Auth.verdict(restored.auth.verify(after)) == (401, "Token is revoked.")
    assert "setting.risky" not in restored.log


def test_an_old_log_beside_a_restored_file_is_told(project: Path, service: Server, start_server: StartServer) -> None:
    """Its rows would mix in, and no check of the database would notice."""
    operate(project, BACKUP)
    service.auth.token("admin", PASSWORD)
    service.kill()
    shutil.copyfile(project / "backup" / "authsvc.db", project / "instance" / "authsvc.db")
    careless = start_server(url(project), AUTHSVC_SECRET_KEY="")
    wait_for(lambda: "server.starting" in careless.log)
    assert [line["id"] for line in careless.log_lines if line["event"] == "setting.risky"] == ["authsvc.W012"]

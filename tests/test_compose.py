"""`deploy/compose.yaml` agrees with what it puts together: the settings, `nginx.conf`, the commands in its README."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from authsvc import config
from tests.databases import fill
from tests.postgres import running_postgres
from tests.servers import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NGINX = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
REPLICAS = ["authsvc-1", "authsvc-2"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_no_more_than_it_needs(name: str) -> None:
    """A read-only root file system, no capabilities, no way to gain any, a user that is not root, a health check."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    # The image of the replicas brings a user of its own.
    assert name in REPLICAS or not service["user"].startswith("0")
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_settings_of_a_replica_are_legal_and_without_risk(tmp_path: Path) -> None:
    """With the secrets that the README beside it makes, it starts, and warns of nothing."""
    secrets = {"database_url": "postgresql://authsvc:x@postgres/authsvc", "secret_key": "0123456789abcdef" * 4}
    for name in SERVICES["authsvc-1"]["secrets"]:
        (tmp_path / name).write_text(secrets.get(name, "correct-horse-battery"))
    environ = {
        "AUTHSVC_HOST": "0.0.0.0",  # the image's
        **{
            name: value.replace("/run/secrets", str(tmp_path))
            for name, value in SERVICES["authsvc-1"]["environment"].items()
        },
    }
    assert config.load(environ).warnings == ()


def test_what_checks_need_goes_before_what_hashes() -> None:
    """Containers come before priorities: hashing yields to nginx and PostgreSQL only where these have more shares."""
    shares = {name: service.get("cpu_shares", 1024) for name, service in SERVICES.items()}
    assert min(shares["nginx"], shares["postgres"]) >= 2 * max(shares[name] for name in REPLICAS)


def test_nginx_finds_its_replicas() -> None:
    """The hosts that it asks are services, on a network of its own and theirs."""
    assert sorted(set(re.findall(r"server ([\w-]+):8000 ", NGINX))) == REPLICAS
    assert all(set(SERVICES[name]["networks"]) & set(SERVICES["nginx"]["networks"]) for name in REPLICAS)


def test_nginx_finds_its_port_and_its_secrets() -> None:
    """The port that is published is the one it listens on, and the certificate is where it looks."""
    assert SERVICES["nginx"]["ports"] == [f"443:{port}" for port in re.findall(r"listen (\d+) ssl", NGINX)]
    assert sorted(re.findall(r"/run/secrets/(\w+)", NGINX)) == sorted(SERVICES["nginx"]["secrets"])


def test_applications_reach_nothing_but_nginx() -> None:
    """On their network there is nobody else, and so nobody else can claim to be nginx."""
    assert [name for name, service in SERVICES.items() if "applications" in service["networks"]] == ["nginx"]


def test_postgresql_has_room_for_all_replicas() -> None:
    """On 16 cores, with the default number of connections, and some are left for people."""
    (room,) = re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgres"]["command"]))
    assert int(room) - 10 > len(REPLICAS) * 16 * int(config.DEFAULTS["DATABASE_CONNECTIONS"])


def test_the_role_of_postgresql_owns_its_database_and_is_no_superuser(tmp_path: Path) -> None:
    """What makes it is run here; migrations and logins need no more. The superuser has no password left."""
    (tmp_path / "password").write_text("it's \\ secret")
    with running_postgres() as server:
        environ = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
        }
        path = f"{server.programs}:{os.environ['PATH']}"
        subprocess.run(
            ["bash", ROOT / "deploy" / "postgres.sh"], env={**environ, "PATH": path}, check=True, capture_output=True
        )
        roles = "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolpassword IS NULL FROM pg_authid"
        assert server.execute(f"{roles} WHERE rolcanlogin ORDER BY rolname") == [
            ("authsvc", False, False, False, False),
            ("postgres", True, True, True, True),
        ]
        fill(f"postgresql://authsvc@127.0.0.1:{server.port}/authsvc")
        server.configure_access("host all all 127.0.0.1/32 scram-sha-256\n")
        psycopg.connect(host="127.0.0.1", port=server.port, user="authsvc", password="it's \\ secret").close()


def test_the_readme_makes_every_secret() -> None:
    """Each file that is named as a secret is written by the commands there, and no other."""
    readme = (ROOT / "deploy" / "README.md").read_text("utf-8")
    (commands,) = re.findall(r"^cd deploy && .*?^```", readme, re.MULTILINE | re.DOTALL)
    files = {secret["file"].removeprefix("secrets/") for secret in COMPOSE["secrets"].values()}
    assert set(re.findall(r"(?:> |pem )([\w.]+)", commands)) == files

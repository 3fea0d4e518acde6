"""`deploy/compose.yaml` agrees with what it puts together: the settings, nginx, PostgreSQL, and the secrets' script."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from authsvc import config
from tests.postgres import Postgres, running_postgres
from tests.servers import ROOT, Server, wait_for

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NGINX = (DEPLOY / "nginx.conf").read_text("utf-8")
REPLICAS = ["authsvc-1", "authsvc-2"]
CONNECTIONS = 8
"""The most a worker keeps, where AUTHSVC_DATABASE_CONNECTIONS does not say otherwise."""


def make_secrets(folder: Path) -> dict[str, str]:
    """Run `secrets.sh` as an operator does; what is in the files after it."""
    subprocess.run([DEPLOY / "secrets.sh", folder], check=True, capture_output=True, timeout=60)
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    """What a replica reads from its environment, with the secrets that `secrets.sh` makes and nothing set in `.env`."""
    make_secrets(tmp_path / "secrets")
    environment: dict[str, str] = SERVICES["authsvc-1"]["environment"]
    return config.load(
        {
            "AUTHSVC_HOST": "0.0.0.0",  # the image's
            **{
                name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value).replace("/run/secrets", str(tmp_path / "secrets"))
                for name, value in environment.items()
            },
        }
    )


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_no_more_than_it_needs(name: str) -> None:
    """A read-only root file system, no capabilities, no way to gain any, a user that is not root, a health check."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    # The image of the replicas brings a user of its own.
    assert name in REPLICAS or not service["user"].startswith("0")
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_kept_from_using_up_the_machine(name: str) -> None:
    """Memory, processes and logs have an end."""
    service = SERVICES[name]
    assert re.fullmatch(r"[0-9]+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


def test_the_image_is_built_in_one_place() -> None:
    """By one service; the others use what it made, and nobody asks a registry for the name."""
    ours = {name: service for name, service in SERVICES.items() if service["image"] == "authsvc"}
    policies = {name: (service.get("build"), service["pull_policy"]) for name, service in ours.items()}
    assert policies == {"authsvc-1": ("..", "build"), "authsvc-2": (None, "never")}


def test_the_settings_of_a_replica_are_legal_and_of_one_risk(settings: config.Config) -> None:
    """With the secrets that `secrets.sh` makes it starts, and warns of what is right on one machine only."""
    assert [risk.id for risk in settings.warnings] == ["authsvc.W008"]
    assert len(settings.secret_keys) == 2


def test_time_zone_and_workers_are_the_operators() -> None:
    """By variables; where they are not set, UTC and a number of workers that does not depend on the machine."""
    environment = SERVICES["authsvc-1"]["environment"]
    assert environment["AUTHSVC_TIMEZONE"] == "${AUTHSVC_TIMEZONE:-UTC}"
    assert re.fullmatch(r"\$\{AUTHSVC_WORKERS:-[0-9]+\}", environment["AUTHSVC_WORKERS"])


def test_a_replica_has_room_for_its_threads(settings: config.Config) -> None:
    """The limit on processes counts threads: each worker has those that serve, and some of its own."""
    assert settings.workers * (settings.threads + 32) <= SERVICES["authsvc-1"]["pids_limit"]


def test_the_connections_of_all_replicas_fit(settings: config.Config) -> None:
    """PostgreSQL takes 100, three of them for its superuser, and ten stay free for commands and backups."""
    assert "command" not in SERVICES["postgres"]
    assert len(REPLICAS) * settings.workers * CONNECTIONS <= 100 - 3 - 10


def test_what_checks_need_goes_before_what_hashes() -> None:
    """Containers come before priorities: hashing yields to nginx and PostgreSQL only where these have more shares."""
    shares = {name: service.get("cpu_shares", 1024) for name, service in SERVICES.items()}
    assert min(shares["nginx"], shares["postgres"]) >= 2 * max(shares[name] for name in REPLICAS)


def test_a_replica_has_a_folder_for_an_import() -> None:
    """Everything else is read-only, and `flask data import` needs a place for what it read."""
    assert all(SERVICES[name]["tmpfs"] == ["/tmp"] for name in REPLICAS)


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


def test_neither_replicas_nor_postgresql_reach_the_world() -> None:
    """The one network with a way out is not theirs."""
    assert [name for name, network in COMPOSE["networks"].items() if not network] == ["applications"]
    assert COMPOSE["networks"]["front"] == COMPOSE["networks"]["back"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["back"]


# Secrets


def test_every_secret_is_made(tmp_path: Path) -> None:
    """Each file that is named as a secret, and no other; the certificate and its key alone are the operator's."""
    files = {secret["file"].removeprefix("secrets/") for secret in COMPOSE["secrets"].values()}
    assert make_secrets(tmp_path / "secrets").keys() == files - {"tls.crt", "tls.key"}
    used = {name for service in SERVICES.values() for name in service["secrets"]}
    assert used == COMPOSE["secrets"].keys()


def test_secrets_can_be_made_again_without_harm(tmp_path: Path) -> None:
    """What is there stays as it is; what is missing, or was left empty, is made."""
    made = make_secrets(tmp_path)
    assert make_secrets(tmp_path) == made
    (tmp_path / "secret_key_fallbacks").write_text("")
    (tmp_path / "admin_password").unlink()
    again = make_secrets(tmp_path)
    assert all(again.values())
    assert {name for name in made if again[name] != made[name]} == {"secret_key_fallbacks", "admin_password"}


def test_the_password_and_the_database_url_agree(tmp_path: Path) -> None:
    """One is in the other; where there is a URL already, no password is made that would not fit it."""
    made = make_secrets(tmp_path / "compose")
    assert f":{made['postgres_password'].strip()}@postgres/" in made["database_url"]
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "database_url").write_text("sqlite:////var/lib/authsvc/authsvc.db\n")
    assert "postgres_password" not in make_secrets(tmp_path / "systemd")


def test_nobody_else_reads_the_secrets(tmp_path: Path) -> None:
    """The folder is its owner's alone; inside it the containers' users can read, each of which is another."""
    make_secrets(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}


# PostgreSQL


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, str]]:
    """A PostgreSQL after `postgres-init.sql`, which asks authsvc for its password as the image's does, and its URL."""
    folder = tmp_path_factory.mktemp("secrets")
    secrets = make_secrets(folder)
    (mount,) = (volume for volume in SERVICES["postgres"]["volumes"] if volume.startswith("./"))
    source, target, mode = mount.split(":")
    assert (Path(target).parent, Path(target).suffix, mode) == (Path("/docker-entrypoint-initdb.d"), ".sql", "ro")
    script = (DEPLOY / source).read_text("utf-8").replace("/run/secrets", str(folder))
    with running_postgres() as server:
        server.execute("ALTER ROLE postgres PASSWORD 'as the image sets it'")
        psql = [str(server.programs / "psql"), "--set=ON_ERROR_STOP=1", "--no-psqlrc", f"--dbname={server.url()}"]
        subprocess.run(psql, input=script, text=True, check=True, capture_output=True, timeout=60)
        (server._data / "pg_hba.conf").write_text(
            "host all authsvc 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        server.execute("SELECT pg_reload_conf()")
        yield server, secrets["database_url"].strip().replace("@postgres/", f"@127.0.0.1:{server.port}/")


def test_the_role_of_the_service_is_no_superuser(initialised: tuple[Postgres, str]) -> None:
    """It may log in, and owns its own database."""
    server, _ = initialised
    assert server.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin"
        " FROM pg_roles WHERE rolname = 'authsvc'"
    ) == [(False, False, False, False, False, True)]
    assert server.execute("SELECT datname FROM pg_database WHERE datdba = 'authsvc'::regrole") == [("authsvc",)]


def test_the_superuser_has_no_password(initialised: tuple[Postgres, str]) -> None:
    """So that it comes in over the container's socket and no network."""
    server, _ = initialised
    assert server.execute("SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL") == [("authsvc",)]


def test_the_password_that_was_made_is_the_roles(initialised: tuple[Postgres, str]) -> None:
    """The URL that was made opens the service's database, and another password does not."""
    _, url = initialised

    def refused(password: str) -> bool:
        try:
            psycopg.connect(url, password=password).close()
        except psycopg.OperationalError:
            return True
        return False

    wait_for(lambda: refused("another"))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("authsvc", "authsvc")


def test_the_role_of_the_service_can_do_all_the_service_does(initialised: tuple[Postgres, str], tmp_path: Path) -> None:
    """It makes the schema and the first administrator, who logs in."""
    _, url = initialised
    server = Server(tmp_path, url, AUTHSVC_ADMIN_PASSWORD="correct-horse-battery")
    try:
        wait_for(lambda: server.answers() and server.send("GET", "/readyz", {}, b"").status == 200)
        assert server.auth.login("admin", "correct-horse-battery").status == 200
    finally:
        server.kill()

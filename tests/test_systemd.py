"""`deploy/authsvc.service` and `deploy/flask.sh`: the service without containers, and its commands."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from authsvc import server
from tests.servers import ROOT

DEPLOY = ROOT / "deploy"
UNIT = re.findall(r"^(\w+)=(.*)$", (DEPLOY / "authsvc.service").read_text("utf-8"), re.MULTILINE)
"""Its settings, in their order."""


def values(name: str) -> list[str]:
    """What one setting says, each time it is there."""
    return [value for each, value in UNIT if each == name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("ProtectHome", "yes"),
        ("ProtectSystem", "strict"),
        ("StateDirectoryMode", "0700"),
        ("SystemCallArchitectures", "native"),
        ("UMask", "0077"),
        ("User", "authsvc"),
    ],
)
def test_the_unit_has_no_more_than_it_needs(name: str, value: str) -> None:
    """It writes to its own folder alone, is not root and cannot become so."""
    assert values(name) == [value]


def test_hashing_may_lower_its_priority() -> None:
    """The system calls for that stay allowed, and its share of the cores is the smaller one."""
    assert values("SystemCallFilter") == ["@system-service", "~@privileged"]
    (weight,) = map(int, values("CPUWeight"))
    assert weight <= 50


def test_what_is_under_way_is_finished() -> None:
    """The workers are killed only some time after Granian would do it."""
    assert values("KillMode") == ["mixed"]
    (patience,) = map(int, values("TimeoutStopSec"))
    assert patience >= server._LONGEST_REQUEST + 5


def test_settings_that_cannot_be_used_are_told_once() -> None:
    """A start that ends with status 2 is not tried again; a crash is."""
    assert (values("Restart"), values("RestartPreventExitStatus")) == (["on-failure"], ["2"])


def test_no_log_line_is_lost() -> None:
    """The journal drops none for being many."""
    assert values("LogRateLimitIntervalSec") == ["0"]


def test_the_unit_hands_out_the_secrets_of_compose(tmp_path: Path) -> None:
    """The same files, each by the setting that is named after it, and `secrets.sh` makes what is missing."""
    credentials = dict(value.split(":") for value in values("LoadCredential"))
    assert credentials == {name: f"/etc/authsvc/{name}" for name in credentials}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["authsvc-1"]
    assert sorted(credentials) == sorted(compose["secrets"])
    settings = {value.partition("=")[0]: value.partition("=")[2] for value in values("Environment")}
    assert {name: path for name, path in settings.items() if name.startswith("AUTHSVC_")} == {
        f"AUTHSVC_{name.upper()}_FILE": f"%d/{name}" for name in credentials
    }
    (tmp_path / "database_url").write_text("sqlite:////var/lib/authsvc/authsvc.db\n")
    subprocess.run([DEPLOY / "secrets.sh", tmp_path], check=True, capture_output=True, timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == credentials.keys()


def test_commands_run_as_the_service_does(tmp_path: Path) -> None:
    """`flask.sh` passes on the unit's user, folder, settings and secrets, and the command word for word."""
    spy = tmp_path / "systemd-run"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/seen\n')
    spy.chmod(0o755)
    command = ["account", "add", "a name", "--password-stdin"]
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([DEPLOY / "flask.sh", *command], env=environ, check=True, stdin=subprocess.DEVNULL, timeout=60)
    seen = (tmp_path / "seen").read_text().splitlines()
    (folder,) = values("WorkingDirectory")
    assert seen[-5:] == [f"{folder}/.venv/bin/flask", *command]
    assert {"--wait", "--pipe", f"--working-directory={folder}"} < set(seen)
    given = {word.removeprefix("--property=") for word in seen if word.startswith("--property=")}
    shared = ("User", "UMask", "EnvironmentFile", "LoadCredential")
    assert given == {f"{name}={value}" for name in shared for value in values(name)}
    (unit,) = (word.removeprefix("--unit=") for word in seen if word.startswith("--unit="))
    settings = {word.removeprefix("--setenv=") for word in seen if word.startswith("--setenv=")}
    assert settings == {
        value.replace("%d", f"/run/credentials/{unit}.service")
        for value in values("Environment")
        if value.startswith("AUTHSVC_")
    }

"""The README names everything there is, and says of it what the code says."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import click
import pytest
from flask import Flask
from sqlalchemy import event

from authsvc import config, create_app
from authsvc.database import db
from tests.conftest import StartServer
from tests.databases import PASSWORD, SECRET_KEY, Databases, cheap_passwords, close
from tests.dialects import FORM, Auth, in_process

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "authsvc"
README = (ROOT / "README.md").read_text("utf-8")
SETTING = re.compile(r"^\| `AUTHSVC_(\w+)` \| (.*?) \| (.*) \|$", re.MULTILINE)
DOCUMENTED = {name: (default, text) for name, default, text in SETTING.findall(README)}


def commands(group: click.Group, path: str) -> Iterator[str]:
    """Every command below `group`, spelled out."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_it_begins_with_what_it_is_and_two_commands_of_one_line_each() -> None:
    """A newcomer finds how to run it and how to test it, in this order, each in a block of its own."""
    blocks = re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert blocks[:2] == [
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python wsgi.py\n",
        "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/pytest\n",
    ]


def test_the_settings_are_those_of_the_code() -> None:
    """None is missing, and none is told of that does not exist."""
    assert list(DOCUMENTED) == list(config.DEFAULTS)


@pytest.mark.parametrize("name", config.DEFAULTS)
def test_a_setting_has_the_default_of_the_code(name: str) -> None:
    """It is quoted as the code has it; where the code has none, words say what happens."""
    default = DOCUMENTED[name][0]
    assert default.strip("`") == config.DEFAULTS[name] if config.DEFAULTS[name] else "`" not in default


def test_the_secret_settings_are_marked() -> None:
    """What may come from a file, and is never printed, is marked so."""
    assert {name for name, (_, text) in DOCUMENTED.items() if text.startswith("*Secret.*")} == set(config.SECRETS)


def test_every_warning_is_there() -> None:
    """What the log calls `authsvc.W...` can be looked up."""
    warnings = set(re.findall(r"authsvc\.W\d+", "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))))
    assert warnings == set(re.findall(r"^\| `(authsvc\.W\d+)` \|", README, re.MULTILINE))


def test_the_endpoints_are_those_of_the_application(app: Flask) -> None:
    """The table of endpoints has each route with its methods, and no other."""
    documented = dict(re.findall(r"^\| `(/\S+)` \| ([A-Z, ]+) \|", README, re.MULTILINE))
    routes = {rule.rule: ", ".join(sorted((rule.methods or set()) - {"OPTIONS"})) for rule in app.url_map.iter_rules()}
    assert documented == routes, "README.md: the table of endpoints and the routes differ"


def test_the_commands_are_those_of_the_application(app: Flask) -> None:
    """The table of commands has each of ours, and no other; of Flask-Migrate's, `flask db --help` tells."""
    documented = re.findall(r"^\| `(flask (?!db)[a-z]+ [a-z]+)", README, re.MULTILINE)
    ours = [command for command in commands(app.cli, "flask") if not command.startswith("flask db ")]
    assert sorted(documented) == sorted(ours)


def test_the_statements_of_each_request_are_counted(sqlite: Databases) -> None:
    """What the table in "Growing" says is what reaches the database, however it gets there."""
    statements: list[str] = []
    environ = {"AUTHSVC_DATABASE_URL": sqlite.copy(), "AUTHSVC_SECRET_KEY": SECRET_KEY}
    app = create_app(config.load(environ), cheap_passwords())
    with app.app_context():
        # The driver's own trace: a session check does not pass SQLAlchemy's events.
        event.listen(db.engine, "connect", lambda connection, _: connection.set_trace_callback(statements.append))
    send = in_process(app)
    form = {"username": "user", "key": "user", "password": PASSWORD, "new_password": "another-good-password"}

    def counted(path: str, methods: set[str]) -> int:
        token = Auth(send).token("user", PASSWORD)
        headers = {"Content-Type": FORM} if path.lower().endswith("login") else {"Content-Type": FORM, "satoken": token}
        statements.clear()
        method, body = ("POST", urlencode(form).encode()) if "POST" in methods else ("GET", b"")
        assert send(method, path, headers, body).status == 200
        # How long to wait for SQLite's writers is told to the connection, not asked of the database.
        return len([statement for statement in statements if not statement.startswith("PRAGMA busy_timeout")])

    # The one that changes the password comes last.
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule.endswith("password"))
    counts = {rule.rule: counted(rule.rule, rule.methods or set()) for rule in rules}
    documented = re.findall(r"^\| `(/\S+)` \| ([0-9]+) \|", README, re.MULTILINE)
    assert {path: int(number) for path, number in documented} == {
        path: number for path, number in counts.items() if number
    }
    close(app)


def test_the_examples_are_what_a_server_answers(sqlite: Databases, start_server: StartServer, tmp_path: Path) -> None:
    """Each, run as it stands and in this order, prints the lines it is shown with; times and tokens are others."""
    base = f"http://127.0.0.1:{start_server(sqlite.copy()).port}"
    (tmp_path / "password.txt").write_text(PASSWORD)
    environ = {"PATH": os.environ["PATH"]}
    examples = re.findall(r"^\$ (curl .*)\n((?:(?!\$ |```).*\n)+)", README, re.MULTILINE)
    assert len(examples) > 10
    for command, shown in examples:
        here = command.replace("http://127.0.0.1:8000", base)
        printed = subprocess.run(
            here, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        )
        for line in shown.replace("(and further headers)", "").splitlines():
            assert without_chance(line) in without_chance(printed.stdout).splitlines()
        if token := re.search('"tokenValue": "(.*?)"', printed.stdout):
            environ["TOKEN"] = token[1]


def without_chance(text: str) -> str:
    """The text, with times and tokens made the same."""
    return re.sub(r"[\w-]{32}\.[\w-]{6}\.[\w-]{43}", "TOKEN", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text))

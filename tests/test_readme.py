"""The three texts name everything there is, say of it what the code says, and lead to each other."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import click
import pyotp
import pytest
from flask import Flask
from sqlalchemy import event

from authsvc import config, create_app
from authsvc.events import Event
from authsvc.store import db
from tests.conftest import Clock, StartServer
from tests.databases import PASSWORD, SECRET_KEY, Databases, cheap_passwords, close
from tests.dialects import FORM, Auth, in_process

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "authsvc"
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "deploy/README.md", "tests/bench/README.md")}
README, DEPLOY, BENCH = TEXTS.values()
CHINESE = README[README.index("## 中文说明") : README.index("## The flow")]
LONGEST = 350
"""Lines that somebody may be asked to read before they use it or change it."""
SETTINGS = re.compile(r"^\| ((?:`AUTHSVC_\w+`(?:, )?)+) \| (.*?) \| (.*) \|$", re.MULTILINE)
DOCUMENTED = {
    name: (default, text)
    for names, defaults, text in SETTINGS.findall(README)
    for name, default in zip(re.findall(r"AUTHSVC_(\w+)", names), defaults.split(", "), strict=True)
}


def blocks(text: str) -> list[str]:
    """The fenced blocks of a text that are for a terminal; examples with their answers are another kind."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in fenced if not language]


def anchors(text: str) -> set[str]:
    """What can be linked to in a text: each heading, as GitHub spells its anchor."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def mapped() -> list[str]:
    """The paths on the map of the code, in its order."""
    (tree,) = (block for block in blocks(README) if block.startswith("wsgi.py "))
    paths, folders = [], list[str]()
    for indent, names in re.findall(r"^( *)((?:\S+, )*\S+)", tree, re.MULTILINE):
        del folders[len(indent) // 2 :]
        if names.endswith("/"):
            folders.append(names)
        else:
            paths += ["".join([*folders, name]) for name in names.split(", ")]
    return paths


def commands(group: click.Group, path: str) -> Iterator[str]:
    """Every command below `group`, spelled out."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_it_begins_with_what_it_is_and_two_commands_of_one_line_each() -> None:
    """A newcomer finds how to run it and how to test it, in this order, each in a block of its own."""
    assert blocks(README)[:2] == [
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python wsgi.py\n",
        "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/pytest\n",
    ]


def test_it_is_short_enough_to_be_read() -> None:
    """What operates it and how fast it is are told elsewhere."""
    assert len(README.splitlines()) <= LONGEST


def test_whoever_reads_chinese_is_sent_to_a_part_that_needs_no_other() -> None:
    """The third line leads there, it is the first part, and both commands stand in it once more."""
    assert "(#中文说明)" in README.splitlines()[2]
    assert re.findall("^## (.*)$", README, re.MULTILINE)[0] == "中文说明"
    run, test = blocks(README)[:2]
    assert run + test in blocks(CHINESE)


def test_what_the_chinese_part_repeats_is_what_the_other_parts_say() -> None:
    """A command that is told twice is the same both times."""
    run, test = blocks(README)[:2]
    assert set(blocks(CHINESE)) <= {run + test, *blocks(DEPLOY)}


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """To a file that is there and, where it names one, to a heading in it."""
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", TEXTS[name]):
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.is_file()
        assert not anchor or anchor in anchors(target.read_text("utf-8"))


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_that_is_named_exists(name: str) -> None:
    """Paths from the project's folder, wherever they stand in a sentence."""
    named = set(re.findall(r"`((?:authsvc|deploy|tests|migrations|\.ci)/[\w./-]*)[`:]", TEXTS[name]))
    made = {"deploy/secrets/", "deploy/secrets/admin_password"}
    assert {path for path in named - made if not (ROOT / path).exists()} == set()


def test_every_text_leads_to_the_others() -> None:
    """Whoever opened the wrong one finds the right one; other sites are sources."""
    for name, text in TEXTS.items():
        links = re.findall(r"\]\((?!https:)([^)#]+)", text)
        assert {(ROOT / name).parent.joinpath(link).resolve() for link in links} == {
            ROOT / other for other in TEXTS if other != name
        }


def test_the_map_has_every_file_of_the_code() -> None:
    """Whoever looks for something finds where it lives; none is missing, and none is told of that is not there."""
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert sorted(mapped()) == sorted(modules | {"wsgi.py"})


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
    assert warnings == set(re.findall(r"^\| `(authsvc\.W\d+)` \|", DEPLOY, re.MULTILINE))


def test_the_endpoints_are_those_of_the_application(app: Flask) -> None:
    """The table of endpoints has each route with its methods, and no other."""
    rows = re.findall(r"^\| ((?:`/\S+`(?:, )?)+) \| ([A-Z, ]+) \|", README, re.MULTILINE)
    documented = {path: methods for paths, methods in rows for path in re.findall("`(.*?)`", paths)}
    routes = {rule.rule: ", ".join(sorted((rule.methods or set()) - {"OPTIONS"})) for rule in app.url_map.iter_rules()}
    assert documented == routes, "README.md: the table of endpoints and the routes differ"


def test_the_commands_are_those_of_the_application(app: Flask) -> None:
    """The table of commands has each of ours, and no other; of Flask-Migrate's, `flask db --help` tells."""
    rows = re.findall(r"^\| (`flask .*?`) \|", README, re.MULTILINE)
    documented = re.findall(r"`(flask (?!db)[a-z]+(?: [a-z]+)?)", "".join(rows))
    ours = [command for command in commands(app.cli, "flask") if not command.startswith("flask db ")]
    assert sorted(documented) == sorted(ours)


def test_the_events_are_those_of_the_code() -> None:
    """Each audit event with its level, and every other line that the service writes, in a table of its own."""
    tables = re.split(
        r"^\*\*What happens to the (?:service)\.\*\*$", DEPLOY[DEPLOY.index("\n## Logs\n") :], flags=re.MULTILINE
    )
    audited, others = (re.findall(r"^\| (`.*?`) \| (INFO|WARNING|ERROR) \|", table, re.MULTILINE) for table in tables)
    told = {name: level for names, level in audited for name in re.findall(r"`(.*?)`", names)}
    assert told == {str(each): "WARNING" if each.is_refusal else "INFO" for each in Event}
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    told_by = r"(?:\b(?:notice|failed|_event)\(\s*(?:logging\.\w+, )?|\b_line\([^\"]*\"INFO\", )"
    written = set(re.findall(told_by + r"\"([\w.]+)\"", source))
    assert {name for names, _ in others for name in re.findall(r"`(.*?)`", names)} == written


def test_the_statements_of_each_request_are_counted(sqlite: Databases, clock: Clock) -> None:
    """What the table in `tests/bench/README.md` says is what reaches the database, however it gets there."""
    documented = re.findall(r"^\| `(/\S+)` \| ([0-9]+) \|", BENCH, re.MULTILINE)
    rules = application(sqlite, clock).url_map.iter_rules()
    counts = {
        rule.rule: statements(application(sqlite, clock), rule.rule, rule.methods or set(), clock) for rule in rules
    }
    assert {path: int(number) for path, number in documented} == {
        path: number for path, number in counts.items() if number
    }


def application(sqlite: Databases, clock: Clock) -> Flask:
    """One on a database of its own."""
    environ = {"AUTHSVC_DATABASE_URL": sqlite.copy(), "AUTHSVC_SECRET_KEY": SECRET_KEY, "AUTHSVC_METRICS": "on"}
    return create_app(config.load(environ), cheap_passwords(), clock)


def statements(app: Flask, path: str, methods: set[str], clock: Clock) -> int:
    """How many it takes `app` to grant a request to `path`."""
    traced: list[str] = []
    with app.app_context():
        # The driver's own trace: a session check does not pass SQLAlchemy's events.
        event.listen(db.engine, "connect", lambda connection, _: connection.set_trace_callback(traced.append))
    auth = Auth(in_process(app))
    token = auth.token("user", PASSWORD)
    form = {"username": "user", "key": "user", "password": PASSWORD, "oldPwd": PASSWORD, "session": "others"}
    form |= dict.fromkeys(("new_password", "newPwd"), "another-good-password")
    if path.startswith("/api/auth/otp/"):
        # Two-step verification has to be begun, or on.
        seed = pyotp.TOTP(auth.call("POST", "/otp", form=form, token=token).data["secret"])
        form["otp_code"] = seed.at(int(clock()))
        if not path.endswith("/confirm"):
            auth.call("POST", "/otp/confirm", form=form, token=token)
            clock.advance(30)
            form["otp_code"] = seed.at(int(clock()))
    traced.clear()
    headers = {"Content-Type": FORM} | ({} if path.lower().endswith("login") else {"satoken": token})
    method, body = ("POST", urlencode(form).encode()) if "POST" in methods else ("GET", b"")
    assert in_process(app)(method, path, headers, body).status == 200
    close(app)
    # How long to wait for SQLite's writers is told to the connection, not asked of the database.
    return len([statement for statement in traced if not statement.startswith("PRAGMA busy_timeout")])


@pytest.mark.parametrize("part", [CHINESE, README.replace(CHINESE, "")], ids=["Chinese", "English"])
def test_the_examples_are_what_a_server_answers(
    part: str, sqlite: Databases, start_server: StartServer, tmp_path: Path
) -> None:
    """Each, run as it stands and in this order, prints the lines it is shown with; times and tokens are others."""
    base = f"http://127.0.0.1:{start_server(sqlite.copy()).port}"
    (tmp_path / "password.txt").write_text(PASSWORD)
    (tmp_path / "new.txt").write_text("another-good-password")
    environ = {"PATH": os.environ["PATH"]}
    examples = re.findall(r"^\$ (curl .*)\n((?:(?!\$ |# |```).*\n)+)", part, re.MULTILINE)
    assert len(examples) == part.count("\n$ ") > 1
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
    """The text, with times, tokens, sessions and curl's version made the same."""
    for chance in (
        r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d",
        r"[\w-]{32}\.[\w-]{6}\.[\w-]{43}",
        r'(?<="id": ")[0-9a-f]{32}',
        r"(?<=curl/)[\w.-]+",
    ):
        text = re.sub(chance, "CHANCE", text)
    return text


def test_a_backup_can_be_restored(tmp_path: Path) -> None:
    """With the commands as they stand: made while the service writes, put back beside what a crash left behind."""
    backup, restore = (block for block in blocks(DEPLOY) if block.startswith(("(umask 077 && mkdir backup", "rm -f")))
    instance = tmp_path / "instance"
    instance.mkdir()
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (instance / "authsvc.db.key").write_text(SECRET_KEY)

    def run(commands: str) -> None:
        subprocess.run(commands, shell=True, cwd=tmp_path, check=True)

    def accounts() -> list[str]:
        with closing(sqlite3.connect(instance / "authsvc.db")) as database:
            return [name for (name,) in database.execute("SELECT name FROM account")]

    with closing(sqlite3.connect(instance / "authsvc.db", isolation_level=None)) as service:
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("CREATE TABLE account (name TEXT)")
        service.execute("INSERT INTO account VALUES ('before')")
        run(backup)
        service.execute("INSERT INTO account VALUES ('after')")
        crashed = {path.name: path.read_bytes() for path in instance.iterdir()}
    assert accounts() == ["before", "after"]
    assert "authsvc.db-wal" in crashed
    for name, content in crashed.items():
        (instance / name).write_bytes(content)
    run(restore)
    assert accounts() == ["before"]
    assert (instance / "authsvc.db.key").read_text() == SECRET_KEY
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "backup").iterdir()} == {0}

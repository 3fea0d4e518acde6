"""Export and import: the round between the databases, accounts from elsewhere, lines that cannot be used."""

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from authsvc import create_app
from authsvc.config import load
from authsvc.errors import ChangedMeanwhile
from authsvc.parts import parts
from authsvc.store.schema import upgrade
from authsvc.transfer import Imported
from authsvc.upkeep import Foreign
from tests.conftest import Authenticator, Clock, Commands, MakeApp
from tests.databases import NOW, PASSWORD, PHONE, SECRET_KEY, Databases, cheap_passwords, close
from tests.dialects import Auth, Console, in_process
from tests.servers import ROOT

Query = Callable[..., list[Any]]
Import = Callable[..., str]
DEPLOY = (ROOT / "deploy" / "README.md").read_text("utf-8")
MD5 = {"digest": "E4EF2A290589A23EFE1565BB698437F5", "salt": "whatclickme", "id": 10001}
MD5_PASSWORD = "123456"
STORED = cheap_passwords().hash(PASSWORD)
NEW = {"name": "new", "password_hash": STORED}
SESSION = {
    "id_hash": "ab" * 32,
    "account_id": 1,
    "opened": "2026-01-01T00:00:00+00:00",
    "last_seen": "2026-01-01T00:00:00+00:00",
    "ends": "2027-01-01T00:00:00+00:00",
    "address": "::1",
    "user_agent": "",
}


def lines(*documents: object) -> str:
    """A file with these lines; what is text stands as it is."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in documents)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a file with these lines, and returns its path."""

    def write(*documents: object) -> str:
        path = tmp_path / "accounts.jsonl"
        path.write_text(lines(*documents), "utf-8")
        return str(path)

    return write


@pytest.fixture
def bring(command: Commands, write: Callable[..., str]) -> Callable[..., str]:
    """Imports lines, all of which can be used; returns what is said on standard error."""

    def bring(*documents: object, options: tuple[str, ...] = ()) -> str:
        result = command.run("data", "import", write(*documents), *options)
        assert result.exit_code == 0, result.output
        return "\n".join(line for line in result.stderr.splitlines() if not line.startswith("{"))

    return bring


@pytest.fixture
def refused(command: Commands, write: Callable[..., str]) -> Callable[..., list[str]]:
    """Imports lines, some of which cannot be used; returns what is said of each. Nothing may have changed."""

    def refused(*documents: object) -> list[str]:
        before = command("data", "export")
        result = command.run("data", "import", write(*documents))
        *told, last = result.stderr.splitlines()
        assert (result.exit_code, result.stdout) == (1, "")
        unusable = [line for line in told if "note:" not in line]
        assert last == f"Error: {len(unusable)} lines cannot be used; nothing was imported"
        assert command("data", "export") == before
        return told

    return refused


def import_file(app: Flask, path: str, progress: Callable[[str, int], None] = lambda *_: None) -> Imported:
    """Imports a file of which nothing is to be told."""
    told = list[object]()
    hear = lambda *line: told.append(line)  # noqa: E731
    try:
        with Path(path).open("rb") as file:
            return parts(app).transfer.import_lines(file, dry_run=False, tell=hear, warn=hear, progress=progress)
    finally:
        assert told == []


# The round


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that an export is about, as it is stored."""
    engine = create_engine(load({"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}).database_url)
    tables = {
        "role": "*",
        "role_permission": "*",
        "account": "id, name, name_key, phone, avatar, password_hash, role_id, permission, disabled, created_by, "
        "created_at, login_at, login_address, login_count, otp_seed, otp_step, otp_row",
        "recovery_code": "*",
        "session": "id_hash, account_id, opened_at, last_seen_at, ends_at, address, user_agent",
        "setting": "value",
    }
    with engine.connect() as connection:
        found = {
            table: sorted([tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table}"))], key=repr)
            for table, columns in tables.items()
            if table != "setting"
        }
        found["setting"] = [
            tuple(row) for row in connection.execute(text("SELECT value FROM setting WHERE name = 'appcfg'"))
        ]
    engine.dispose()
    return found


class House:
    """An application on a database of its own, with a clock that shows odd times."""

    def __init__(self, url: str) -> None:
        environ = {"AUTHSVC_DATABASE_URL": url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
        self.url, self.clock = url, Clock(NOW + 0.1234567)
        self.app = create_app(load(environ), cheap_passwords(), self.clock)
        self.command = Commands(self.app)

    def tokens(self) -> Auth:
        """Where its tokens are good."""
        return Auth(in_process(self.app))


@pytest.fixture
def make_house() -> Iterator[Callable[[str], House]]:
    """Builds applications."""
    houses = []

    def make(url: str) -> House:
        houses.append(House(url))
        return houses[-1]

    yield make
    for house in houses:
        close(house.app)


def test_the_round_leaves_not_a_byte_different(
    sqlite: Databases, postgresql: Databases, make_house: Callable[[str], House], tmp_path: Path
) -> None:
    """From SQLite to PostgreSQL and back: every row is the same, every token good."""
    source = make_house(sqlite.copy())
    command = source.command
    auth = source.tokens()
    command("role", "add", "审计", "--name", "审计", "--id", "70")
    command("role", "grant", "审计", "b", "a")
    command("account", "add", "O'Brien \"七\" 😀", "--id", "10007", "--role", "审计", "--created-by", "1",
            "--password-stdin", stdin=PASSWORD)  # fmt: skip
    command("account", "disable", "10007")
    command("appcfg", "set", '{ "title": "后台" }')
    enrolment = command.json("account", "otp", "admin")
    code = Authenticator(enrolment, source.clock).code()
    assert auth.login("admin", f"{PASSWORD},{code}").status == 200
    assert auth.login("admin", f"{PASSWORD},{enrolment['recovery_codes'][0]}").status == 200
    token = auth.token("user", PASSWORD)
    path = str(tmp_path / "all.jsonl")
    before, url = contents(source.url), source.url
    houses = []
    for databases in (postgresql, sqlite):
        make_house(url).command("data", "export", "--sessions", path)
        url = databases.empty()
        houses.append(make_house(url))
        upgrade(houses[-1].app)
        houses[-1].command("data", "import", path)
    assert contents(houses[1].url) == before
    assert [house.tokens().verify(token).status for house in houses] == [200, 200]
    # A code that was used stays used, and the numbering goes on behind the highest.
    assert houses[0].tokens().login("admin", f"{PASSWORD},{code}").status == 403
    houses[0].command("account", "add", "next", "--password-stdin", stdin="another-password")
    assert houses[0].command.json("account", "show", "next")["id"] == 10008
    close(houses[0].app)
    postgresql.drop(houses[0].url)


def test_an_export_is_one_moment(app: Flask, command: Commands) -> None:
    """What is made while it is written is not in it."""
    export = parts(app).transfer.export()
    first = next(export)
    command("account", "add", "new", "--password-stdin", stdin="another-password")
    assert "another" not in first
    assert [json.loads(line)["account"]["name"] for line in export if line.startswith('{"account"')] == [
        "admin",
        "user",
    ]


def test_an_export_has_sessions_only_where_they_are_asked_for(app: Flask, auth: Auth) -> None:
    """They are of use with the same secret key only."""
    auth.token("user", PASSWORD)
    export = parts(app).transfer.export
    assert not [line for line in export() if line.startswith('{"session"')]
    assert len([line for line in export(sessions=True) if line.startswith('{"session"')]) == 1


def test_what_is_there_may_come_again(
    bring: Import, command: Commands, auth: Auth, authenticator: Authenticator, query: Query
) -> None:
    """Nothing changes and nobody has to log in again, even where a hash is of no use."""
    token = auth.token("user", f"{PASSWORD},{authenticator.code()}")
    query("UPDATE account SET password_hash = 'broken' WHERE id = 1")
    exported = command("data", "export", "--sessions")
    for again in (command("data", "export"), exported):
        assert bring(*again.splitlines()) == ""
        assert auth.verify(token).status == 200
    assert command("data", "export", "--sessions") == exported


def test_a_file_may_be_longer_than_what_is_done_at_a_time(bring: Import, command: Commands) -> None:
    """Nothing of it is lost or comes twice, neither in nor out; what is left out is told wherever it stands."""
    numbers = range(1001, 1502)
    strangers = {1001: 98, 1501: 99}
    accounts = [NEW | {"id": n, "name": f"a{n}", "created_by": strangers.get(n, 1)} for n in numbers]
    sessions = [SESSION | {"id_hash": f"{n:064x}", "account_id": n} for n in numbers]
    told = bring(*[{"account": each} for each in accounts], *[{"session": each} for each in sessions])
    assert told.splitlines() == [
        "line 1: note: created_by: no account has the id 98: left out",
        "line 501: note: created_by: no account has the id 99: left out",
    ]
    exported = [json.loads(line) for line in command("data", "export", "--sessions").splitlines()]
    came = [line["account"] for line in exported if "account" in line][2:]
    assert [(each["id"], each["created_by"]) for each in came] == [(n, None if n in strangers else 1) for n in numbers]
    assert [line["session"] for line in exported if "session" in line] == sessions


def test_an_export_is_for_its_owner_alone(command: Commands, tmp_path: Path) -> None:
    """Whatever stood there before."""
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    path.chmod(0o644)
    command("data", "export", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8") == command("data", "export")
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_that_cannot_be_written_says_so(command: Commands, tmp_path: Path) -> None:
    """In one line."""
    assert command.refusal("data", "export", str(tmp_path / "no" / "all.jsonl")).endswith("No such file or directory")


# What a line does


def test_an_account_comes_with_its_hash(bring: Import, auth: Auth, command: Commands) -> None:
    """And logs in."""
    told = {"phone": "13900000000", "role": "admin", "role_id": 1, "created": "2020-01-01 00:00:00"}
    assert bring({"account": NEW | told}) == ""
    assert auth.login("new", PASSWORD).status == 200
    assert command.json("account", "show", "new") | {"last_login": None} == {
        "id": 3,
        "name": "new",
        "phone": "13900000000",
        "role": "admin",
        "permission": 0,
        "disabled": False,
        "otp": False,
        "created": "2020-01-01T00:00:00+00:00",
        "last_login": None,
        "locked_until": None,
        "recent_failures": 0,
    }


def test_a_new_account_may_tell_no_more_than_name_and_password(bring: Import, command: Commands) -> None:
    """It is made now, for the role `user`."""
    bring({"account": NEW})
    shown = command.json("account", "show", "new")
    assert (shown["role"], shown["created"], shown["last_login"]) == ("user", "2026-02-02T02:40:00+00:00", None)


def test_no_account_gets_a_role_that_is_gone(command: Commands, refused: Callable[..., list[str]]) -> None:
    """`user` is not always there."""
    command("account", "delete", "user", "--yes")
    assert refused({"role": {"id": 2, "code": "role-2"}}, {"account": NEW}) == [
        "line 2: no role has the code user; roles come before accounts"
    ]


def test_a_phone_that_another_account_has_is_left_out(bring: Import, query: Query) -> None:
    """And told; an account's own is no other's."""
    assert bring({"account": {"id": 1, "phone": "13900000000"}}, {"account": {"id": 2, "phone": PHONE}}) == ""
    assert bring({"account": NEW | {"phone": PHONE}}) == "line 1: note: phone is in use by another account: left out"
    assert query("SELECT phone FROM account ORDER BY id") == [("13900000000",), (PHONE,), (None,)]


def test_a_line_changes_what_it_tells(bring: Import, command: Commands) -> None:
    """Of the account that its id names, or without one its name; nothing else."""
    before = command.json("account", "show", "user")
    bring({"account": {"id": 2, "permission": 5}}, {"account": {"name": "ADMIN", "phone": "13900000000"}})
    assert command.json("account", "show", "user") == before | {"permission": 5}
    assert command.json("account", "show", "13900000000")["name"] == "ADMIN"


def test_an_account_that_its_id_names_may_get_another_name(bring: Import, command: Commands, auth: Auth) -> None:
    """And somebody else its old one: so the renamed first administrator of one database comes to another."""
    bring(
        {"account": {"id": 1, "name": "Boss", "permission": 5, "recovery_hashes": []}},
        {"account": NEW | {"name": "admin", "created_by": 1}},
    )
    listed = [(account["id"], account["name"], account["permission"]) for account in command.json("account", "list")]
    assert listed == [(1, "Boss", 5), (2, "user", 0), (3, "admin", 0)]
    assert auth.login("boss", PASSWORD).status == 200


def test_a_role_is_found_by_its_id_or_code(bring: Import, command: Commands) -> None:
    """Its permissions are then those of the line."""
    bring(
        {"role": {"code": "admin", "permissions": ["x", "bas", "x"]}},
        {"role": {"id": 2, "name": "人"}},
        {"role": {"id": 9, "code": "nine", "name": "九"}},
        {"role": {"code": "ten", "name": "十", "permissions": None}},
    )
    assert [tuple(role.values()) for role in command.json("role", "list")] == [
        (1, "admin", "开发者", ["bas", "x"]),
        (2, "user", "人", []),
        (9, "nine", "九", []),
        (10, "ten", "十", []),
    ]


def test_a_role_nobody_has_may_get_another_code(bring: Import, command: Commands) -> None:
    """So a console's role 2 takes the place of ours, and ours goes on under another id."""
    command("account", "delete", "user", "--yes")
    bring(
        {"role": {"id": 2, "code": "role-2"}},
        {"role": {"id": 11, "code": "user", "name": "普通账号"}},
        {"account": NEW},
    )
    assert [(role["id"], role["code"]) for role in command.json("role", "list")] == [
        (1, "admin"),
        (2, "role-2"),
        (11, "user"),
    ]
    assert command.json("account", "show", "new")["role"] == "user"


def test_a_creator_may_come_later(bring: Import, query: Query) -> None:
    """And one that does not come at all is told and left out."""
    told = bring(
        {"account": NEW | {"id": 50, "created_by": 51}},
        {"account": NEW | {"id": 51, "name": "later", "created_by": 1}},
        {"account": NEW | {"name": "orphan", "created_by": 99}},
    )
    assert told == "line 3: note: created_by: no account has the id 99: left out"
    assert query("SELECT name, created_by FROM account WHERE id > 2 ORDER BY id") == [
        ("new", 51),
        ("later", 1),
        ("orphan", None),
    ]


def test_what_must_end_sessions_ends_them(bring: Import, auth: Auth) -> None:
    """A new password or a disabling does; any other change does not."""
    admin, user = auth.token("admin", PASSWORD), auth.token("user", PASSWORD)
    bring({"account": {"id": 1, "permission": 3}}, {"account": {"id": 2, "password_hash": STORED}})
    assert [auth.verify(token).status for token in (admin, user)] == [200, 401]
    for disabled in (True, False):
        bring({"account": {"id": 1, "disabled": disabled}})
        assert auth.verify(admin).status == 401


def test_a_seed_is_its_accounts_alone(
    bring: Import, refused: Callable[..., list[str]], command: Commands, query: Query
) -> None:
    """Also where the line names its account by name; an account without an id yet has none."""
    for name in ("admin", "user"):
        command("account", "otp", name)
    of_admin, of_user = (seed for (seed,) in query("SELECT otp_seed FROM account ORDER BY id"))
    bring({"account": {"name": "admin", "otp_seed": of_admin}}, {"account": {"name": "user", "otp_seed": of_user}})
    damaged = "otp_seed is damaged, or of another account or secret key"
    assert refused({"account": {"name": "user", "otp_seed": of_admin}}, {"account": NEW | {"otp_seed": of_admin}}) == [
        f"line 1: {damaged}",
        f"line 2: {damaged}",
    ]


def test_a_seed_that_is_taken_away_ends_sessions(bring: Import, auth: Auth, authenticator: Authenticator) -> None:
    """As turning two-step verification off does."""
    token = auth.token("user", f"{PASSWORD},{authenticator.code()}")
    bring({"account": {"id": 2, "otp_seed": None}})
    assert auth.verify(token).status == 401
    assert auth.login("user", PASSWORD).status == 200


def test_sessions_that_are_imported_are_taken_for_ours(app: Flask, make_app: MakeApp, bring: Import) -> None:
    """However long our secret key is used here."""
    for each in (make_app(AUTHSVC_SECRET_KEY="another-key-that-nobody-has-used-before-now"), app):
        parts(each).upkeep.meet_key()
    bring({"session": SESSION})
    assert parts(app).upkeep.meet_key() == Foreign(0, 0)


def test_a_dry_run_changes_nothing(command: Commands, write: Callable[..., str]) -> None:
    """It says what would be made and changed."""
    before = command("data", "export")
    said = command(
        "data",
        "import",
        "--dry-run",
        write({"account": NEW}, {"account": {"id": 2, "permission": 1}}, {"appcfg": "{}"}),
    )
    assert [line.split() for line in said.splitlines()][2:4] == [
        ["accounts", "made", "1"],
        ["accounts", "changed", "1"],
    ]
    assert said.endswith("Nothing was changed: this was a dry run.\n")
    assert command("data", "export") == before


def test_an_import_is_on_the_trail(bring: Import, command: Commands) -> None:
    """How many of each it made and changed."""
    bring(
        *[{"role": {"code": code, "name": code}} for code in ("one", "two", "three")],
        *[{"role": {"code": code, "name": code}} for code in ("admin", "user")],
        *[{"account": NEW | {"name": name}} for name in ("one", "two", "three")],
        *[{"account": {"name": name, "permission": 1}} for name in ("admin", "user")],
        *[{"session": SESSION | {"id_hash": digits * 32}} for digits in ("ab", "cd")],
        {"appcfg": "{}"},
    )
    newest = command.json("history")[0]
    assert newest["event"] == "data.imported"
    assert newest["detail"] == {
        "roles_made": 3,
        "roles_changed": 2,
        "accounts_made": 3,
        "accounts_changed": 2,
        "sessions": 2,
        "appcfg": 1,
    }


def test_how_far_it_is_is_told(app: Flask, write: Callable[..., str]) -> None:
    """Up to which line it is read, and how many of the passwords, which take longest, are hashed."""
    told = list[tuple[str, int]]()
    path = write(
        {"account": {"id": 2, "sa_plus_md5": MD5}},
        {"account": {"id": 9, "name": "nine", "sa_plus_md5": MD5}},
        {"account": {"name": "ten", "sa_plus_md5": MD5}},
        *[{"account": NEW | {"name": f"a{n}"}} for n in range(200)],
    )
    import_file(app, path, lambda what, count: told.append((what, count)))
    assert told == [("lines", 200), ("lines", 203), *[("passwords", count) for count in (1, 2, 3)]]


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ({"role": {"code": "new", "name": "新"}}, ["role", "add", "new", "--name", "new"]),
        ({"account": NEW}, ["account", "add", "New", "--password-stdin"]),
        ({"account": {"id": 2, "permission": 5}}, ["account", "delete", "user", "--yes"]),
        ({"account": {"id": 2, "name": "renamed"}}, ["account", "delete", "user", "--yes"]),
        ({"session": SESSION | {"account_id": 2}}, ["account", "delete", "user", "--yes"]),
    ],
    ids=["role", "account", "change", "name", "session"],
)
def test_nothing_is_done_where_something_changed_meanwhile(
    app: Flask, command: Commands, write: Callable[..., str], line: object, change: list[str]
) -> None:
    """After the look at the whole file, while passwords are hashed."""
    path, after = write(line, {"account": {"name": "slow", "sa_plus_md5": MD5}}), list[str]()

    def meddle(what: str, _: int) -> None:
        if what == "passwords":
            command(*change, stdin="another-password")
            after.append(command("data", "export", "--sessions"))

    with pytest.raises(ChangedMeanwhile):
        import_file(app, path, meddle)
    assert [command("data", "export", "--sessions")] == after


# Lines that cannot be used


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        (['{"account": {"name": "a"'], ["line 1: is not JSON, or not all of it"]),
        ([{"account": NEW}, "", {"account": {}}], ["line 3: account has no name"]),
        ([{"account": {"id": 2, "name": "Admin"}}], ["line 1: name is in use by account 1"]),
        ([{"account": NEW | {"id": 7, "name": "User"}}], ["line 1: name is in use by account 2"]),
        (
            [{"account": NEW | {"name": "sa"}}, {"account": NEW | {"name": "SA"}}],
            ["line 2: name is that of line 1, too"],
        ),
        (
            [{"account": NEW | {"id": 7}}, {"account": NEW | {"id": 7, "name": "b"}}],
            ["line 2: id is that of line 1, too"],
        ),
        ([{"account": NEW | {"role": "no"}}], ["line 1: no role has the code no; roles come before accounts"]),
        ([{"account": NEW | {"role_id": 9}}], ["line 1: no role has the id 9; roles come before accounts"]),
        ([{"account": NEW | {"role": "user", "role_id": 1}}], ["line 1: role user does not have the id 1"]),
        ([{"account": {"name": "a", "password_hash": "x"}}], ["line 1: password hash"]),
        ([{"account": NEW | {"sa_plus_md5": MD5}}], ["line 1: account has both password_hash and sa_plus_md5"]),
        ([{"account": {"id": 1, "name": "sa", "sa_plus_md5": MD5}}], ["line 1: id 1 is taken by account admin"]),
        ([{"account": NEW | {"otp_seed": "x"}}], ["line 1: otp_seed is damaged, or of another account"]),
        ([{"role": {"code": "new"}}], ["line 1: role has no name"]),
        ([{"role": {"name": "new"}}], ["line 1: role has no code"]),
        ([{"role": {"id": 5, "code": "user", "name": "x"}}], ["line 1: role code user is in use by role 2"]),
        ([{"role": {"id": 2, "code": "x"}}], ["line 1: role 2 is user here, and accounts have it"]),
        ([{"role": {"id": 2}}, {"role": {"code": "user"}}], ["line 2: role is that of line 1, too"]),
        ([{"appcfg": "{}"}, {"appcfg": "{}"}], ["line 2: appcfg is that of line 1, too"]),
        (
            [{"account": {"id": 2, "permission": 1}}, {"account": {"name": "USER", "permission": 2}}],
            ["line 2: name is that of line 1, too"],
        ),
        (
            [{"role": {"id": 9, "code": "a", "name": "x"}}, {"role": {"id": 9, "code": "b", "name": "x"}}],
            ["line 2: role's id is that of line 1, too"],
        ),
        ([{"session": {"id_hash": "ab" * 32}}], ["line 1: session has no account_id"]),
        ([{"session": SESSION}, {"session": SESSION}], ["line 2: session is that of line 1, too"]),
        ([{"account": {"id": 2**63}}, "[", {"account": NEW}], ["line 1: account id must be", "line 2: is not JSON"]),
    ],
)
def test_each_unusable_line_is_told_and_nothing_done(
    documents: list[object], told: list[str], refused: Callable[..., list[str]]
) -> None:
    """By its number, every one of them."""
    said = refused(*documents)
    assert [line.startswith(start) for line, start in zip(said, told, strict=True)] == [True] * len(told)


def test_an_empty_file_is_told(command: Commands, write: Callable[..., str]) -> None:
    """It is what a command that failed leaves behind."""
    assert command.refusal("data", "import", write()) == "the file is empty"


def test_sessions_of_nobody_are_refused(refused: Callable[..., list[str]]) -> None:
    """They need their account, in the file or there."""
    of_nobody = SESSION | {"id_hash": "cd" * 32, "account_id": 9}
    assert refused({"session": of_nobody}, {"session": SESSION}) == ["line 1: no account has the id 9"]


def test_an_import_that_is_broken_off_does_nothing(database_url: str, query: Query) -> None:
    """Ctrl-C in the middle: status 1, one line, no traceback."""
    environ = {"PATH": os.environ["PATH"], "AUTHSVC_DATABASE_URL": database_url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
    flask = [sys.executable, "-m", "flask", "data", "import", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(flask, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(lines(*[{"account": NEW | {"name": f"a{n}", "phone": "x"}} for n in range(400)]))
        process.stdin.flush()
        assert process.stderr.readline().startswith("line 1: note")  # it is in the middle
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait() == 1
    assert told.splitlines()[-1] == "Aborted!"
    assert "Traceback" not in told
    assert query("SELECT count(*) FROM account") == [(2,)]


def test_a_reader_that_goes_away_is_told(database_url: str) -> None:
    """One line, status 1, no traceback."""
    environ = {"PATH": os.environ["PATH"], "AUTHSVC_DATABASE_URL": database_url, "AUTHSVC_SECRET_KEY": SECRET_KEY}
    reading, writing = os.pipe()
    os.close(reading)
    flask = [sys.executable, "-m", "flask", "data", "export"]
    done = subprocess.run(flask, cwd=ROOT, env=environ, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "Error: the export is not complete: Broken pipe\n")


def test_people_log_in_meanwhile(app: Flask, write: Callable[..., str]) -> None:
    """An import keeps nobody out."""
    path = write(*[{"account": NEW | {"name": f"a{n}", "id": 1000 + n}} for n in range(3000)])
    answers, ended = list[int](), threading.Event()

    def log_in() -> None:
        while not ended.is_set():
            answers.append(Auth(in_process(app)).login("user", PASSWORD).status)

    thread = threading.Thread(target=log_in)
    thread.start()
    try:
        imported = import_file(app, path)
    finally:
        ended.set()
        thread.join()
    assert imported.accounts_made == 3000
    assert set(answers) == {200}


# From a sa-plus console


def test_its_password_logs_in_and_is_hashed_anew(bring: Import, console: Console, query: Query) -> None:
    """The digest is never stored, and after the first login it is a hash like any other."""
    bring({"account": {"id": 10001, "name": "sa", "sa_plus_md5": MD5}})
    stored = "SELECT password_hash FROM account WHERE id = 10001"
    ((wrapped,),) = query(stored)
    assert MD5["digest"] not in wrapped
    assert console.login("sa", "1234567").json["code"] == 500
    assert query(stored) == [(wrapped,)]
    assert console.login("sa", MD5_PASSWORD).json["code"] == 200
    ((renewed,),) = query(stored)
    assert renewed.startswith("$argon2id$")
    assert console.login("sa", MD5_PASSWORD).json["code"] == 200


def test_its_password_takes_the_place_of_another(bring: Import, auth: Auth) -> None:
    """Of an account that is found by its id, with its name or without; sessions end."""
    token = auth.token("user", PASSWORD)
    bring({"account": {"id": 1, "name": "Admin", "sa_plus_md5": MD5}}, {"account": {"id": 2, "sa_plus_md5": MD5}})
    assert auth.verify(token).status == 401
    assert [auth.login(name, MD5_PASSWORD).status for name in ("admin", "user")] == [200, 200]
    assert auth.login("user", PASSWORD).status == 403


@pytest.fixture
def sa_plus() -> Iterator[Callable[[str], list[str]]]:
    """Answers a documented `mysql` command as MySQL would, from a console's tables."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.create_function("CONCAT", -1, lambda *texts: "".join(map(str, texts)))
        database.executescript("""
            CREATE TABLE sp_role (id, name);
            CREATE TABLE sp_role_permission (role_id, permission_code);
            CREATE TABLE sp_cfg (cfg_name, cfg_value);
            CREATE TABLE sp_admin (id, name, avatar, password, phone, role_id, status, create_by_aid, create_time,
                                   login_time, login_ip, login_count);
            INSERT INTO sp_role VALUES (1, '开发者'), (2, '系统管理员'), (11, '普通账号');
            INSERT INTO sp_role_permission VALUES (1, 'bas'), (1, 'in-system'), (1, 'bas'), (2, 'admin-list');
            INSERT INTO sp_cfg VALUES ('app_cfg', '{"title": "It''s \\"后台\\""}'), ('other', 'x');
        """)
        rows = [
            (10001, "sa", "http://x/a.jpg", MD5["digest"], "13811111111", 1, 1, -1, "2018-10-15 10:21:05.000000",
             "2020-01-01 08:00:00.000000", "127.0.0.1", 17),
            (10002, "长" * 100, None, None, None, None, 1, None, None, None, None, None),
            (10003, "O'Brien \"七\" \\ 😀", "", "", "021-5555", 11, 2, 10001, "2018-10-15 10:21:05", None, None, 0),
            (10004, "twin", None, MD5["digest"], "13811111111", 2, 1, 9, "2018-10-15 10:21:05.000000", None, None, 0),
        ]  # fmt: skip
        database.executemany(f"INSERT INTO sp_admin VALUES ({', '.join('?' * 12)})", rows)

        def answer(command: str) -> list[str]:
            (statement,) = re.findall(r'-e "(.*)" >>? accounts.jsonl', command)
            return [row for (row,) in database.execute(statement.replace("JSON_ARRAYAGG", "json_group_array"))]

        yield answer


def documented() -> list[str]:
    """The three commands of deploy/README.md; they stand there in English and in Chinese."""
    commands = re.findall(r"^mysql .*$", DEPLOY, re.MULTILINE)
    assert commands[:3] == commands[3:]
    return commands[:3]


def test_the_documented_commands_bring_a_console_over(
    sa_plus: Callable[[str], list[str]], make_app: MakeApp, databases: Databases, write: Callable[..., str]
) -> None:
    """Rows as MySQL gives them: ids, roles, times, counts, and passwords are as they were."""
    app = make_app(AUTHSVC_DATABASE_URL=databases.empty(), AUTHSVC_TIMEZONE="Asia/Shanghai")
    upgrade(app)
    parts(app).administration.bootstrap(PASSWORD)
    command = Commands(app)
    found = [line for each in documented() for line in sa_plus(each)]
    assert len(found) == 3 + 4 + 1
    result = command.run("data", "import", write(*found))
    assert [line for line in result.stderr.splitlines() if not line.startswith("{")] == [
        "line 5: note: has no password: nobody can log in before `flask account password`",
        "line 6: note: phone must be 11 digits: left out",
        "line 6: note: has no password: nobody can log in before `flask account password`",
        "line 7: note: phone is that of line 4, too: left out",
        "line 7: note: created_by: no account has the id 9: left out",
    ]
    assert [tuple(role.values()) for role in command.json("role", "list")] == [
        (1, "admin", "开发者", ["bas", "in-system"]),
        (2, "role-2", "系统管理员", ["admin-list"]),
        (11, "user", "普通账号", []),
    ]
    assert [(each["id"], each["name"], each["role"], each["disabled"]) for each in command.json("account", "list")] == [
        (1, "admin", "admin", False),
        (10001, "sa", "admin", False),
        (10002, "长" * 100, "user", False),
        (10003, 'O\'Brien "七" \\ 😀', "user", True),
        (10004, "twin", "role-2", False),
    ]
    told = Console(in_process(app)).login("sa", MD5_PASSWORD).data
    assert told["admin"] | {"loginTime": ""} == told["admin"] | {
        "id": 10001,
        "name": "sa",
        "avatar": "http://x/a.jpg",
        "roleId": 1,
        "phone": "13811111111",
        "createByAid": -1,
        "createTime": "2018-10-15 10:21:05",
        "loginCount": 18,
        "loginTime": "",
    }
    assert told["appCfg"] == '{"title": "It\'s \\"后台\\""}'


def test_the_documented_command_grants_a_whole_console(command: Commands) -> None:
    """All that the shipped role 1 of a sa-plus console holds."""
    (line,) = re.findall(r"^flask (role grant admin .*)$", DEPLOY, re.MULTILINE)
    command(*line.split())
    assert len(command.json("role", "list")[0]["permissions"]) == 17

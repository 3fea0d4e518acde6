"""The administrator's command line."""

import getpass
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url
from werkzeug.security import generate_password_hash

from authsvc import __version__
from authsvc.store import causes
from authsvc.store.tables import REVISION
from tests.conftest import Clock, Commands, MakeApp
from tests.databases import PASSWORD, PHONE, SECRET_KEY, Databases
from tests.dialects import Auth, in_process
from tests.servers import ROOT

COMMANDS = [
    "account",
    *(f"account {verb}" for verb in ("add", "list", "show", "set", "password", "disable", "enable")),
    *(f"account {verb}" for verb in ("sessions", "logout", "delete", "history")),
    "history",
    *(f"data {verb}" for verb in ("export", "import", "check", "reencrypt")),
    "role",
    *(f"role {verb}" for verb in ("add", "list", "set", "delete", "grant", "revoke")),
    "appcfg",
    "appcfg get",
    "appcfg set",
    "db upgrade",
    "db current",
    "version",
]
LISTED = {
    "id": 2,
    "name": "user",
    "phone": PHONE,
    "role": "user",
    "permission": 0,
    "disabled": False,
    "otp": False,
    "created": "2026-02-02T02:40:00+00:00",
    "last_login": None,
}
SHOWN = LISTED | {"locked_until": None, "recent_failures": 0}
NEW_PASSWORD = "another-password"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_explains_itself(line: str, command: Commands) -> None:
    """`--help` says what it does."""
    help_text = command(*line.split(), "--help")
    assert help_text.startswith(f"Usage: flask {line}")


def test_the_command_line_is_flasks_own(database_url: str) -> None:
    """`flask` in the project's root finds the application by itself; JSON is all that standard output holds."""
    environ = {
        "PATH": os.environ["PATH"],
        "AUTHSVC_DATABASE_URL": database_url,
        "AUTHSVC_SECRET_KEY": SECRET_KEY,
    }
    flask = [sys.executable, "-m", "flask", "account", "show", "13800000000", "--json"]
    done = subprocess.run(flask, cwd=ROOT, env=environ, capture_output=True, check=True)
    assert json.loads(done.stdout) == SHOWN


# Accounts


def test_account_add_makes_an_account(command: Commands) -> None:
    """With everything that was said about it."""
    said = "--role admin --phone 13900000000 --avatar https://a.example/b.png --permission 5 --created-by admin"
    told = command("account", "add", "New", *said.split(), "--password-stdin", stdin=f"{NEW_PASSWORD}\n")
    assert told == "Account 3 created.\n"
    shown = command.json("account", "show", "new")
    assert shown == SHOWN | {"id": 3, "name": "New", "phone": "13900000000", "role": "admin", "permission": 5}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
def test_a_password_is_one_line_of_standard_input(ending: str, command: Commands, auth: Auth) -> None:
    """Without its line break, otherwise exactly as it stands."""
    command("account", "password", "user", "--password-stdin", stdin=f" {NEW_PASSWORD} {ending}")
    assert auth.login("user", f" {NEW_PASSWORD} ").status == 200


def test_a_password_is_asked_for_twice(command: Commands, auth: Auth) -> None:
    """At a terminal, and not shown."""
    told = command("account", "add", "new", stdin=f"{NEW_PASSWORD}\n{NEW_PASSWORD}\n")
    assert NEW_PASSWORD not in told
    assert auth.login("new", NEW_PASSWORD).status == 200


def test_a_hash_can_be_given_instead(command: Commands, auth: Auth) -> None:
    """A hash from elsewhere comes in by standard input too."""
    stored = generate_password_hash(NEW_PASSWORD, "pbkdf2:sha256:100000")
    command("account", "add", "new", "--password-hash-stdin", stdin=f"{stored}\n")
    assert auth.login("new", NEW_PASSWORD).status == 200


def test_a_password_and_a_hash_exclude_each_other(command: Commands) -> None:
    """It is a mistake in the command, status 2."""
    result = command.run("account", "add", "new", "--password-stdin", "--password-hash-stdin")
    assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)


@pytest.mark.parametrize("key", ["2", "user", "USER", PHONE])
def test_a_key_is_read_as_do_login_reads_it(key: str, command: Commands) -> None:
    """An id, a name or a phone."""
    assert command.json("account", "show", key) == SHOWN


def test_account_list_shows_all(command: Commands) -> None:
    """Oldest first."""
    listed = command.json("account", "list")
    assert [list(account) for account in listed] == [list(LISTED)] * 2
    assert [account["name"] for account in listed] == ["admin", "user"]


@pytest.mark.usefixtures("token")
def test_account_show_is_a_plain_table_for_people(command: Commands) -> None:
    """A field a line."""
    assert command("account", "show", "user").splitlines() == [
        "id               2",
        "name             user",
        f"phone            {PHONE}",
        "role             user",
        "permission       0",
        "disabled         no",
        "otp              no",
        "created          2026-02-02T02:40:00+00:00",
        "last_login       2026-02-02T02:40:00+00:00",
        "locked_until     -",
        "recent_failures  0",
    ]


def test_wide_characters_keep_their_columns(command: Commands) -> None:
    """A Chinese character takes two columns of a terminal."""
    command("role", "grant", "user", "reports")
    assert command("role", "list").splitlines() == [
        "id  code   name      permissions",
        "1   admin  开发者    bas dev in-system",
        "2   user   普通账号  reports",
    ]


def test_account_set_changes_what_is_given(command: Commands) -> None:
    """And nothing else; an empty phone removes it."""
    assert command("account", "set", "user", "--phone", "", "--role", "admin", "--permission", "7") == "Changed.\n"
    assert command.json("account", "show", "user") == SHOWN | {"phone": None, "role": "admin", "permission": 7}


@pytest.mark.parametrize(("verb", "disabled"), [("disable", True), ("enable", False)])
def test_accounts_are_switched_off_and_on(verb: str, disabled: bool, command: Commands) -> None:
    """What is switched already may be switched again."""
    for _ in range(2):
        command("account", verb, "user")
    assert command.json("account", "show", "user")["disabled"] is disabled


@pytest.mark.usefixtures("token")
def test_account_sessions_shows_them(command: Commands) -> None:
    """When each was opened, last seen and will end, whence and by what program."""
    (session,) = command.json("account", "sessions", "user")
    assert session == {
        "opened": "2026-02-02T02:40:00+00:00",
        "last_seen": "2026-02-02T02:40:00+00:00",
        "ends": "2026-02-02T14:40:00+00:00",
        "address": "127.0.0.1",
        "user_agent": session["user_agent"],
    }


@pytest.mark.usefixtures("token")
def test_account_logout_ends_them(command: Commands) -> None:
    """All of one account, and says how many."""
    assert command("account", "logout", "user") == "1 sessions ended.\n"
    assert command.json("account", "sessions", "user") == []


def test_account_list_finds(command: Commands) -> None:
    """By a part of the name or phone, in any case; by role; by whether it is disabled; the first so many."""
    command("account", "add", "Zoë%", "--role", "admin", "--password-stdin", stdin=NEW_PASSWORD)
    command("account", "disable", "user")

    def found(*options: str) -> list[str]:
        return [account["name"] for account in command.json("account", "list", *options)]

    assert found("--search", "OË") == found("--search", "%") == ["Zoë%"]
    assert found("--search", PHONE[3:]) == found("--disabled") == ["user"]
    assert found("--role", "admin", "--search", "o") == ["Zoë%"]
    assert found("--role", "user") == ["user"]
    assert found("--limit", "2") == ["admin", "user"]
    assert command.refusal("account", "list", "--role", "no").startswith("no role has this code")


def test_an_account_is_renamed(command: Commands, auth: Auth) -> None:
    """It keeps its id, its password and its sessions."""
    token = auth.token("user", PASSWORD)
    command("account", "set", "user", "--name", "Neu")
    assert command.json("account", "show", "2")["name"] == "Neu"
    assert auth.verify(token).data["username"] == "Neu"
    assert auth.login("NEU", PASSWORD).status == 200
    assert command.refusal("account", "set", "2", "--name", "ADMIN") == "this name is already in use"


def test_an_account_is_deleted_for_good(command: Commands, auth: Auth) -> None:
    """With its sessions; whom it created stays, its trail does, and its id is never given again."""
    token = auth.token("user", PASSWORD)
    command("account", "otp", "user")
    command("account", "add", "child", "--created-by", "user", "--password-stdin", stdin=NEW_PASSWORD)
    command("account", "delete", "3", "--yes")
    command("account", "add", "next", "--password-stdin", stdin=NEW_PASSWORD)
    assert command.json("account", "show", "next")["id"] == 4
    command("account", "delete", "user", "--yes")
    assert auth.verify(token).status == 401
    assert command.refusal("account", "show", "user") == "no account has this key"
    newest = command.json("account", "history", "2")[0]
    assert (newest["event"], newest["detail"]) == ("account.deleted", {"name": "user"})


def test_what_cannot_be_undone_asks_first(command: Commands) -> None:
    """No is no; what cannot be done at all is refused without asking."""
    assert command.run("account", "delete", "user", stdin="n\n").exit_code == 1
    assert command.json("account", "show", "user")["id"] == 2
    assert command.refusal("account", "delete", "nobody") == "no account has this key"
    assert command.refusal("role", "delete", "nobody").startswith("no role has this code")
    assert command("account", "delete", "user", stdin="y\n").endswith("Deleted.\n")


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("account add user", "this name is already in use"),
        ("account add new --id 2", "this id is already in use"),
        ("account add new --phone 13800000000", "this phone is already in use"),
        ("account add new --created-by nobody", "no account has this key"),
        ("account add new --role no", "no role has this code (`flask role list` shows them)"),
    ],
)
def test_a_password_is_asked_for_last(line: str, refusal: str, command: Commands) -> None:
    """After all that can be refused without one."""
    assert command.refusal(*line.split()) == refusal


def test_an_account_is_made_under_an_id(command: Commands) -> None:
    """And the numbering goes on behind it."""
    for line in ("account add a --id 500", "account add b"):
        command(*line.split(), "--password-stdin", stdin=NEW_PASSWORD)
    assert [account["id"] for account in command.json("account", "list")] == [1, 2, 500, 501]


def test_who_is_locked_is_shown(command: Commands, auth: Auth) -> None:
    """Until when, and how many wrong guesses there were."""
    for _ in range(5):
        auth.login("user", "wrong")
    shown = command.json("account", "show", "user")
    assert (shown["recent_failures"], shown["locked_until"]) == (5, "2026-02-02T02:45:00+00:00")
    command("account", "unlock", "user")
    assert command.json("account", "show", "user") == SHOWN


def test_an_empty_list_says_that_it_is_empty(command: Commands) -> None:
    """To a person; a script gets an empty array."""
    assert command("account", "sessions", "user") == "No live sessions.\n"
    assert command("account", "list", "--search", "nobody") == "No accounts.\n"
    assert command("history", "--event", "logout") == "Nothing is known.\n"
    assert command.json("history", "--event", "logout") == []


# The trail


def test_the_trail_tells_what_happened_and_who_did_it(command: Commands, auth: Auth, clock: Clock) -> None:
    """Newest first: the owner's acts with their address, a command's with the system's user."""
    auth.login("user", "wrong")
    clock.advance(1)
    auth.logout(auth.token("user", PASSWORD))
    command("account", "disable", "user")
    trail = command.json("account", "history", "user")
    assert [(each["event"], each["by"] == "self", each["address"]) for each in trail[:4]] == [
        ("account.disabled", False, None),
        ("logout", True, "127.0.0.1"),
        ("login.succeeded", True, "127.0.0.1"),
        ("login.refused", True, "127.0.0.1"),
    ]
    assert (trail[0]["by"], trail[3]["detail"]) == (getpass.getuser(), {"cause": "wrong_password"})
    assert trail[3]["at"] == "2026-02-02T02:40:00+00:00"
    assert trail[-1] == trail[-1] | {"event": "account.added", "by": "service", "account_id": 2}
    assert command.json("account", "history", "user", "--limit", "2") == trail[:2]


def test_the_trail_is_searched(command: Commands, auth: Auth, clock: Clock) -> None:
    """By time and by event; a table for people."""
    auth.login("user", "wrong")
    clock.advance(10)
    auth.login("admin", PASSWORD)
    assert [each["account_id"] for each in command.json("history", "--since", "2026-02-02 02:40:05")] == [1]
    assert [each["account_id"] for each in command.json("history", "--event", "login.refused")] == [2]
    heading, line = command("history", "--event", "login.refused").splitlines()
    assert heading.split() == ["at", "event", "account_id", "by", "address", "detail"]
    assert line.split() == [
        "2026-02-02T02:40:00+00:00",
        "login.refused",
        "2",
        "self",
        "127.0.0.1",
        "cause=wrong_password",
    ]


def test_what_concerns_nobody_leaves_no_trail(command: Commands, auth: Auth) -> None:
    """Unknown names, and tries that were not even looked at."""
    for _ in range(6):
        auth.login("nobody", "wrong")
        auth.login("user", "wrong")
    assert [each["account_id"] for each in command.json("history", "--event", "login.refused")] == [2] * 5


def test_what_was_undone_leaves_no_trail(command: Commands) -> None:
    """It is written with what it tells, or not at all."""
    before = command.json("history")
    assert command.refusal("account", "set", "user", "--name", "admin")
    assert command.json("history") == before


def test_the_trail_ends(make_app: MakeApp, clock: Clock) -> None:
    """After AUTHSVC_TRAIL_DAYS, by itself, and not before."""
    app = make_app(AUTHSVC_TRAIL_DAYS="10")
    command, auth = Commands(app), Auth(in_process(app))
    before = command.json("history")

    def events_after(seconds: float) -> list[str]:
        clock.advance(seconds)
        for _ in range(16):
            auth.login("user", PASSWORD)
        return [each["event"] for each in command.json("history")]

    assert events_after(10 * 86400) == ["login.succeeded"] * 16 + [each["event"] for each in before]
    assert events_after(1) == ["login.succeeded"] * 32


# Roles and the console's configuration


def test_a_role_is_changed_and_deleted(command: Commands) -> None:
    """Whoever has it keeps it; while somebody has it, it stays."""
    command("role", "add", "a", "--name", "A", "--id", "70")
    command("role", "set", "a", "--code", "b", "--name", "B")
    assert command.json("role", "list")[-1] == {"id": 70, "code": "b", "name": "B", "permissions": []}
    command("role", "grant", "b", "x")
    command("account", "set", "user", "--role", "b")
    assert command.refusal("role", "delete", "b", "--yes").startswith("accounts have this role")
    assert command.refusal("role", "set", "b", "--code", "admin") == "this code is already in use"
    assert command.refusal("role", "set", "b") == "what to set is missing"
    command("account", "set", "user", "--role", "user")
    command("role", "delete", "b", "--yes")
    assert [role["code"] for role in command.json("role", "list")] == ["admin", "user"]


def test_roles_are_made_and_given_permissions(command: Commands) -> None:
    """A new role grants nothing until it is told to."""
    command("role", "add", "auditor", "--name", "审计")
    command("role", "grant", "auditor", "b", "a")
    command("role", "revoke", "auditor", "b")
    assert command.json("role", "list")[2] == {"id": 3, "code": "auditor", "name": "审计", "permissions": ["a"]}


def test_appcfg_is_kept_as_written(command: Commands) -> None:
    """The console gets the very text."""
    command("appcfg", "set", '{ "title": "控制台" }')
    command("appcfg", "set", '{ "title": "后台" }')
    assert command("appcfg", "get") == '{ "title": "后台" }\n'


# Refusals


@pytest.mark.parametrize(
    ("line", "stdin", "refusal"),
    [
        ("account show nobody", "", "no account has this key"),
        ("account password nobody", "", "no account has this key"),
        ("account disable 010001", "", "no account has this key"),
        ("account set user --role nosuch", "", "no role has this code (`flask role list` shows them)"),
        ("account set user", "", "what to set is missing"),
        ("account set admin --phone 13800000000", "", "this phone is already in use"),
        ("account set user --phone 1", "", "phone must be 11 digits"),
        ("account add USER --password-stdin", PASSWORD, "this name is already in use"),
        ("account add 10001 --password-stdin", PASSWORD, "name is all digits"),
        ("account add new --password-stdin", "", "password must have 8 to 256 characters"),
        ("account add new --password-stdin", "password1", "password is one of the most common passwords"),
        (
            "account add new --password-hash-stdin",
            PASSWORD,
            "password hash is neither argon2 nor werkzeug's scrypt or pbkdf2",
        ),
        ("role add admin --name x", "", "this code is already in use"),
        ("role grant nosuch x", "", "no role has this code (`flask role list` shows them)"),
        ("appcfg set []", "", "appcfg must be a JSON object of up to 16384 characters"),
    ],
)
def test_a_refused_command_says_why_in_one_line(line: str, stdin: str, refusal: str, command: Commands) -> None:
    """And fails."""
    assert command.refusal(*line.split(), stdin=stdin) == refusal


def test_a_database_without_tables_is_told(make_app: MakeApp, postgresql: Databases) -> None:
    """With the command that makes them."""
    command = Commands(make_app(AUTHSVC_DATABASE_URL=postgresql.empty()))
    told = command.run("account", "list").stderr.splitlines()[-1]
    assert told == f"Error: the database does not answer: {causes.TABLES}"


def test_a_command_makes_neither_a_database_nor_a_key(sqlite: Databases) -> None:
    """It says that there is none, in one line, and leaves nothing behind."""
    folder = Path(str(make_url(sqlite.empty()).database)).parent
    environ = {"PATH": os.environ["PATH"], "AUTHSVC_DATABASE_URL": f"sqlite:///{folder}/authsvc.db"}
    flask = [sys.executable, "-m", "flask", "account", "list"]
    for key in ({}, {"AUTHSVC_SECRET_KEY": SECRET_KEY}):
        done = subprocess.run(flask, cwd=ROOT, env=environ | key, capture_output=True, text=True, check=False)
        assert done.returncode
        assert len(done.stderr.splitlines()) == 1
        assert list(folder.iterdir()) == []


def test_no_refusal_shows_a_password(command: Commands) -> None:
    """Not even one that was refused."""
    result = command.run("account", "password", "user", "--password-stdin", stdin="qwertyuiop\n")
    assert "qwertyuiop" not in result.output


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (
            ["account", "set", "user", "--avatar", "javascript:alert(1)"],
            "avatar must be a path or an http(s) URL of up to 512 characters",
        ),
        (
            ["role", "add", "new", "--name", "\u202eresU"],
            "name has control, bidirectional, zero-width or other invisible characters",
        ),
        (
            ["appcfg", "set", '{"a": "' + "x" * 16384 + '"}'],
            "appcfg must be a JSON object of up to 16384 characters",
        ),
    ],
)
def test_what_could_harm_whoever_sees_it_is_refused(line: list[str], refusal: str, command: Commands) -> None:
    """In one line, which does not repeat it."""
    assert command.refusal(*line) == refusal


@pytest.mark.parametrize(
    ("stored", "refusal"),
    [
        (generate_password_hash(PASSWORD, "pbkdf2:sha1:400000"), "is too weak: MD5 or SHA-1, or too few iterations"),
        (f"pbkdf2:sha256:{10**8}$salt${'0' * 64}", "costs more than 10 hashes of this service"),
        (f"scrypt:-2:8:1$salt${'0' * 128}", "is neither argon2 nor werkzeug's scrypt or pbkdf2"),
    ],
    ids=["weak", "dear", "damaged"],
)
def test_a_hash_that_cannot_be_imported_is_one_line(stored: str, refusal: str, command: Commands) -> None:
    """No traceback, and no account."""
    said = command.refusal("account", "add", "new", "--password-hash-stdin", stdin=stored + "\n")
    assert said == f"password hash {refusal}"
    assert command.refusal("account", "show", "new") == "no account has this key"


def test_the_version_is_told(command: Commands) -> None:
    """Of the service, of Python, and of the schema that it needs."""
    assert command("version") == f"authsvc {__version__}, Python {platform.python_version()}, schema {REVISION}\n"

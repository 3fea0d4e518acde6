"""The administrator's command line."""

import json
import os
import platform
import subprocess
import sys

import pytest
from werkzeug.security import generate_password_hash

from authsvc import __version__
from authsvc.store.tables import REVISION
from tests.conftest import Commands, MakeApp
from tests.databases import PASSWORD, PHONE, SECRET_KEY, Databases
from tests.dialects import Auth
from tests.servers import ROOT

COMMANDS = [
    "account",
    *(f"account {verb}" for verb in ("add", "list", "show", "set", "password", "disable", "enable")),
    *(f"account {verb}" for verb in ("sessions", "logout")),
    "role",
    *(f"role {verb}" for verb in ("add", "list", "grant", "revoke")),
    "appcfg",
    "appcfg get",
    "appcfg set",
    "db upgrade",
    "db current",
    "version",
]
SHOWN = {
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
    stored = generate_password_hash(NEW_PASSWORD, "pbkdf2:sha256:10")
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
    assert [list(account) for account in listed] == [list(SHOWN)] * 2
    assert [account["name"] for account in listed] == ["admin", "user"]


@pytest.mark.usefixtures("token")
def test_account_show_is_a_plain_table_for_people(command: Commands) -> None:
    """A field a line."""
    assert command("account", "show", "user").splitlines() == [
        "id          2",
        "name        user",
        f"phone       {PHONE}",
        "role        user",
        "permission  0",
        "disabled    no",
        "otp         no",
        "created     2026-02-02T02:40:00+00:00",
        "last_login  2026-02-02T02:40:00+00:00",
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


# Roles and the console's configuration


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
        ("appcfg set []", "", "appcfg must be a JSON object"),
    ],
)
def test_a_refused_command_says_why_in_one_line(line: str, stdin: str, refusal: str, command: Commands) -> None:
    """And fails."""
    assert command.refusal(*line.split(), stdin=stdin) == refusal


def test_a_database_without_tables_is_told(make_app: MakeApp, databases: Databases) -> None:
    """With the command that makes them."""
    command = Commands(make_app(AUTHSVC_DATABASE_URL=databases.empty()))
    told = command.run("account", "list").stderr.splitlines()[-1]
    assert told == "Error: the database does not answer, or lacks its tables (`flask db upgrade` makes them)"


def test_no_refusal_shows_a_password(command: Commands) -> None:
    """Not even one that was refused."""
    result = command.run("account", "password", "user", "--password-stdin", stdin="qwertyuiop\n")
    assert "qwertyuiop" not in result.output


def test_the_version_is_told(command: Commands) -> None:
    """Of the service, of Python, and of the schema that it needs."""
    assert command("version") == f"authsvc {__version__}, Python {platform.python_version()}, schema {REVISION}\n"

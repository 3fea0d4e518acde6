"""The administrator's commands: `flask account`, `flask role`, `flask appcfg`."""

import json
import platform
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click
import segno
from flask import Flask
from flask.cli import AppGroup, with_appcontext

from authsvc import errors, logs
from authsvc.accounts import Account
from authsvc.administration import DEFAULT_ROLE, Administration
from authsvc.identifiers import Key, is_text, parse_key
from authsvc.parts import parts
from authsvc.store.tables import REVISION

REFUSALS: dict[type[errors.Refusal], str] = {
    errors.BadParameter: "{}",
    errors.UnknownAccount: "no account has this key",
    errors.UnknownRole: "no role has this code (`flask role list` shows them)",
    errors.Conflict: "this {} is already in use",
    errors.Busy: "too many passwords wait to be hashed; try again",
    errors.Unavailable: "the database does not answer, or lacks its tables (`flask db upgrade` makes them)",
}
"""What each refusal is to a person at a terminal; `{}` stands for what the refusal says of itself."""


class _Command(click.Command):
    """A command whose refusals end it with one line on standard error and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        # Standard output belongs to the command: audit events go to standard error.
        logs.configure(parts().config.log_level, sys.stderr)
        try:
            return super().invoke(ctx)
        except errors.Refusal as refusal:
            raise click.ClickException(REFUSALS[type(refusal)].format(refusal)) from None


class _Group(AppGroup):
    command_class = _Command


class _KeyType(click.ParamType[Key]):
    """A KEY, read as `/AccAdmin/doLogin` reads it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Key:
        if not is_text(value):
            self.fail("is not text", param, ctx)
        return parse_key(value)


_account_key = click.argument("key", type=_KeyType())
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, one line."
)
_phone = click.option("--phone", help="11 digits; can be used to log in at /AccAdmin.")
_avatar = click.option("--avatar", metavar="URL", help="Where the console finds the picture.")
_permission = click.option("--permission", type=click.IntRange(0, 2**63 - 1), help="The integer bit mask of /api/auth.")

account_group = _Group("account", help="Accounts. KEY is an id, a name or a phone, as at /AccAdmin/doLogin.")
role_group = _Group("role", help="Roles and the permission codes they grant.")
appcfg_group = _Group("appcfg", help="The JSON object that the sa-plus console gets as appCfg.")


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    for each in (account_group, role_group, appcfg_group, version):
        app.cli.add_command(each)


@click.command("version")
@with_appcontext
def version() -> None:
    """Show the versions of authsvc and Python, and which schema this code needs."""
    click.echo(f"authsvc {parts().version}, Python {platform.python_version()}, schema {REVISION}")


def _administration() -> Administration:
    return parts().administration


@account_group.command("add")
@click.argument("name")
@click.option("--role", default=DEFAULT_ROLE, show_default=True, metavar="CODE", help="The role's code.")
@_phone
@_avatar
@_permission
@click.option("--created-by", type=_KeyType(), metavar="KEY", help="The account that is noted as the creator.")
@_password_stdin
@click.option(
    "--password-hash-stdin", is_flag=True, help="Read a hash instead: argon2, or werkzeug's scrypt or pbkdf2."
)
def account_add(
    name: str,
    role: str,
    phone: str | None,
    avatar: str | None,
    permission: int | None,
    created_by: Key | None,
    password_stdin: bool,
    password_hash_stdin: bool,
) -> None:
    """Create the account NAME; asks for its password."""
    if password_stdin and password_hash_stdin:
        raise click.UsageError("--password-stdin and --password-hash-stdin exclude each other.")
    account_id = _administration().add_account(
        name,
        password=None if password_hash_stdin else _password(password_stdin),
        password_hash=_line_of_stdin() if password_hash_stdin else None,
        role=role,
        phone=phone,
        avatar=avatar,
        permission=permission or 0,
        created_by=created_by,
    )
    click.echo(f"Account {account_id} created.")


@account_group.command("list")
@_as_json
def account_list(as_json: bool) -> None:
    """List all accounts."""
    _show([_account_fields(account) for account in _administration().accounts()], as_json)


@account_group.command("show")
@_account_key
@_as_json
def account_show(key: Key, as_json: bool) -> None:
    """Show one account."""
    fields = _account_fields(_administration().account(key))
    if as_json:
        click.echo(json.dumps(fields, ensure_ascii=False))
    else:
        _table([[name, _cell(value)] for name, value in fields.items()])


@account_group.command("set")
@_account_key
@_phone
@_avatar
@click.option("--role", metavar="CODE", help="The role's code.")
@_permission
def account_set(key: Key, phone: str | None, avatar: str | None, role: str | None, permission: int | None) -> None:
    """Change what is given; an empty --phone or --avatar removes it."""
    _administration().change_account(key, phone=phone, avatar=avatar, role=role, permission=permission)
    click.echo("Changed.")


@account_group.command("password")
@_account_key
@_password_stdin
def account_password(key: Key, password_stdin: bool) -> None:
    """Give the account a new password and end its sessions."""
    _administration().account(key)  # an unknown key should not be told only after two prompts
    _administration().set_password(key, _password(password_stdin))
    click.echo("Password changed; its sessions are ended.")


@account_group.command("disable")
@_account_key
def account_disable(key: Key) -> None:
    """Refuse the account's logins and end its sessions."""
    _administration().set_disabled(key, True)
    click.echo("Disabled; its sessions are ended.")


@account_group.command("enable")
@_account_key
def account_enable(key: Key) -> None:
    """Let a disabled account log in again."""
    _administration().set_disabled(key, False)
    click.echo("Enabled.")


@account_group.command("unlock")
@_account_key
def account_unlock(key: Key) -> None:
    """Forget the wrong guesses that were counted against the account."""
    _administration().unlock(key)
    click.echo("Unlocked.")


@account_group.command("otp")
@_account_key
@_as_json
@click.option("--off", is_flag=True, help="Switch two-step verification off.")
def account_otp(key: Key, as_json: bool, off: bool) -> None:
    """Switch two-step verification on with a new seed, at once, and end the account's sessions.

    Shows the QR code for the authenticator app, its otpauth:// URI and ten recovery codes, each good once in place
    of a code. They are shown only now.
    """
    if off:
        _administration().disable_otp(key)
        click.echo("Two-step verification is off; its sessions are ended.", err=as_json)
        return
    enrolment = _administration().enable_otp(key)
    if as_json:
        codes = list(enrolment.recovery_codes)
        click.echo(json.dumps({"uri": enrolment.uri, "secret": enrolment.seed, "recovery_codes": codes}))
        return
    click.echo("\n".join([enrolment.uri, "", "Recovery codes, each good once:", *enrolment.recovery_codes]))
    # Last, and not at any cost: the rest must be seen even on a terminal that cannot show it.
    with suppress(UnicodeEncodeError):
        segno.make(enrolment.uri, micro=False).terminal(compact=True)


@account_group.command("sessions")
@_account_key
@_as_json
def account_sessions(key: Key, as_json: bool) -> None:
    """List the account's live sessions."""
    sessions = [
        {
            "opened": _time(session.opened_at),
            "last_seen": _time(session.last_seen_at),
            "ends": _time(session.ends_at),
            "address": session.address,
            "user_agent": session.user_agent,
        }
        for session in _administration().sessions(key)
    ]
    _show(sessions, as_json)


@account_group.command("logout")
@_account_key
def account_logout(key: Key) -> None:
    """End all sessions of the account."""
    click.echo(f"{_administration().end_sessions(key)} sessions ended.")


@role_group.command("add")
@click.argument("code")
@click.option("--name", required=True, help="What people call it.")
def role_add(code: str, name: str) -> None:
    """Create the role CODE, which grants nothing yet."""
    _administration().add_role(code, name)
    click.echo("Role created.")


@role_group.command("list")
@_as_json
def role_list(as_json: bool) -> None:
    """List all roles."""
    roles = [
        {"id": role.id, "code": role.code, "name": role.name, "permissions": role.permissions}
        for role in _administration().roles()
    ]
    _show(roles, as_json)


@role_group.command("grant")
@click.argument("code")
@click.argument("permissions", nargs=-1, required=True, metavar="PERM...")
def role_grant(code: str, permissions: tuple[str, ...]) -> None:
    """Let the role CODE grant permission codes; in force at the next request."""
    _administration().grant(code, permissions)
    click.echo("Granted.")


@role_group.command("revoke")
@click.argument("code")
@click.argument("permissions", nargs=-1, required=True, metavar="PERM...")
def role_revoke(code: str, permissions: tuple[str, ...]) -> None:
    """Let the role CODE no longer grant permission codes; in force at the next request."""
    _administration().revoke(code, permissions)
    click.echo("Revoked.")


@appcfg_group.command("get")
def appcfg_get() -> None:
    """Print the console's configuration."""
    click.echo(_administration().appcfg())


@appcfg_group.command("set")
@click.argument("value", metavar="JSON")
def appcfg_set(value: str) -> None:
    """Replace the console's configuration with a JSON object."""
    _administration().set_appcfg(value)
    click.echo("Set.")


def _password(from_stdin: bool) -> str:
    return _line_of_stdin() if from_stdin else str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _line_of_stdin() -> str:
    return sys.stdin.readline().removesuffix("\n").removesuffix("\r")


def _account_fields(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "phone": account.phone,
        "role": account.role_code,
        "permission": account.permission,
        "disabled": account.disabled,
        "otp": account.otp,
        "created": _time(account.created_at),
        "last_login": _time(account.login_at),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
    elif rows:
        _table([list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)])


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)

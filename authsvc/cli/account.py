"""`flask account`."""

import json
import sys
from contextlib import suppress

import click
import segno

from authsvc.accounts import Account
from authsvc.administration import DEFAULT_ROLE
from authsvc.cli.terminal import (
    ID,
    KEY,
    Group,
    administration,
    as_json_option,
    ask,
    cell,
    show,
    table,
    time,
    yes_option,
)
from authsvc.identifiers import INTEGER_MAX, Key

_account_key = click.argument("key", type=KEY)
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, one line."
)
_phone = click.option("--phone", help="11 digits; can be used to log in at /AccAdmin.")
_avatar = click.option("--avatar", metavar="URL", help="Where the console finds the picture.")
_permission = click.option(
    "--permission", type=click.IntRange(0, INTEGER_MAX), help="The integer bit mask of /api/auth."
)

account_group = Group("account", help="Accounts. KEY is an id, a name or a phone, as at /AccAdmin/doLogin.")


@account_group.command("add")
@click.argument("name")
@click.option("--id", "account_id", type=ID, metavar="N", help="Its id, where it must be a certain one.")
@click.option("--role", default=DEFAULT_ROLE, show_default=True, metavar="CODE", help="The role's code.")
@_phone
@_avatar
@_permission
@click.option("--created-by", type=KEY, metavar="KEY", help="The account that is noted as the creator.")
@_password_stdin
@click.option(
    "--password-hash-stdin", is_flag=True, help="Read a hash instead: argon2, or werkzeug's scrypt or pbkdf2."
)
def account_add(
    name: str,
    account_id: int | None,
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
    added = administration().add_account(
        name,
        account_id=account_id,
        ask_password=lambda: _password(password_stdin),
        password_hash=_line_of_stdin() if password_hash_stdin else None,
        role=role,
        phone=phone,
        avatar=avatar,
        permission=permission or 0,
        created_by=created_by,
    )
    click.echo(f"Account {added} created.")


@account_group.command("list")
@click.option("--search", metavar="TEXT", help="Those whose name or phone contains it.")
@click.option("--role", metavar="CODE", help="Those with this role.")
@click.option("--disabled", is_flag=True, help="Those that are disabled.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N of them.")
@as_json_option
def account_list(search: str | None, role: str | None, disabled: bool, limit: int | None, as_json: bool) -> None:
    """List accounts, oldest first: all of them, or those that fit."""
    accounts = administration().accounts(search=search, role=role, disabled=disabled, limit=limit)
    show([_account_fields(account) for account in accounts], as_json, "accounts")


@account_group.command("show")
@_account_key
@as_json_option
def account_show(key: Key, as_json: bool) -> None:
    """Show one account, and the wrong guesses that are counted against it."""
    account = administration().account(key)
    guesses = administration().guesses(account)
    fields = _account_fields(account) | {
        "locked_until": time(guesses.locked_until),
        "recent_failures": guesses.recent_failures,
    }
    if as_json:
        click.echo(json.dumps(fields, ensure_ascii=False))
    else:
        table([[name, cell(value)] for name, value in fields.items()])


@account_group.command("set")
@_account_key
@click.option("--name", help="What it is called from now on; its id stays.")
@_phone
@_avatar
@click.option("--role", metavar="CODE", help="The role's code.")
@_permission
def account_set(
    key: Key, name: str | None, phone: str | None, avatar: str | None, role: str | None, permission: int | None
) -> None:
    """Change what is given; an empty --phone or --avatar removes it."""
    administration().change_account(key, name=name, phone=phone, avatar=avatar, role=role, permission=permission)
    click.echo("Changed.")


@account_group.command("password")
@_account_key
@_password_stdin
def account_password(key: Key, password_stdin: bool) -> None:
    """Give the account a new password and end its sessions."""
    administration().account(key)  # an unknown key should not be told only after two prompts
    administration().set_password(key, _password(password_stdin))
    click.echo("Password changed; its sessions are ended.")


@account_group.command("disable")
@_account_key
def account_disable(key: Key) -> None:
    """Refuse the account's logins and end its sessions."""
    administration().set_disabled(key, True)
    click.echo("Disabled; its sessions are ended.")


@account_group.command("enable")
@_account_key
def account_enable(key: Key) -> None:
    """Let a disabled account log in again."""
    administration().set_disabled(key, False)
    click.echo("Enabled.")


@account_group.command("unlock")
@_account_key
def account_unlock(key: Key) -> None:
    """Forget the wrong guesses that were counted against the account."""
    administration().unlock(key)
    click.echo("Unlocked.")


@account_group.command("delete")
@_account_key
@yes_option
def account_delete(key: Key, yes: bool) -> None:
    """Delete the account with all that is its own; its trail stays, and its id is never given again."""
    account = administration().account(key)
    ask(f"Delete account {account.id}, {account.name}?", yes)
    administration().delete_account(Key("id", account.id))
    click.echo("Deleted.")


@account_group.command("otp")
@_account_key
@as_json_option
@click.option("--off", is_flag=True, help="Switch two-step verification off.")
def account_otp(key: Key, as_json: bool, off: bool) -> None:
    """Switch two-step verification on with a new seed, at once, and end the account's sessions.

    Shows the QR code for the authenticator app, its otpauth:// URI and ten recovery codes, each good once in place
    of a code. They are shown only now.
    """
    if off:
        administration().disable_otp(key)
        click.echo("Two-step verification is off; its sessions are ended.", err=as_json)
        return
    enrolment = administration().enable_otp(key)
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
@as_json_option
def account_sessions(key: Key, as_json: bool) -> None:
    """List the account's live sessions."""
    sessions = [
        {
            "opened": time(session.opened_at),
            "last_seen": time(session.last_seen_at),
            "ends": time(session.ends_at),
            "address": session.address,
            "user_agent": session.user_agent,
        }
        for session in administration().sessions(key)
    ]
    show(sessions, as_json, "live sessions")


@account_group.command("logout")
@_account_key
def account_logout(key: Key) -> None:
    """End all sessions of the account."""
    click.echo(f"{administration().end_sessions(key)} sessions ended.")


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
        "created": time(account.created_at),
        "last_login": time(account.login_at),
    }

"""What all commands share: how they run, what a refusal is to a person, how values are asked for and shown."""

import getpass
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import AppGroup

from authsvc import errors, logs
from authsvc.administration import Administration
from authsvc.events import Actor, acting
from authsvc.identifiers import INTEGER_MAX, Key, is_text, parse_key
from authsvc.parts import parts

REFUSALS: dict[type[errors.Refusal], str] = {
    errors.BadParameter: "{}",
    errors.UnknownAccount: "no account has this key",
    errors.UnknownRole: "no role has this code (`flask role list` shows them)",
    errors.Conflict: "this {} is already in use",
    errors.RoleInUse: "accounts have this role (`flask account list --role CODE` shows them)",
    errors.UnusableLines: "{} lines cannot be used; nothing was imported",
    errors.ChangedMeanwhile: "somebody changed accounts meanwhile; nothing was imported, try again",
    errors.Busy: "too many passwords wait to be hashed; try again",
    errors.Unavailable: "the database does not answer: {}",
}
"""What each refusal is to a person at a terminal; `{}` stands for what the refusal says of itself."""


class _Command(click.Command):
    """A command whose refusals end it with one line on standard error and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        # Standard output belongs to the command: audit events go to standard error.
        logs.configure(parts().config.log_level, sys.stderr)
        acts = acting.set(Actor(_operator()))
        umask = os.umask(0o077)  # whatever a command writes holds what others must not read
        try:
            return super().invoke(ctx)
        except errors.Refusal as refusal:
            kind = next(kind for kind in type(refusal).__mro__ if kind in REFUSALS)
            raise click.ClickException(REFUSALS[kind].format(refusal)) from None
        finally:
            os.umask(umask)
            acting.reset(acts)


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need have no name
        return f"uid {os.getuid()}"


class Group(AppGroup):
    """Commands of ours."""

    command_class = _Command


class _KeyType(click.ParamType[Key]):
    """A KEY, read as `/AccAdmin/doLogin` reads it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Key:
        if not is_text(value):
            self.fail("is not text", param, ctx)
        return parse_key(value)


KEY = _KeyType()
ID = click.IntRange(1, INTEGER_MAX)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask first.")


def administration() -> Administration:
    """The administrator's verbs."""
    return parts().administration


def ask(question: str, yes: bool) -> None:
    """Go on only if a person agrees, or has agreed beforehand."""
    if not yes:
        click.confirm(question, abort=True)


def time(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def show(rows: Sequence[dict[str, Any]], as_json: bool, what: str) -> None:
    """Print rows, as a table or as JSON; a person is told where there is none of `what`."""
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
    elif rows:
        table([list(rows[0]), *([cell(value) for value in row.values()] for row in rows)])
    else:
        click.echo(f"No {what}.")


def cell(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns one below the other."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)

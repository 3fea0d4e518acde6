"""`flask history` and `flask account history`: the trail."""

import json
from collections.abc import Iterable
from datetime import datetime

import click

from authsvc.cli.account import account_group
from authsvc.cli.terminal import KEY, Group, administration, as_json_option, cell, time
from authsvc.events import Event, Happening
from authsvc.identifiers import Key
from authsvc.parts import parts

_EVENT = click.Choice([event.value for event in Event])
_COLUMNS = "{:25}  {:21}  {:>10}  {:16}  {:15}  {}"


class _TimeType(click.ParamType[float]):
    """A time: ISO 8601, or without a zone in AUTHSVC_TIMEZONE."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo else at.replace(tzinfo=parts().config.timezone)).timestamp()
        except (ValueError, OverflowError):
            self.fail("is not a time, such as 2026-11-21T07:36:37+08:00 or 2026-11-21", param, ctx)


# A group only for what its commands share: `flask history` is one of `flask` itself.
_top = Group()


@_top.command("history")
@click.option("--since", type=_TimeType(), metavar="TIME", help="ISO 8601; AUTHSVC_TIMEZONE without a zone.")
@click.option("--event", type=_EVENT, metavar="NAME", help="One kind of event, such as login.refused.")
@as_json_option
def history(since: float | None, event: str | None, as_json: bool) -> None:
    """Show what happened to accounts and roles, newest first."""
    _show(administration().history(since=since or 0.0, event=event), as_json)


@account_group.command("history")
@click.argument("key", type=KEY)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The newest N.")
@as_json_option
def account_history(key: Key, limit: int | None, as_json: bool) -> None:
    """Show what happened to an account, newest first; by its id that of a deleted one, too."""
    _show(administration().history(key, limit=limit), as_json)


def _show(happenings: Iterable[Happening], as_json: bool) -> None:
    """Line by line: there may be many."""
    head = "["
    for one in happenings:
        fields = {
            "at": time(one.at),
            "event": one.event,
            "account_id": one.account_id,
            "by": one.by,
            "address": one.address,
            "detail": one.detail,
        }
        if as_json:
            click.echo(f"{head}{json.dumps(fields, ensure_ascii=False)}", nl=False)
            head = ",\n "
        else:
            if head:
                click.echo(_COLUMNS.format(*fields))
                head = ""
            detail = " ".join(f"{name}={_plain(value)}" for name, value in one.detail.items())
            click.echo(_COLUMNS.format(*(cell(value) for value in [*fields.values()][:-1]), detail).rstrip())
    if as_json:
        click.echo("[]" if head == "[" else "]")
    elif head:
        click.echo("Nothing is known.")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""`flask data`: accounts in and out, and what is stored looked over."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import click

from authsvc.cli.terminal import Group
from authsvc.errors import Unavailable
from authsvc.parts import parts

data_group = Group("data", help="All accounts, roles and appCfg: bring them out, in, and look them over.")


@data_group.command("export")
@click.option("--sessions", is_flag=True, help="With who is logged in.")
@click.argument("file", default="-", type=click.Path(dir_okay=False, path_type=Path))
def data_export(sessions: bool, file: Path) -> None:
    """Write everything to FILE or standard output, as JSON lines; the service may go on.

    It is a backup, and the way to another database. The file is readable by its owner only; it holds password hashes.
    Two-step seeds and sessions are of use with the same secret key only.
    """
    count = 0
    with _progress() as progress, _opened(file) as out:
        try:
            for line in parts().transfer.export(sessions=sessions):
                out.write(f"{line}\n")
                count += 1
                if count % 1000 == 0 and out is not sys.stdout:
                    progress("lines", count)
            out.flush()
        except OSError as error:
            raise click.ClickException(f"the export is not complete: {error.strerror}") from None
    click.echo(f"{count} lines exported.", err=True)


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Where to write. A file that was there is replaced only when the new one is complete."""
    if str(file) == "-":
        try:
            yield sys.stdout
        except click.ClickException:
            # What could not be written would be tried once more at exit, with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise
        return
    if file.exists() and not file.is_file():  # a pipe, a device
        with file.open("w", encoding="utf-8") as pipe:
            yield pipe
        return
    try:
        out = tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False)  # noqa: SIM115 - below
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    try:
        with out:
            yield cast(TextIO, out)
            out.flush()
            os.fsync(out.fileno())
        Path(out.name).replace(file)
    except BaseException:
        Path(out.name).unlink()
        raise


@data_group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Only say what would be made and changed.")
def data_import(file: BinaryIO, dry_run: bool) -> None:
    """Make and change accounts, roles and appCfg as the lines of FILE (or -) say: all of it, or nothing.

    A line whose id is there (without one: whose name, or a role's code) changes what it names; any other makes one.
    """
    with _progress() as progress:
        imported = parts().transfer.import_lines(
            file,
            dry_run=dry_run,
            tell=lambda line, problem: click.echo(f"line {line}: {problem}", err=True),
            warn=lambda line, problem: click.echo(f"line {line}: note: {problem}", err=True),
            progress=progress,
        )
    width = max(map(len, asdict(imported)))
    for what, count in asdict(imported).items():
        click.echo(f"{what.replace('_', ' '):{width}}  {count}")
    click.echo("Nothing was changed: this was a dry run." if dry_run else "Imported.")


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Shows how far the work is, in one line, if standard error is a terminal."""
    shown = sys.stderr.isatty()

    def tell(what: str, count: int) -> None:
        if shown:
            click.echo(f"\r{count} {what}\x1b[K", nl=False, err=True)

    try:
        yield tell
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)


@data_group.command("check")
@click.pass_context
def data_check(ctx: click.Context) -> None:
    """Tell what goes wrong or will, a line each: a lost key, damaged hashes or seeds, another schema, no room."""
    upkeep = parts().upkeep
    problems = 0
    for problem in upkeep.problems():
        click.echo(problem)
        problems += 1
    with suppress(Unavailable):  # it was told
        for risk in parts().database.risks(parts().config.database_connections * parts().config.workers):
            click.echo(f"{risk.id}: {risk.text}: {risk.hint}.")
            problems += 1
        click.echo(f"{upkeep.waiting()} password hashes are imported or outdated, and wait for a login.")
    if problems:
        ctx.exit(1)
    click.echo("Nothing is wrong.")


@data_group.command("reencrypt")
@click.pass_context
def data_reencrypt(ctx: click.Context) -> None:
    """Bring all two-step seeds under the newest secret key; after that an older one can go."""
    changed, unreadable = parts().upkeep.reencrypt()
    click.echo(f"{changed} seeds are under the newest key now.")
    for account_id in unreadable:
        click.echo(f"Account {account_id}: its two-step seed is under no known secret key, or damaged.", err=True)
    if unreadable:
        ctx.exit(1)

"""`flask version`."""

import platform

import click
from flask.cli import with_appcontext

from authsvc.parts import parts
from authsvc.store.tables import REVISION


@click.command("version")
@with_appcontext
def version() -> None:
    """Show the versions of authsvc and Python, and which schema this code needs."""
    click.echo(f"authsvc {parts().version}, Python {platform.python_version()}, schema {REVISION}")

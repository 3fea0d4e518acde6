"""`flask appcfg`: what the console gets as appCfg."""

import click

from authsvc.cli.terminal import Group, administration

appcfg_group = Group("appcfg", help="The JSON object that the sa-plus console gets as appCfg.")


@appcfg_group.command("get")
def appcfg_get() -> None:
    """Print the console's configuration."""
    click.echo(administration().appcfg())


@appcfg_group.command("set")
@click.argument("value", metavar="JSON")
def appcfg_set(value: str) -> None:
    """Replace the console's configuration with a JSON object."""
    administration().set_appcfg(value)
    click.echo("Set.")

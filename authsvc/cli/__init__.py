"""The administrator's commands, by Flask's own `flask`."""

import click
from flask import Flask

from authsvc.cli.account import account_group
from authsvc.cli.appcfg import appcfg_group
from authsvc.cli.data import data_group
from authsvc.cli.history import history
from authsvc.cli.role import role_group
from authsvc.cli.version import version
from authsvc.store import DOWNGRADE

click.confirmation_option(prompt="This drops tables or columns and what is in them. Go on?")(DOWNGRADE)


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    for command in (account_group, role_group, appcfg_group, data_group, history, version):
        app.cli.add_command(command)

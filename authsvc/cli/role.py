"""`flask role`: the permission codes that the console gets as perList."""

import click

from authsvc.cli.terminal import ID, Group, administration, as_json_option, ask, show, yes_option

role_group = Group("role", help="Roles and the permission codes they grant.")


@role_group.command("add")
@click.argument("code")
@click.option("--name", required=True, help="What people call it.")
@click.option("--id", "role_id", type=ID, metavar="N", help="Its id, where it must be a certain one.")
def role_add(code: str, name: str, role_id: int | None) -> None:
    """Create the role CODE, which grants nothing yet."""
    administration().add_role(code, name, role_id)
    click.echo("Role created.")


@role_group.command("list")
@as_json_option
def role_list(as_json: bool) -> None:
    """List all roles."""
    roles = [
        {"id": role.id, "code": role.code, "name": role.name, "permissions": role.permissions}
        for role in administration().roles()
    ]
    show(roles, as_json, "roles")


@role_group.command("set")
@click.argument("code")
@click.option("--code", "new_code", metavar="CODE", help="Its code from now on.")
@click.option("--name", help="What people call it from now on.")
def role_set(code: str, new_code: str | None, name: str | None) -> None:
    """Change the role CODE; whoever has it keeps it."""
    administration().change_role(code, new_code=new_code, name=name)
    click.echo("Changed.")


@role_group.command("delete")
@click.argument("code")
@yes_option
def role_delete(code: str, yes: bool) -> None:
    """Delete the role CODE, which no account may have."""
    administration().role(code)  # an unknown one should not be asked about
    ask(f"Delete role {code}?", yes)
    administration().delete_role(code)
    click.echo("Deleted.")


@role_group.command("grant")
@click.argument("code")
@click.argument("permissions", nargs=-1, required=True, metavar="PERM...")
def role_grant(code: str, permissions: tuple[str, ...]) -> None:
    """Let the role CODE grant permission codes; in force at the next request."""
    administration().grant(code, permissions)
    click.echo("Granted.")


@role_group.command("revoke")
@click.argument("code")
@click.argument("permissions", nargs=-1, required=True, metavar="PERM...")
def role_revoke(code: str, permissions: tuple[str, ...]) -> None:
    """Let the role CODE no longer grant permission codes; in force at the next request."""
    administration().revoke(code, permissions)
    click.echo("Revoked.")

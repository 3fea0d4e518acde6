"""Which module may know which, read from the imports themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "authsvc"

# Lowest first. A module knows only modules of lines above its own; those of one line do not know each other.
ORDER = [
    {"errors", "logs", "otp", "models", "batching"},
    {"identifiers", "hash_thread", "tokens"},
    {"passwords", "throttle"},
    {"config", "repository"},
    {"sessions"},
    {"service", "administration"},
    {"database", "web.incoming"},
    {"web.envelope"},
    {"web.api_auth", "web.acc_admin", "web.health", "web.description"},
    {"web.shortcut"},
    {"web", "cli"},
    {""},  # authsvc itself, the factory
    {"server"},
]

# Who may know the libraries that shape a program: everybody else stays free of them.
ALLOWED = {
    "flask": {"", "cli", "database", "server", "web", *(f"web.{name}" for name in ("incoming", "envelope"))}
    | {"web.api_auth", "web.acc_admin", "web.health", "web.description"},
    "flask_sqlalchemy": {"database"},
    "flask_migrate": {""},
    "flask_cors": {"web"},
    "werkzeug": {"passwords", "web", "web.incoming", "web.envelope", "web.api_auth", "web.acc_admin"},
    "itsdangerous": {"tokens"},
    "argon2": {"passwords"},
    "cryptography": {"otp"},
    "pyotp": {"otp"},
    "psycopg": {"database"},
    "sqlalchemy": {"config", "database", "models", "repository"},
    "granian": {"server"},
    "click": {"cli"},
}

# With these a query is written or run.
QUERYING = {"select", "insert", "update", "delete", "text", "table", "func"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name inside it, parsed."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        named[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text("utf-8"))
    return named


MODULES = modules()


def imports(module: str) -> Iterator[tuple[str, str]]:
    """What a module imports: from where, and the name."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield from ((node.module or "", alias.name) for alias in node.names)


def known_by(module: str) -> set[str]:
    """The package's own modules that a module imports."""
    known = set()
    for source, name in imports(module):
        if f"{source}.".startswith("authsvc."):
            inside = source.removeprefix("authsvc").removeprefix(".")
            submodule = f"{inside}.{name}".removeprefix(".")
            known.add(submodule if submodule in MODULES else inside)
    return known


def test_every_module_has_its_place() -> None:
    """A new module is given a place in the order before it is used."""
    assert sorted(MODULES) == sorted(set().union(*ORDER))


@pytest.mark.parametrize("level", range(len(ORDER)))
def test_imports_point_one_way(level: int) -> None:
    """A module knows only what stands lower: no circles, and no dialect knows the other."""
    lower = set().union(*ORDER[:level])
    assert {module: known_by(module) - lower for module in ORDER[level]} == {module: set() for module in ORDER[level]}


@pytest.mark.parametrize("library", ALLOWED)
def test_libraries_stay_where_they_belong(library: str) -> None:
    """Only `web` speaks HTTP, only `repository` speaks to the database, only `tokens` knows itsdangerous, and so on."""
    users = {module for module in MODULES for source, _ in imports(module) if source.partition(".")[0] == library}
    assert users == ALLOWED[library]


def test_only_the_repository_holds_queries() -> None:
    """Whoever looks for a query knows where to look."""
    writers = {
        module
        for module in MODULES
        for source, name in imports(module)
        if source.partition(".")[0] == "sqlalchemy" and name in QUERYING
    }
    assert writers == {"repository"}

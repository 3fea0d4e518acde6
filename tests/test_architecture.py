"""Two folders, two rules: HTTP ends at `web/`, SQL ends at `store/`. And floors: nobody knows who stands above.

Read from the imports. What lies between the folders can be read without knowing either.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from authsvc.web import DIALECTS

PACKAGE = Path(__file__).parent.parent / "authsvc"

# Lowest first. On a floor there may be an order, too; a folder stands on one floor as a whole.
FLOORS = [
    {
        "errors",
        "events",
        "logs",
        "identifiers",
        "accounts",
        "sessions",
        "metrics",
        "throttle",
        "records",
    }  # values, their rules
    | {"passwords", "hash_thread", "otp", "tokens"},
    {"store"},
    {"authentication", "service", "own_account", "administration", "transfer", "upkeep"},  # policy
    {"config", "parts"},
    {"web", "cli"},
    {"__init__"},  # the factory
    {"server"},
]

HTTP = {"flask", "flask_cors", "granian", "http", "werkzeug"}
SPEAKS_HTTP = {"web", "cli", "parts", "__init__", "server"}
HTTP_ELSEWHERE = {
    ("passwords", "werkzeug.security"),  # the Flask world's hashes, which have nothing to do with HTTP
    ("store.__init__", "flask"),  # Flask-SQLAlchemy and Flask-Migrate are told of their application
    ("store.schema", "flask"),
}
SQL = {"alembic", "flask_migrate", "flask_sqlalchemy", "psycopg", "sqlalchemy", "sqlite3"}
SQL_ELSEWHERE = {("config", "sqlalchemy")}  # the database's URL
# Wrapped once, so that they can be replaced in one place.
AT_HOME = {"argon2": "passwords", "click": "cli", "cryptography": "otp", "itsdangerous": "tokens", "pyotp": "otp"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> Iterator[tuple[str, str]]:
    """What a module imports: from where, and the name."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            yield from ((node.module or "", alias.name) for alias in node.names)


def known_by(module: str) -> Iterator[str]:
    """The package's own modules that a module imports."""
    for source, name in imports(module):
        if f"{source}.".startswith("authsvc."):
            places = (f"{source}.{name}", f"{source}.{name}.__init__", source, f"{source}.__init__")
            yield next(module for place in places if (module := place.removeprefix("authsvc.")) in MODULES)


def room(module: str) -> str:
    """Where a module stands, or belongs to: its folder or library, or itself."""
    return module.partition(".")[0]


def users(libraries: set[str]) -> set[tuple[str, str]]:
    """Who imports from one of these libraries, and from which of its modules."""
    return {(module, source) for module in MODULES for source, _ in imports(module) if room(source) in libraries}


def test_every_room_has_its_floor() -> None:
    """A new module is given a floor before it is used, and a floor names nobody who has left."""
    assert sorted(set(map(room, MODULES))) == sorted(name for rooms in FLOORS for name in rooms)


def test_nobody_knows_who_stands_above() -> None:
    """A module knows only its own floor and those below."""
    floors = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    known = ((one, other) for one in MODULES for other in known_by(one))
    assert [(one, other) for one, other in known if floors[room(other)] > floors[room(one)]] == []


def test_there_is_no_circle() -> None:
    """Nobody knows itself, by whatever way round."""
    TopologicalSorter({module: set(known_by(module)) for module in MODULES}).prepare()


def test_no_dialect_knows_another() -> None:
    """Each can be read, and taken away, alone."""
    dialects = {dialect.blueprint.import_name.removeprefix("authsvc.") for dialect in DIALECTS}
    assert [(one, other) for one in dialects for other in known_by(one) if other in dialects] == []


def test_http_ends_at_web() -> None:
    """Only `web/`, and what builds, commands and runs the application, knows Flask and what is around it."""
    assert {user for user in users(HTTP) if room(user[0]) not in SPEAKS_HTTP} == HTTP_ELSEWHERE


def test_sql_ends_at_store() -> None:
    """Only `store/` knows SQLAlchemy, a driver, or a migration."""
    assert {user for user in users(SQL) if room(user[0]) != "store"} == SQL_ELSEWHERE


def test_each_library_has_one_home() -> None:
    """Nobody else knows it."""
    assert {(room(source), room(module)) for module, source in users(set(AT_HOME))} == set(AT_HOME.items())

"""`python -m tests.mutation [MODULE ...]`: small mistakes are made in policy and store; the tests are to notice each.

mutmut makes the mistakes (mutants), and tries each in a process of its own on the tests that reach its function.
A module is named as in `tool.mutmut` of pyproject.toml, without `authsvc` (`tokens`, `store.repository`); without one,
all are judged. With `--survivors` only those are that no test noticed, or that a stopped run left. A mutant is judged
alone by its full name. What was found stays in `.mutation/`; to begin anew, remove it.

Mutants are made of functions, also of decorated ones; not of what is done on import (constants, fields, tables). Tests
with servers in processes of their own are left out. A survivor is shown by its diff: `- ` the service, `+ ` the mutant.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest

from tests.postgres import running_postgres
from tests.servers import ROOT

_HERE = ROOT / ".mutation"
_VERDICTS = {1: "killed", 3: "killed", 0: "survived", 33: "untested", None: "open", 24: "time-out", 36: "time-out"}
_VERDICTS |= {-24: "time-out", 152: "time-out", 255: "time-out"}
_COLUMNS = ("killed", "time-out", "survived", "untested", "open", "odd")
_ON_POSTGRESQL = (
    "store.postgresql",
    "store.batching",
    "store.repository",
    "store.bulk",
    "store.causes",
    "store.timeouts",
)
"""Whose mutants are tried on PostgreSQL, too, after SQLite; the others on SQLite alone."""


def main() -> None:
    """Judge what was asked for, and print what became of it."""
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="MODULE", help="or the full name of a mutant")
    parser.add_argument("--survivors", action="store_true", help="only those that are not known to be killed")
    parser.add_argument("--report", action="store_true", help="judge nothing, tell what is known")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    paths = {_module(path): path for path in project["tool"]["mutmut"]["only_mutate"]}
    single = [name for name in arguments.names if "__mutmut_" in name]
    modules = [name for name in arguments.names if name not in single] or ([] if single else list(paths))
    if unknown := set(modules) - set(paths):
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(paths)}")
    if not arguments.report:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *project["dependency-groups"]["mutation"]], check=True
        )
        _prepare(list(paths.values()))
        wanted = single + [name for module in modules for name in _wanted(module, paths[module], arguments.survivors)]
        if wanted:
            with suppress(KeyboardInterrupt):  # what is known by then is told
                _judge(wanted)
    _report({module: paths[module] for module in modules or {_module(name.partition(".x")[0]) for name in single}})


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removeprefix("authsvc.")


def _prepare(mutated: list[str]) -> None:
    for name in ("migrations", "tests", "pyproject.toml", "wsgi.py", "deploy/README.md"):
        link = _HERE / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)
    shutil.rmtree(_HERE / "mutants" / "tests", ignore_errors=True)
    for path in (ROOT / "authsvc").rglob("*"):
        relative = path.relative_to(ROOT)
        if path.is_file() and path.suffix != ".pyc":
            content = path.read_bytes()
            if str(relative) in mutated:
                content = undecorated(content.decode()).encode()
            copy = _HERE / relative
            # mutmut goes by the file's time.
            if not copy.exists() or copy.read_bytes() != content:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)


def undecorated(source: str) -> str:
    """The same module with each decorator called below its function: mutmut leaves decorated functions alone."""
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.end_lineno or 0, reverse=True):
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if decorators and decorators not in (["staticmethod"], ["classmethod"]):
            calls = [f"{' ' * node.col_offset}{node.name} = {each}({node.name})" for each in reversed(decorators)]
            lines[node.end_lineno : node.end_lineno] = calls
            for number in range(node.decorator_list[0].lineno, node.lineno):
                lines[number - 1] = ""
    return "\n".join(lines) + "\n"


def _known(path: str) -> dict[str, int | None]:
    """What became of a file's mutants, by their names."""
    meta = _HERE / "mutants" / f"{path}.meta"
    return json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}


def _wanted(module: str, path: str, survivors: bool) -> Iterator[str]:
    known = _known(path)
    if survivors and known:
        return (name for name, code in known.items() if _VERDICTS.get(code) not in ("killed", "time-out"))
    return iter([f"authsvc.{module}.x*"])


def _judge(names: list[str]) -> None:
    with running_postgres() as postgres, TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)  # tests start PostgreSQL servers in it, as nobody
        # With CI set, hypothesis tries the same examples each time; with a hash seed, tests keep their order.
        environ = {"CI": "1", "PYTHONHASHSEED": "0", "TMPDIR": temporary, "AUTHSVC_TEST_DATABASE_URL": postgres.url()}
        _mutmut("run", "--max-children", str(os.cpu_count()), *names, environ=environ)


def _mutmut(*arguments: str, environ: dict[str, str] | None = None, **options: object) -> str:
    program = Path(sys.executable).with_name("mutmut")
    environ = {**os.environ, **(environ or {})}
    run = subprocess.run([program, *arguments], cwd=_HERE, env=environ, text=True, check=True, **options)  # type: ignore[call-overload]
    return str(run.stdout)


def _report(paths: dict[str, str]) -> None:
    rows, left = [], []
    for module, path in paths.items():
        verdicts = {name: _VERDICTS.get(code, "odd") for name, code in _known(path).items()}
        rows.append((module, Counter(verdicts.values())))
        left += [name for name, verdict in verdicts.items() if verdict not in ("killed", "time-out", "open")]
    for name in left:
        print(_mutmut("show", name, capture_output=True))
    rows.append(("all", sum((counts for _, counts in rows), Counter())))
    print(f"{'module':20}{'mutants':>9}" + "".join(f"{column:>10}" for column in _COLUMNS) + f"{'noticed':>10}")
    for module, counts in rows:
        noticed = (counts["killed"] + counts["time-out"]) / max(1, counts.total() - counts["open"])
        print(
            f"{module:20}{counts.total():9}" + "".join(f"{counts[each]:10}" for each in _COLUMNS) + f"{noticed:10.1%}"
        )


# In the processes that try the mutants, this is a plug-in of pytest's.


def pytest_configure(config: pytest.Config) -> None:
    """Give each process a folder of its own, and collect no more than will be run: there are thousands of tests."""
    config.option.basetemp = mkdtemp()
    mutant = os.environ.get("MUTANT_UNDER_TEST", "")
    module, _, function = mutant.removeprefix("authsvc.").partition(".x")
    if not mutant:
        config.args = config.args[:50]  # all passed when it was found out what they reach
    elif function and module not in _ON_POSTGRESQL:
        config.args = [name for name in config.args if "postgresql" not in name.partition("::")[2]]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take it back."""
    shutil.rmtree(config.option.basetemp, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out servers, which know no mutants; begin with the tests that mirror the mutant's module, on SQLite."""
    mutant = os.environ.get("MUTANT_UNDER_TEST", "")  # or "stats", or "" where the tests are run as they are
    module = mutant.removeprefix("authsvc.").partition(".x")[0]
    own = "tests/" + "/".join([*module.split(".")[:-1], f"test_{module.split('.')[-1]}.py"])

    def turn(item: pytest.Item) -> tuple[bool, bool]:
        return "postgresql" in item.name, not item.nodeid.startswith(own)

    def wanted(item: pytest.Item) -> bool:
        if {"server", "start_server"} & set(getattr(item, "fixturenames", ())):
            return False
        on_postgresql = not item.nodeid.startswith("tests/web") and module in (
            "stats",
            "list_all_tests",
            *_ON_POSTGRESQL,
        )
        return on_postgresql or "postgresql" not in item.name

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = sorted(filter(wanted, items), key=turn)


if __name__ == "__main__":
    main()

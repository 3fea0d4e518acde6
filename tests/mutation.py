"""`python -m tests.mutation [MODULE ...]`: small mistakes are made in policy and store; the tests are to notice each.

mutmut makes the mistakes (mutants). pytest collects the tests once, and each mutant is tried in a copy (fork) of that
process (tests/trials.py), on tests that reach its function: those beside its module first, `_ENOUGH` seconds of them.
`--survivors` tries what was not noticed, or a stopped run left, on all that reach it. MODULE is `tokens`, `store.bulk`,
or one mutant's full name. What was found stays in `.mutation/`; remove `reach.json` there when tests of old may reach
other functions than they did.

Mutants are made of functions, not of what is done on import; tests with servers in processes of their own are left out.
"""

import argparse
import ast
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.postgres import running_postgres
from tests.servers import ROOT

_HERE = ROOT / ".mutation"
_MUTANTS = _HERE / "mutants"
_ENOUGH = 3.0
"""Seconds of tests that one mutant is tried on."""
_VERDICTS = {1: "killed", 24: "time-out", 0: "survived", 33: "untested", None: "open"}


def main() -> None:
    """Judge what was asked for, and print what became of it."""
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="MODULE", help="or the full name of a mutant")
    parser.add_argument("--survivors", action="store_true", help="those not known to be noticed, on all tests")
    parser.add_argument("--report", action="store_true", help="judge nothing, tell what is known")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    files = {_module(path): path for path in project["tool"]["mutmut"]["only_mutate"]}
    asked = {name.removeprefix("authsvc.").partition(".x")[0]: name for name in arguments.names or files}
    if unknown := set(asked) - set(files):
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(files)}")
    if not arguments.report:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *project["dependency-groups"]["mutation"]], check=True
        )
        _make_mutants(files.values())
        wanted = {}
        for module in asked:
            known = json.loads((_MUTANTS / f"{files[module]}.meta").read_text())["exit_code_by_key"]
            names = [
                name for name in known if module in arguments.names or name in arguments.names or not arguments.names
            ]
            wanted[files[module]] = [name for name in names if not (arguments.survivors and known[name] in (1, 24))]
        with suppress(KeyboardInterrupt):  # what is known by then is told
            _judge(wanted, project["tool"]["mutmut"]["pytest_add_cli_args_test_selection"], on_all=arguments.survivors)
    _report({module: files[module] for module in files if module in asked})


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").removeprefix("authsvc/").replace("/", ".")


def _make_mutants(mutated: Iterable[str]) -> None:
    shutil.rmtree(_MUTANTS / "tests", ignore_errors=True)
    for name in ("migrations", "tests", "pyproject.toml", "wsgi.py", "deploy/README.md"):
        (_HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (_HERE / name).unlink(missing_ok=True)
        (_HERE / name).symlink_to(ROOT / name)
    for path in (ROOT / "authsvc").rglob("*"):
        copy = _HERE / path.relative_to(ROOT)
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text("utf-8")
            text = undecorated(text) if str(path.relative_to(ROOT)) in mutated else text
            if not copy.exists() or copy.read_text("utf-8") != text:  # mutmut goes by the file's time
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(text, "utf-8")
    os.chdir(_HERE)
    mutmut = importlib.import_module("mutmut.__main__")
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(os.cpu_count())


def undecorated(source: str) -> str:
    """The same module with each decorator called below its function: mutmut leaves decorated functions alone."""
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.end_lineno or 0, reverse=True):
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if decorators and decorators not in (["staticmethod"], ["classmethod"]):
            calls = [f"{' ' * node.col_offset}{node.name} = {each}({node.name})" for each in reversed(decorators)]
            lines[node.end_lineno : node.end_lineno] = calls
            first = node.decorator_list[0].lineno - 1
            lines[first : node.lineno - 1] = [""] * (node.lineno - 1 - first)
    return "\n".join(lines) + "\n"


def _judge(wanted: dict[str, list[str]], tests: list[str], *, on_all: bool) -> None:
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # tests start PostgreSQL servers in it, as nobody
        (_HERE / "wanted.json").write_text(json.dumps([wanted, math.inf if on_all else _ENOUGH]))
        # With CI set, hypothesis tries the same examples each time; with a hash seed, tests keep their order.
        environ = {"CI": "1", "PYTHONHASHSEED": "0", "TMPDIR": folder, "AUTHSVC_TEST_DATABASE_URL": postgres.url()}
        options = ["-n0", "-s", "--tb=native", "-p", "no:cacheprovider", "-p", "tests.trials", *tests]
        subprocess.run([sys.executable, "-m", "pytest", *options], cwd=_MUTANTS, env=os.environ | environ, check=True)


def _report(files: dict[str, str]) -> None:
    os.chdir(_HERE)
    mutmut, rows = importlib.import_module("mutmut.__main__"), {}
    for module, path in files.items():
        codes = json.loads((_MUTANTS / f"{path}.meta").read_text())["exit_code_by_key"]
        rows[module] = Counter(_VERDICTS[code] for code in codes.values())
        for name in [name for name, code in codes.items() if code in (0, 33)]:
            print(f"# {name}: {_VERDICTS[codes[name]]}\n{mutmut.get_diff_for_mutant(name, path=path)}")
    print(f"{'':20}   mutants" + "".join(f"{verdict:>10}" for verdict in _VERDICTS.values()) + "   noticed")
    for module, counts in [*rows.items(), ("all", sum(rows.values(), Counter()))]:
        noticed = (counts["killed"] + counts["time-out"]) / max(1, counts.total() - counts["open"])
        numbers = "".join(f"{counts[verdict]:10}" for verdict in _VERDICTS.values())
        print(f"{module:20}{counts.total():10}{numbers}{noticed:10.1%}")


if __name__ == "__main__":
    main()

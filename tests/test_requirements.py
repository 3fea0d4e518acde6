"""`requirements.txt` and `tests/requirements.txt` are what the lists in `pyproject.toml` lead to, and nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import ROOT

FILES = {"service": "requirements.txt", "tests": "tests/requirements.txt"}
PINNED = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
NOT_INSTALLED = {"authsvc", "tests", *(path.stem for path in (ROOT / ".ci").glob("*.py"))}
"""Our own."""
CODE = {
    "service": [ROOT / "wsgi.py", *ROOT.glob("authsvc/**/*.py"), *ROOT.glob("migrations/**/*.py")],
    "tests": [*ROOT.glob("tests/**/*.py"), *ROOT.glob(".ci/*.py")],
}


def listed(group: str) -> dict[str, Requirement]:
    """What a list in `pyproject.toml` names, with the lists that it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    found = dict[str, Requirement]()
    for entry in groups[group]:
        if isinstance(entry, str):
            requirement = Requirement(entry)
            found[canonicalize_name(requirement.name)] = requirement
        else:
            found |= listed(entry["include-group"])
    return found


def pinned(group: str) -> dict[str, str]:
    """What a generated file installs here."""
    lines = (ROOT / FILES[group]).read_text("utf-8").splitlines()
    pins = [found for line in lines if (found := PINNED.match(line))]
    here = [pin for pin in pins if not pin["marker"] or Requirement(f"x ; {pin['marker']}").marker.evaluate()]  # type: ignore[union-attr]
    return {pin["name"]: pin["version"] for pin in here}


def needed(requirements: list[Requirement]) -> Iterator[str]:
    """The names of all that has to be installed for these, by what is installed here."""
    waiting, seen = [(each, extra) for each in requirements for extra in ("", *each.extras)], set[tuple[str, str]]()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) not in seen:
            seen.add((name, extra))
            yield name
            wanted = [Requirement(text) for text in distribution(name).requires or []]
            here = [each for each in wanted if not each.marker or each.marker.evaluate({"extra": extra})]
            waiting += [(each, its) for each in here for its in ("", *each.extras)]


def imported(paths: list[Path]) -> set[str]:
    """The distributions from which these files import."""
    modules = set[str]()
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    tops = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - NOT_INSTALLED
    return {canonicalize_name(packages_distributions()[top][0]) for top in tops}


@pytest.mark.parametrize("group", FILES)
def test_every_list_pins_exactly(group: str) -> None:
    """One version of each, so that what was tested is what gets installed."""
    assert {str(requirement.specifier)[:2] for requirement in listed(group).values()} == {"=="}


@pytest.mark.parametrize("group", FILES)
def test_what_is_generated_is_what_the_list_needs(group: str) -> None:
    """Each version that the list names, and what those need in turn; nothing is left over."""
    wanted, there = listed(group), pinned(group)
    assert {name: there.get(name) for name in wanted} == {
        name: str(requirement.specifier).removeprefix("==") for name, requirement in wanted.items()
    }
    assert set(there) == set(needed(list(wanted.values())))


def test_the_tests_run_with_what_the_service_runs_with() -> None:
    """Every version of the one file is in the other."""
    assert pinned("service").items() <= pinned("tests").items()


@pytest.mark.parametrize("group", FILES)
def test_everything_has_its_hashes(group: str) -> None:
    """Below every pin there are some; without one for each pip would check none."""
    lines = (ROOT / FILES[group]).read_text("utf-8").splitlines()
    requirements = [number for number, line in enumerate(lines) if not line.startswith((" ", "#"))]
    assert requirements
    for number in requirements:
        assert PINNED.match(lines[number])
        assert HASH.match(lines[number + 1])


@pytest.mark.parametrize("group", FILES)
def test_what_is_imported_is_listed(group: str) -> None:
    """Nothing is there by the grace of something else that needs it."""
    assert imported(CODE[group]) <= set(listed(group))


@pytest.mark.parametrize("group", FILES)
def test_the_command_that_wrote_it_is_told(group: str) -> None:
    """As it is to be run in the project's folder: no path of a machine, no address."""
    text = (ROOT / FILES[group]).read_text("utf-8")
    head = re.findall(r"^#    (uv pip compile .*)$", text, re.MULTILINE)
    assert [re.search(r"--group (\S+) .* -o (\S+)", command).groups() for command in head] == [(group, FILES[group])]  # type: ignore[union-attr]
    assert "://" not in text

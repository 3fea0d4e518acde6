"""The table "OWASP ASVS 5.0.0" in `deploy/README.md`: complete, and true as far as it names tests."""

import re
from itertools import chain

import pytest

from tests.servers import ROOT

DEPLOY = (ROOT / "deploy/README.md").read_text("utf-8")
LEDGER = DEPLOY[DEPLOY.index("\n## OWASP ASVS 5.0.0\n") : DEPLOY.index("\n## Release notes\n")]
ROWS = re.findall(r"^\| ([0-9][0-9., ]*) \| ([123]) \| (.*) \|(.*)\|$", LEDGER, re.MULTILINE)
LEVEL_1 = "6.1.1 6.2.1-8 6.3.1-2 6.4.1-2 7.2.1-4 7.4.1-2 9.1.1-3 9.2.1-1"
LEVEL_2 = (
    "6.1.2-3 6.2.9-12 6.3.3-4 6.4.3-4 6.5.1-5 6.6.1-3 6.8.1-4 "
    "7.1.1-3 7.3.1-2 7.4.3-5 7.5.1-2 7.6.1-2 9.2.2-4 16.1.1 16.2.1-5 16.3.1-4 16.4.1-3 16.5.1-3"
)
"""What the standard has in V6, V7, V9 and V16, by the level from which on it is required."""


def ids(ranges: str) -> list[str]:
    """`6.2.1-3` is three of them."""
    found = []
    for section, first, last in re.findall(r"(\d+\.\d+)\.(\d+)(?:-(\d+))?", ranges):
        found += [f"{section}.{number}" for number in range(int(first), int(last or first) + 1)]
    return found


LEVELS = dict.fromkeys(ids(LEVEL_1), "1") | dict.fromkeys(ids(LEVEL_2), "2")
ANSWERED = [(each, level, how, shown) for several, level, how, shown in ROWS for each in several.split(", ")]


def test_no_line_of_it_is_overlooked() -> None:
    """Every line of a table below the heading is a row, or the head of its table."""
    lines = [line for line in LEDGER.splitlines() if line.startswith("|")]
    heads = [line for line in lines if line.startswith(("| id | level | how |", "|---"))]
    assert len(lines) == len(ROWS) + len(heads)


def test_each_requirement_is_answered_once() -> None:
    """None is there twice, whether alone or with others in a row."""
    assert len(ANSWERED) == len({each for each, *_ in ANSWERED})


def test_the_four_chapters_are_answered_whole() -> None:
    """Levels 1 and 2; what is there of level 3 is said to be of it."""
    own = {each: level for each, level, *_ in ANSWERED if each.split(".")[0] in {"6", "7", "9", "16"} and level != "3"}
    assert own == LEVELS


@pytest.mark.parametrize(("how", "shown"), [row[2:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_answer_shows_what_it_says(how: str, shown: str) -> None:
    """By something, unless it says that it is not met."""
    assert how
    assert bool(shown.strip()) != how.startswith("**Not met")


@pytest.mark.parametrize("each", sorted(set(chain(*(re.findall(r"`([\w/]+\.py[\w:]*)`", row[3]) for row in ROWS)))))
def test_what_is_named_is_there(each: str) -> None:
    """The file and, where one is named, the test in it."""
    path, _, name = each.partition("::")
    text = (ROOT / "tests" / path).read_text("utf-8")
    assert re.search(rf"^(async )?def {name}\(" if name else r"^ *def test_", text, re.MULTILINE)


def test_what_is_not_met_is_decided() -> None:
    """Whoever is sent below finds the requirement there; what is not met at all sends everybody there."""
    decided = LEDGER[LEDGER.index("\n### Decided against\n") :]
    sent = [each for each, _, how, _ in ANSWERED if how.endswith("see below")]
    assert sent
    assert [each for each in sent if f"({each}" not in decided] == []
    assert [each for each, _, how, _ in ANSWERED if how.startswith("**Not met") and each not in sent] == []

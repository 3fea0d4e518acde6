"""`python -m tests.bench` runs; what it measures is for people to judge."""

import re
import subprocess
import sys

from tests.servers import ROOT


def test_its_smallest_part_prints_ratios_and_goals() -> None:
    """Every contestant has its ratio to both hellos with its spread, and every goal is met or not."""
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", "start"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = dict(
        re.findall(r"^\| (SQLite|PostgreSQL) +\| [^|]+ \| (\d+\.\d \(\d+\.\d-\d+\.\d\)) +\|", output, re.MULTILINE)
    )
    goals = re.findall(r"^\| start on (\w+) <= 1 s +\| .* \| (?:met|NOT MET) +\|$", output, re.MULTILINE)
    assert list(rows) == goals == ["SQLite", "PostgreSQL"]

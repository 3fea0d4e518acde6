"""Hostile input, a little of each kind; `python -m tests.fuzz` tries as much as one likes."""

from pathlib import Path

import pytest

from tests import fuzz


@pytest.mark.usefixtures("log")
def test_no_hostile_input_is_a_failure(tmp_path: Path) -> None:
    """No 500, no exception, no endless log line, no worker that ends."""
    report = fuzz.run(3, 14, tmp_path)
    assert report.failures == []
    assert {"requests", "sockets", "texts", "hashes"} == set(report.tried)

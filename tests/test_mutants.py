"""The tests that guard the counters, guarded themselves: each of these mistakes is noticed by the test named beside it.

They are mistakes of order and omission, over several lines; `python -m tests.mutation` makes the small ones.
A mistake is a change of the service's text in a copy of the project; the named test must fail there, and passes here.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.servers import ROOT


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` becomes `new`; `test` notices."""

    mistake: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "a refusal takes its own charge back",
        "authentication.py",
        "    repository.commit()\n",
        "",
        "test_guessing.py::test_as_many_wrong_codes_get_a_verdict_as_promised",
    ),
    Mutant(
        "full counters are looked at before hashing only",
        "authentication.py",
        "        _refuse_if_full(repository, match.counters, now)\n",
        "",
        "test_guessing.py::test_what_happens_while_a_password_is_hashed_counts",
    ),
    Mutant(
        "full counters are looked at after hashing only",
        "authentication.py",
        "            _refuse_if_full(repository, counters, now)\n",
        "",
        "test_guessing.py::test_a_refused_try_costs_no_hash",
    ),
    Mutant(
        "forgive after the password",
        "authentication.py",
        "        _refuse_if_full(repository, match.counters, now)\n",
        "        _refuse_if_full(repository, match.counters, now)\n"
        "        repository.forgive(match.counters.pair(), now)\n",
        "test_guessing.py::test_the_right_password_alone_does_not_forgive",
    ),
    Mutant(
        "address counter forgiven by a success",
        "service.py",
        "            self._authenticator.forgive(repository, counters, now)\n",
        "            for counter in counters.for_code():\n                repository.forgive(counter, now)\n",
        "test_guessing.py::test_an_opened_session_forgives_one_counter_only",
    ),
    Mutant(
        "no decoy",
        "authentication.py",
        "            self._passwords.match_nobody(password)\n            self._refuse",
        "            self._refuse",
        "test_guessing.py::test_a_wrong_guess_costs_one_hash",
    ),
    Mutant(
        "unknown names are not counted",
        "authentication.py",
        "            self._charge(repository, counters, counters.for_password()",
        "            credentials and self._charge(repository, counters, counters.for_password()",
        "test_guessing.py::test_an_unknown_key_is_counted_like_a_known_one",
    ),
    Mutant(
        "a disabled account is told before its code",
        "authentication.py",
        "        _refuse_if_full(repository, match.counters, now)\n",
        "        _refuse_if_full(repository, match.counters, now)\n"
        '        if repository.account(Key("id", credentials.account_id)).disabled:\n'
        "            raise errors.AccountDisabled\n",
        "test_two_step.py::test_disabled_is_told_only_after_the_code",
    ),
    Mutant(
        "an appended code is tried both ways",
        "authentication.py",
        "            given = otp.split_appended(password) if appended",
        "            appended = appended and not self._matches(found, password)\n"
        "            given = otp.split_appended(password) if appended",
        "test_two_step.py::test_an_appended_code_costs_no_second_hash",
    ),
]


def fails_in(folder: Path, *tests: str) -> bool:
    """Whether one of these tests fails in a copy of the project; that it was run at all is seen to."""
    with TemporaryDirectory() as temporary:
        # pytest's usual folder is shared by all who run it, and two that tidy it up at once trip over each other.
        options = [
            "-n0",
            "-x",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "-k",
            "not postgresql",
            f"--basetemp={temporary}/pytest",
        ]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    counted = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", run.stdout)}
    assert counted.keys() & {"passed", "failed"}, run.stdout + run.stderr
    assert "error" not in counted, run.stdout
    return "failed" in counted


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator["dict[Mutant, Future[bool]]"]:
    """Whether each mutant fails its test: tried two at a time, each in a copy of its own."""

    def failure_of(mutant: Mutant) -> bool:
        folder = tmp_path_factory.mktemp("mutant")
        for part in ("authsvc", "migrations", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        file = folder / "authsvc" / mutant.file
        before, found, after = file.read_text("utf-8").partition(mutant.old)
        assert found
        file.write_text(before + mutant.new + after, "utf-8")
        return fails_in(folder, mutant.test)

    threads = ThreadPoolExecutor(2)
    yield {mutant: threads.submit(failure_of, mutant) for mutant in MUTANTS}
    threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_each_mistake_is_noticed(mutant: Mutant, results: "dict[Mutant, Future[bool]]") -> None:
    """The test that is named fails where the mistake is made."""
    assert results[mutant].result()


def test_without_a_mistake_nothing_is_noticed() -> None:
    """The same tests pass here."""
    assert not fails_in(ROOT, *sorted({mutant.test for mutant in MUTANTS}))

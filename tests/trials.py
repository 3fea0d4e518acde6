"""A plug-in of pytest's for tests/mutation.py: tries mutants in copies of the process that has collected the tests."""

import gc
import importlib
import json
import math
import os
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import pytest

_PATIENCE, _TURN = 30.0, 0.01
"""Seconds beyond those of its tests until a mutant is taken to go on for ever; between two looks at it."""
_BESIDE = {
    "administration": ["test_administration", "test_cli"],
    "authentication": ["test_guessing", "test_two_step", "test_service"],
    "own_account": ["test_own_account", "web/test_own_account", "web/test_password"],
    "service": ["test_service", "test_two_step", "test_logs"],
    "store": ["store/", "test_cli", "test_service", "test_administration", "test_guessing", "test_two_step", "test_"],
    "throttle": ["test_throttle", "test_guessing"],
    "tokens": ["test_tokens", "test_sessions", "test_service"],
    "web": ["web/"],
}
"""The test files to begin with, by module or package; where nothing is said, the module's own."""
_ON_POSTGRESQL = ("postgresql", "batching", "repository", "bulk", "causes", "timeouts")
"""The modules of the store whose mutants are tried on PostgreSQL, too, after SQLite; the others on SQLite alone."""

_Trial = tuple[str, list[pytest.Item], float]
"""A mutant, its tests, and the seconds that it is given."""
_failed: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what failed."""
    _failed.extend([report.nodeid] if report.failed else [])


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of running the tests, find out what they reach, and try mutants on them."""
    here = session.config.rootpath.parent
    trials = _Trials(session, here / "reach.json")
    wanted, enough = json.loads((here / "wanted.json").read_text())
    for path, names in wanted.items():
        trials.judge(here / "mutants" / f"{path}.meta", names, enough)
    return True


class _Trials:
    def __init__(self, session: pytest.Session, known: Path) -> None:
        # Servers know no mutants.
        self._items = [each for each in session.items if not {"server", "start_server"} & set(each.fixturenames)]  # type: ignore[attr-defined]
        self._config, self._folder = session.config, Path(os.environ["TMPDIR"])
        conftest: Any = importlib.import_module("tests.conftest")
        self._sqlite = conftest.SqliteDatabases(self._folder)
        self._postgresql = conftest.PostgresDatabases(os.environ["AUTHSVC_TEST_DATABASE_URL"])
        conftest.SqliteDatabases, conftest.PostgresDatabases = lambda _: self._sqlite, lambda _: self._postgresql
        for each in gc.get_objects():
            if type(each) is ThreadPoolExecutor:  # a copy has its state, but not its threads: it is to start its own
                each._threads.clear()  # type: ignore[attr-defined]
                each._idle_semaphore = threading.Semaphore(0)
        gc.freeze()  # copies share what the collector leaves alone
        # What each test reaches, and the seconds it takes. Files that are new or changed are asked; all tests pass.
        self._reach: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
        texts = {path: sha256(path.read_bytes()).hexdigest() for path in {item.path for item in self._items}}
        items = [item for item in self._items if self._reach.get(item.nodeid, {}).get("text") != texts[item.path]]
        parts = os.cpu_count() or 1
        self._try([("stats", items[part::parts], 1800.0) for part in range(parts)], self._learn_reach)
        for item in items:
            self._reach[item.nodeid]["text"] = texts[item.path]
        known.write_text(json.dumps(self._reach))

    def _learn_reach(self, _: str, code: int, said: str) -> None:
        if code not in (0, 33):
            raise SystemExit(f"fails without a mutant: {said}")
        self._reach |= json.loads(said or "{}")

    def judge(self, meta: Path, names: list[str], enough: float) -> None:
        """Try mutants of one file, and write down at once what became of each."""
        known = json.loads(meta.read_text())
        noticing: dict[str, Counter[str]] = defaultdict(Counter)

        def trial(name: str) -> _Trial:
            function = name.partition("__mutmut_")[0]
            items = self._on(function, noticing[function], enough)
            return name, items, _PATIENCE + 3 * sum(self._reach[item.nodeid]["seconds"] for item in items)

        def learn(name: str, code: int, said: str) -> None:
            noticing[name.partition("__mutmut_")[0]][said] += code == 1
            known["exit_code_by_key"][name] = code
            meta.write_text(json.dumps(known, indent=4))

        if len(names) > 1 and math.isfinite(enough):  # first the same tests without a mutant
            functions = {name.partition("__mutmut_")[0]: None for name in names}
            items = {item: None for function in functions for item in self._on(function, Counter(), enough)}
            self._try([("", list(items), 1800.0)], self._learn_reach)
        self._try(map(trial, names), learn)

    def _on(self, function: str, noticing: Counter[str], enough: float) -> list[pytest.Item]:
        path = function.removeprefix("authsvc.").partition(".x")[0].split(".")
        beside = _BESIDE.get(path[0], [f"test_{path[0]}"])

        def turn(item: pytest.Item) -> tuple[float, ...]:
            file = item.nodeid.removeprefix("tests/")
            near = next((place for place, name in enumerate(beside) if file.startswith(name)), len(beside))
            return -noticing[item.nodeid], "postgresql" in item.name, near, self._reach[item.nodeid]["seconds"]

        items = [item for item in self._items if function in self._reach[item.nodeid]["functions"]]
        items = [item for item in items if path[-1] in _ON_POSTGRESQL or "postgresql" not in item.name]
        items.sort(key=turn)
        spent = accumulate(self._reach[item.nodeid]["seconds"] for item in items)
        return [item for item, until in zip(items, spent, strict=True) if until < enough or item is items[0]]

    def _try(self, trials: Iterable[_Trial], learn: Callable[[str, int, str], None]) -> None:
        waiting = iter(trials)
        running: dict[int, tuple[str, Path, float]] = {}
        while True:
            while len(running) < (os.cpu_count() or 1) and (trial := next(waiting, None)):
                name, items, patience = trial
                folder = Path(tempfile.mkdtemp(dir=self._folder))
                if not items:
                    learn(name, 33, "")
                elif pid := os.fork():
                    running[pid] = name, folder, patience
                else:
                    self._be(name, items, folder, patience)
            if not running:
                return
            time.sleep(_TURN)
            for pid, (name, folder, patience) in list(running.items()):
                # Turns are counted, not time: to stop this process for a while spoils nothing.
                running[pid] = name, folder, patience - _TURN
                if patience < 0:
                    os.killpg(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del running[pid]
                    code, said = os.waitstatus_to_exitcode(status), folder / "said"
                    learn(name, 24 if code < 0 else code, said.read_text() if said.exists() else "")
                    shutil.rmtree(folder, ignore_errors=True)

    def _be(self, mutant: str, items: list[pytest.Item], folder: Path, patience: float) -> NoReturn:
        """Be the copy in which a mutant is tried, until the first test notices it."""
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(patience), math.ceil(patience)))
            folder.chmod(0o755)
            for stream in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            os.environ |= {"MUTANT_UNDER_TEST": mutant, "TMPDIR": str(folder)}
            tempfile.tempdir = str(folder)
            self._config._tmp_path_factory._given_basetemp = folder / "pytest"  # type: ignore[attr-defined]
            self._sqlite._folder, self._postgresql._prefix = folder, f"authsvc_test_{secrets.token_hex(4)}"
            self._postgresql._urls = set()
            ours = [module for name, module in sys.modules.items() if name.startswith("authsvc")]
            remembering = [
                each for module in ours for each in vars(module).values() if isinstance(each, type(cache(len)))
            ]
            told = {}
            for item, following in zip(items, [*items[1:], None], strict=True):
                for each in remembering:  # else only the first test reaches them
                    each.cache_clear()
                begun = time.perf_counter()
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if mutant == "stats":
                    reached = importlib.import_module("mutmut.state").state()._stats
                    told[item.nodeid] = {"seconds": time.perf_counter() - begun, "functions": sorted(reached)}
                    reached.clear()
                if _failed:
                    with suppress(Exception):
                        item.session._setupstate.teardown_exact(None)
                    break
            (folder / "said").write_text(_failed[0] if _failed else json.dumps(told))
            code = 1 if _failed else 0
        finally:
            os._exit(code)

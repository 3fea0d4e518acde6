"""Rounds: new accounts, many clients and one fault; then the judge."""

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from authsvc.administration import Administration
from tests.dialects import Send
from tests.histories.clients import Client, Guessed, InUse, Subject, TwoStep
from tests.histories.faults import Fault
from tests.histories.judge import contradiction, is_lawful, told

_CLIENTS = 12
_KINDS: list[type[Subject]] = [InUse, Guessed, InUse, Guessed, TwoStep]
_A_SECOND = 30
"""Accounts that are enough for a second, with histories that are soon judged."""


class Site(Protocol):
    """Where the service is, however it runs, and what may happen to it."""

    @property
    def sends(self) -> Sequence[Send]:
        """A way to each replica."""

    @property
    def administration(self) -> Administration:
        """An administrator beside them."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        """By their names."""

    def recover(self) -> None:
        """Return when all is well again."""


@dataclass
class Report:
    """What was done, and what came of it."""

    seed: int
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    histories: int = 0
    undecided: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, subject: Subject) -> None:
        """Judge one history."""
        calls, start = subject.calls, subject.start
        self.histories += 1
        for call in calls:
            word = "no answer" if call.answer is None else call.word
            self.calls[f"{type(start).__name__}: {call.act[0]} -> {word}"] += 1
        is_good = is_lawful(calls, start)
        if is_good is None:
            self.undecided += 1
        elif not is_good:
            title = f"{subject.name}: of {len(calls)} calls these contradict each other (--seed {self.seed})"
            self.violations.append(f"{title}\n{told(contradiction(calls, start))}")

    def __str__(self) -> str:
        lines = [f"{count:8} {what}" for what, count in sorted(self.calls.items())]
        lines += [f"{count:8} times {what}" for what, count in sorted(self.faults.items())]
        lines.append(
            f"{self.calls.total()} calls, {self.histories} histories, {self.faults.total()} faults, "
            f"{len(self.violations)} violations, {self.undecided} undecided"
        )
        return "\n".join([*lines, *self.violations])


def run(site: Site, seed: int, *, longest: float, seconds: float = float("inf"), rounds: int | None = None) -> Report:
    """Play rounds until the time is up, or something is wrong; no fault comes twice before each came once."""
    report, end, chance = Report(seed), time.monotonic() + seconds, Random(seed)
    faults = list[str]()
    for number in itertools.count() if rounds is None else range(rounds):
        if time.monotonic() > end or report.violations:
            break
        faults = faults or chance.sample(sorted(site.faults), len(site.faults))
        fault = faults.pop()
        report.faults[fault] += 1
        for subject in _play(site, f"{seed}/{number}", site.faults[fault], longest):
            report.add(subject)
    return report


def _play(site: Site, name: str, fault: Fault, longest: float) -> list[Subject]:
    chance = Random(f"round {name}")
    before, during, after = chance.uniform(0, 0.3), chance.uniform(0.2, longest), chance.uniform(0.2, 0.4)
    setter, *clients = [Client(number, name, site.sends, site.administration) for number in range(_CLIENTS + 1)]
    kinds = enumerate(_KINDS * math.ceil((before + during + after) * _A_SECOND / len(_KINDS)))
    subjects = [kind(f"{kind.__name__} {name}/{number}", setter) for number, kind in kinds]
    is_over = threading.Event()
    with ThreadPoolExecutor(_CLIENTS) as threads:
        running = [threads.submit(client.run, subjects, is_over) for client in clients]
        try:
            time.sleep(before)
            fault(chance, during)
            time.sleep(after)
        finally:
            is_over.set()
    for each in running:
        each.result()
    site.recover()
    used = [subject for subject in subjects if subject.calls]
    for subject in used:
        subject.settle(setter)
    return used

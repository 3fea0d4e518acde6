"""What is stored, looked over: whether our secret keys and our code fit it, which of it is damaged or outdated."""

import hashlib
import hmac
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from authsvc.errors import BadParameter
from authsvc.events import Event
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import Passwords
from authsvc.store import schema
from authsvc.store.database import Database
from authsvc.store.repository import Repository

_SETTING = "keys"


class KeyRecord:
    """Since when which secret keys are used with a database, so that a lost or a different one is noticed.

    A stored session does not say which key its token was signed with. But a session that was opened before any of our
    keys was used here was signed with another.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` are the newest first. What is stored is derived from them, and opens nothing."""
        self._ours = [hmac.digest(key.encode(), b"authsvc.key-record", hashlib.sha256).hex()[:32] for key in keys]

    def since(self, repository: Repository) -> float | None:
        """Since when one of our keys is used here, in epoch seconds; None where none of them is known here."""
        known = _read(repository)
        return min((known[ours] for ours in self._ours if ours in known), default=None if known else 0.0)

    def is_complete(self, repository: Repository) -> bool:
        """Whether our newest key is on record."""
        return self._ours[0] in _read(repository)

    def note(self, repository: Repository, since: float) -> None:
        """Note that our newest key is used here, from `since` on or earlier."""
        known = _read(repository)
        known[self._ours[0]] = min(since, known.get(self._ours[0], since))
        repository.set_setting(_SETTING, json.dumps(known))


def _read(repository: Repository) -> dict[str, float]:
    return dict(json.loads(repository.setting(_SETTING) or "{}"))


@dataclass(frozen=True, slots=True)
class Foreign:
    """What our secret keys do not fit."""

    sessions: int
    """Live ones that are signed with another key."""
    seeds: int
    """Two-step seeds under another key; at start a sample of them."""


@dataclass(eq=False, repr=False)
class Upkeep:
    """Each verb raises Unavailable."""

    _database: Database
    _passwords: Passwords
    _seeds: Seeds
    _keys: KeyRecord
    _clock: Callable[[], float]

    def meet_key(self) -> Foreign:
        """Find out at start what our keys do not fit, and put the newest on record if it is new here."""
        now = self._clock()

        def look(repository: Repository) -> tuple[Foreign, bool]:
            seeds = sum(not self._can_read(seed, account_id) for account_id, seed in repository.bulk.seeds(0))
            return Foreign(self._foreign_sessions(repository, now), seeds), self._keys.is_complete(repository)

        foreign, is_known = self._database.read(look)
        # Only then a write: a worker that is started anew waits for no writer.
        if not is_known:
            with self._database.write(exclusive=True) as repository:
                # What is there before the first record is taken for ours.
                self._keys.note(repository, 0.0 if self._keys.since(repository) == 0.0 else now)
        return foreign

    def _foreign_sessions(self, repository: Repository, now: float) -> int:
        since = self._keys.since(repository)
        return repository.bulk.live_sessions(now, before=math.inf if since is None else since)

    def _can_read(self, seed: str, account_id: int) -> bool:
        try:
            self._seeds.decrypt(seed, account_id)
        except DamagedSeed:
            return False
        return True

    def problems(self) -> Iterator[str]:
        """What goes wrong or will, a sentence each."""
        if problem := schema.problem(self._database):
            yield problem
            return
        if sessions := self._database.read(lambda repository: self._foreign_sessions(repository, self._clock())):
            yield f"{sessions} live sessions are signed with a secret key that is not here: a lost or a different key."
        for account_id, password_hash, seed in self._secrets():
            if seed is not None and not self._can_read(seed, account_id):
                yield f"Account {account_id}: its two-step seed is under no known secret key, or damaged."
            try:
                self._passwords.check_stored(password_hash)
            except BadParameter as problem:
                yield f"Account {account_id}: its {problem}."

    def waiting(self) -> int:
        """How many passwords are still as they were made elsewhere, or with older parameters, until the next login."""
        return sum(self._passwords.is_outdated(password_hash) for _, password_hash, _ in self._secrets())

    def _secrets(self) -> Iterator[tuple[int, str, str | None]]:
        after = 0
        while page := self._database.read(lambda repository: repository.bulk.secrets(after)):  # noqa: B023 - called now
            yield from page
            after = page[-1][0]

    def reencrypt(self) -> tuple[int, list[int]]:
        """Bring all two-step seeds under the newest key.

        Return how many were not, and the ids of the accounts whose seed no key can read.
        """
        changed, unreadable, after = 0, list[int](), 0
        while page := self._database.read(lambda repository: repository.bulk.seeds(after)):  # noqa: B023 - called now
            after = page[-1][0]
            rows = []
            for account_id, seed in page:
                try:
                    renewed = self._seeds.renewed(seed, account_id)
                except DamagedSeed:
                    unreadable.append(account_id)
                    continue
                if renewed != seed:
                    rows.append({"owner": account_id, "old": seed, "new": renewed})
            if rows:
                with self._database.write() as repository:
                    # A login that is faster has renewed it, too.
                    changed += repository.bulk.change_seeds(rows)
                    repository.note(Event.DATA_REENCRYPTED, count=len(rows))
        return changed, unreadable

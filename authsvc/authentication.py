"""Is it them? Passwords and one-time codes matched and wrong ones charged, for logins and for one's own account alike.

The order is the security. What costs a caller nothing is looked at first; what the caller may learn only with the
right password is looked at after it; a verdict is told only after it is charged; and whatever was read before the
password was matched is decided again in the transaction that acts on it.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from authsvc import errors, logs, otp
from authsvc.accounts import Credentials
from authsvc.events import Event
from authsvc.identifiers import Key
from authsvc.otp import DamagedSeed, Seeds
from authsvc.passwords import DamagedHash, Passwords
from authsvc.sessions import CLOCK_SKEW, Client
from authsvc.store.database import Database
from authsvc.store.repository import Repository
from authsvc.throttle import KNOWN_ADDRESS_SECONDS, Counter, Counters, Limits, network

_PURGE_EVERY, _PURGE_BATCH = 16, 320
"""After how many tries, right or wrong, how many rows of each kind are dropped: more than those add."""


@dataclass(frozen=True, slots=True)
class Match:
    """The right password, and what else was given with it."""

    credentials: Credentials
    counters: Counters
    password: str = field(repr=False)
    """Without the code that was appended to it."""
    code: str | None = field(repr=False)

    @property
    def factors(self) -> list[str]:
        """What the account proves itself with, once the code is confirmed."""
        if self.credentials.otp_seed is None:
            return ["password"]
        return ["password", "recovery_code" if self.counters.recovery else "one_time_code"]


class CredentialsChangedError(Exception):
    """Password, seed or the account itself are no longer what was matched: match again."""


@dataclass(eq=False, repr=False)
class Authenticator:
    """Matches what a caller knows against what is stored; `refused` is the event that a wrong guess is noted as."""

    _database: Database
    _passwords: Passwords
    _seeds: Seeds
    _limits: Limits
    _trail_days: int
    _clock: Callable[[], float]
    _tries: Iterator[int] = field(default_factory=itertools.count, init=False)

    def match(
        self, key: Key, password: str, code: str | None, client: Client, refused: Event, counted_as: Key | None = None
    ) -> Match:
        """Match a password; a wrong one is charged, noted and committed before it is told.

        Where two-step verification is on and no `code` is given, `password` may be `password,code`. `counted_as` is the
        key that this caller would log in with, where that is not `key`.
        Raises Throttled, WrongCredentials, Busy, Unavailable.
        """
        now, origin = self._clock(), network(client.address)

        def look_up(repository: Repository) -> tuple[Credentials | None, Counters, str, str | None]:
            found = repository.credentials(key, origin, now - KNOWN_ADDRESS_SECONDS)
            appended = found is not None and found.otp_seed is not None and code is None
            given = otp.split_appended(password) if appended else (password, code)
            recovery = otp.recovery_hash(given[1] or "") is not None
            account_id = found.account_id if found else None
            counters = self._up_against(found, counted_as or key, account_id, origin, recovery=recovery)
            # Before anything is hashed.
            _refuse_if_full(repository, counters, now)
            return found, counters, *given

        credentials, counters, password, code = self._database.read(look_up)
        # No connection is held while a password is matched.
        if not credentials:
            self._passwords.match_nobody(password)
            self._refuse_password(counters, refused, errors.UnknownAccount())
        if not self._matches(credentials, password):
            self._refuse_password(counters, refused, errors.WrongCredentials(account_id=credentials.account_id))
        return Match(credentials, counters, password, code)

    def _matches(self, credentials: Credentials, password: str) -> bool:
        try:
            return self._passwords.matches(credentials.password_hash, password)
        except DamagedHash:
            logs.damaged("password hash", credentials.account_id)
            self._passwords.match_nobody(password)
            return False

    def _refuse_password(self, counters: Counters, refused: Event, verdict: errors.WrongCredentials) -> NoReturn:
        with self._database.write() as repository:
            self._charge(repository, counters, counters.for_password(), self._clock())
            refuse(repository, refused, verdict)

    def confirm(
        self, repository: Repository, match: Match, now: float, refused: Event, *, two_step: bool = True
    ) -> None:
        """What follows the right password, in the transaction that acts on it: counters, then the one-time code.

        Without `two_step` no code is asked for. Raises Throttled, CodeRequired, WrongCode.
        """
        credentials = match.credentials
        # Again: while the password was matched, other guesses may have filled them.
        _refuse_if_full(repository, match.counters, now)
        if credentials.otp_seed is None or not two_step:
            return
        if match.code is None:
            refuse(repository, refused, errors.CodeRequired(account_id=credentials.account_id))
        if not self._claim(repository, credentials, match.code, now):
            # The account's row before its counters: so does a login that is let in.
            if repository.count_wrong_code(credentials.account_id) == self._limits.otp_row:
                repository.note(Event.OTP_STOPPED, credentials.account_id)
            self.refuse_code(repository, match.counters, now, refused)

    def refuse_code(self, repository: Repository, counters: Counters, now: float, refused: Event) -> NoReturn:
        """Charge a wrong one-time code and tell it. Raises WrongCode, Throttled."""
        self._charge(repository, counters, counters.for_code(), now)
        refuse(repository, refused, errors.WrongCode(account_id=counters.account_id))

    def _claim(self, repository: Repository, credentials: Credentials, code: str, now: float) -> bool:
        account_id = credentials.account_id
        if code_hash := otp.recovery_hash(code):
            # The account's row first, as everybody does who changes its codes.
            repository.lock_account(account_id)
            claimed = repository.claim_recovery_code(account_id, code_hash)
            if claimed:
                repository.note(Event.RECOVERY_CODE_USED, account_id)
            return claimed
        try:
            seed = self._seeds.decrypt(credentials.otp_seed or "", account_id)
        except DamagedSeed:
            logs.damaged("two-step seed", account_id)
            return False
        step = otp.time_step(seed, code, now)
        if step is None:
            if seconds := otp.clock_offset(seed, code, now):
                logs.clock_suspected(account_id, seconds)
            return False
        return repository.claim_step(account_id, step, self._limits.otp_row)

    def counters(self, repository: Repository, key: Key, account_id: int, client: Client, now: float) -> Counters:
        """Those that a one-time code alone is up against. Raises Throttled."""
        origin = network(client.address)
        found = repository.credentials(Key("id", account_id), origin, now - KNOWN_ADDRESS_SECONDS)
        counters = self._up_against(found, key, account_id, origin)
        _refuse_if_full(repository, counters, now)
        return counters

    def _up_against(
        self, found: Credentials | None, key: Key, account_id: int | None, origin: str, *, recovery: bool = False
    ) -> Counters:
        known, limits = bool(found and found.known_address), self._limits
        return Counters(
            limits=limits, key=key, account_id=account_id, network=origin, known_address=known, recovery=recovery
        )

    @staticmethod
    def forgive(repository: Repository, counters: Counters, now: float) -> None:
        """Forgive the guesses before an opened session. Raises Throttled where others filled the counter meanwhile."""
        # Its row was not locked when it was looked at, lest two that hold each other's rows wait for each other.
        _refuse_until(repository.forgive(counters.pair(), now), counters, now)

    def _charge(self, repository: Repository, counters: Counters, charged: list[Counter], now: float) -> None:
        """Charge all of them or, where an enforced one is full, none: leaving the transaction takes it all back."""
        for counter in charged:
            if not repository.charge(counter, now) and counter.enforced:
                _refuse_if_full(repository, counters, now)
                raise errors.Throttled(1)  # not reached, but never answer a guess that was not counted
        self.purge(repository, now)

    def purge(self, repository: Repository, now: float) -> None:
        """Drop what only time ends, now and then. Call it last in a transaction."""
        if next(self._tries) % _PURGE_EVERY == 0:
            known_since, trail_since = now - KNOWN_ADDRESS_SECONDS, now - self._trail_days * 86400
            repository.purge(now - CLOCK_SKEW, known_since, trail_since, _PURGE_BATCH)


def _refuse_if_full(repository: Repository, counters: Counters, now: float) -> None:
    """Refuse, right or wrong, where a counter is full. Raises Throttled."""
    _refuse_until(repository.full_until(counters, now), counters, now)


def _refuse_until(until: float | None, counters: Counters, now: float) -> None:
    if until is not None:
        raise errors.Throttled(max(1, math.ceil(until - now)), account_id=counters.account_id)


def refuse(repository: Repository, event: Event, verdict: errors.Verdict) -> NoReturn:
    """Tell a verdict, after what led to it is committed: raised before, it would take its own charge back."""
    repository.note(event, verdict.account_id, cause=verdict.cause)
    repository.commit()
    raise verdict


@contextmanager
def told(event: Event, account_id: int | None = None) -> Iterator[None]:
    """Log, as `event`, refusals that are no verdicts: no transaction has noted them."""
    try:
        yield
    except errors.Verdict:
        raise
    except errors.Refusal as refusal:
        logs.audit(event, refusal.account_id or account_id, cause=refusal.cause)
        raise

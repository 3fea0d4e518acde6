"""The counters of wrong guesses (OWASP Authentication Cheat Sheet, login throttling).

Count a wrong guess before answering it: a verdict that cannot be charged is not told, and while an enforced counter is
at its limit, right and wrong guesses are refused alike.
"""

import hashlib
import ipaddress
from dataclasses import dataclass, field

from authsvc.identifiers import Key
from authsvc.sessions import CLOCK_SKEW

KNOWN_ADDRESS_SECONDS = 30 * 86400
"""For how long an address from which an account opened a session is not stopped by that account's counter."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures in so many seconds, counted from the first one."""

    count: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One limit a kind of counter."""

    account_address: Limit
    address: Limit
    account: Limit
    otp: Limit
    otp_row: int
    """Wrong one-time codes in a row, over any time, after which none is taken any more; 0 for no such limit."""


@dataclass(frozen=True, slots=True, order=True)
class Counter:
    """One counter, by its key, in the order in which several are locked.

    `account` or `address` is empty where the counter is not about one.
    """

    account: str
    address: str
    scope: str
    limit: Limit = field(compare=False)
    enforced: bool = field(compare=False, default=True)
    """Whether it refuses when full. If not, it counts up to its limit."""

    def latest_end(self, now: float) -> float:
        """When a window that began by `now` ends at the latest: a replica's clock may be ahead."""
        return now + self.limit.window + CLOCK_SKEW

    def is_running(self, ends_at: float, now: float) -> bool:
        """Whether a window until `ends_at` still counts.

        One that ends later than any could is over: a clock was set back, or the limit was changed.
        """
        return now < ends_at <= self.latest_end(now)

    def is_full(self, count: int, ends_at: float, now: float) -> bool:
        """Whether `count` failures until `ends_at` refuse the next try."""
        return self.enforced and count >= self.limit.count and self.is_running(ends_at, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters that one try is up against."""

    limits: Limits
    key: Key
    """As the caller gave it."""
    account_id: int | None
    """Whose it is; None where nobody answers to the key: those tries cost and count the same."""
    network: str
    known_address: bool
    """Whether the account opened a session from there lately."""
    recovery: bool
    """Whether the code that was given looks like a recovery code."""

    @property
    def account(self) -> str:
        """Whose daily counters they are, by whichever of its keys the account was tried."""
        return by_key(self.key) if self.account_id is None else known_account(self.account_id)

    def pair(self) -> Counter:
        """The one counter that an opened session forgives.

        By the key as it was given: full, it does not tell that a name, an id and a phone are one account, or that
        there is one.
        """
        return Counter(by_key(self.key), self.network, "account_address", self.limits.account_address)

    def for_password(self) -> list[Counter]:
        """What a wrong password charges, in locking order."""
        address = Counter("", self.network, "address", self.limits.address)
        # Strangers can fill it up; the owner, at home, still gets in.
        account = Counter(self.account, "", "account", self.limits.account, enforced=not self.known_address)
        return sorted([self.pair(), address, account])

    def for_code(self) -> list[Counter]:
        """What a wrong one-time code charges, in locking order: all there are. Any that is full stops every try.

        But who knows the password can fill the counter of codes, too: the owner, at home, gets in by a recovery code,
        which nobody guesses.
        """
        enforced = not (self.recovery and self.known_address)
        return sorted([*self.for_password(), Counter(self.account, "", "otp", self.limits.otp, enforced=enforced)])


def known_account(account_id: int) -> str:
    """Whose the daily counters of an account are."""
    return f"id:{account_id}"


def by_key(key: Key) -> str:
    """Whose counters they are that go by a key as it was given."""
    return "key:" + hashlib.sha256(f"{key.kind}:{key.value}".encode()).hexdigest()


def network(address: str) -> str:
    """What clients are counted by: the address, or the /64 of an IPv6 one, since whoever has one has all of those."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)  # noqa: PLR2004

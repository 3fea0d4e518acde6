"""The counters of wrong guesses: whose they are, how far they go. OWASP Authentication Cheat Sheet, login throttling.

A verdict that cannot be charged is not told: a wrong guess is charged to its counters and answered in one step, and
while a counter that stops the caller stands at its limit, right and wrong are refused alike.
"""

import hashlib
import ipaddress
from dataclasses import dataclass, field

from authsvc.identifiers import Key

KNOWN_ADDRESS_DAYS = 30
"""For how long an address from which an account opened a session is not stopped by that account's counter."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures in so many seconds, counted from the first one."""

    count: int
    window: int


@dataclass(frozen=True, slots=True)
class Limits:
    """One limit a kind of counter."""

    account_address: Limit
    address: Limit
    account: Limit
    otp: Limit


@dataclass(frozen=True, slots=True, order=True)
class Counter:
    """One counter, by its key, in the order in which several are locked."""

    account: str
    address: str
    scope: str
    limit: Limit = field(compare=False)
    stops: bool = field(compare=False, default=True)
    """Whether it refuses at its limit. One that does not is charged only as far as it goes."""


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters that one try is up against."""

    limits: Limits
    account: str
    network: str
    known_address: bool

    def for_password(self) -> list[Counter]:
        """What a wrong password charges, in locking order."""
        limits = self.limits
        return sorted(
            [
                self.pair(),
                Counter("", self.network, "address", limits.address),
                # Strangers can fill it up; the owner, at home, still gets in.
                Counter(self.account, "", "account", limits.account, stops=not self.known_address),
            ]
        )

    def for_code(self) -> list[Counter]:
        """What a wrong one-time code charges, in locking order: all there are. Any that is full stops every try."""
        return sorted([*self.for_password(), Counter(self.account, "", "otp", self.limits.otp)])

    def pair(self) -> Counter:
        """The one counter that an opened session forgives."""
        return Counter(self.account, self.network, "account_address", self.limits.account_address)


def known_account(account_id: int) -> str:
    """Whose counters they are, by whichever of its keys an account was tried."""
    return f"id:{account_id}"


def unknown_account(key: Key) -> str:
    """Whose counters they are where nobody answers to the key: they cost and count the same."""
    return "unknown:" + hashlib.sha256(f"{key.kind}:{key.value}".encode()).hexdigest()


def network(address: str) -> str:
    """What clients are counted by: the address, or the /64 of an IPv6 one, since whoever has one has all of those."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)  # noqa: PLR2004

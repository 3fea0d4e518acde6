"""Sessions: who opened them, and when they are over."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from authsvc.accounts import Account

CLOCK_SKEW = 60.0
"""Seconds by which the clocks of two replicas may differ."""

_TOUCH_INTERVAL = 60.0
"""Seconds between two writes of "last seen", at the least."""

_USER_AGENT_MAX = 256


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from."""

    address: str
    user_agent: str = ""

    @classmethod
    def of(cls, address: str, user_agent: str) -> "Client":
        """A client whose own description is cut to size and safe to show in an administrator's terminal."""
        return cls(address, "".join(c if c.isprintable() else "?" for c in user_agent[:_USER_AGENT_MAX]))


class Session(NamedTuple):
    """A login that was not ended on purpose. Times are epoch seconds."""

    id_hash: bytes
    """The SHA-256 of its id; the id itself is only in the token."""
    opened_at: float
    last_seen_at: float
    ends_at: float
    address: str
    user_agent: str


class LiveSession(NamedTuple):
    """All that a session check finds, of one moment."""

    session: Session
    account: Account
    appcfg: str
    """The console's configuration: the same for all accounts, read along to save a round trip."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long sessions live, in seconds; `idle_timeout` 0 for no idle limit."""

    lifetime: float
    idle_timeout: float

    def opened(self, id_hash: bytes, now: float, client: Client) -> Session:
        """A session that begins."""
        return Session(id_hash, now, now, now + self.lifetime, client.address, client.user_agent)

    def refuses(self, session: Session, now: float) -> bool:
        """Whether a session is over by itself."""
        idle_for = now - session.last_seen_at
        return now >= session.ends_at or bool(self.idle_timeout and idle_for >= self.idle_timeout)

    def alive(self, sessions: Iterable[Session], now: float) -> list[Session]:
        """Those that are not over by themselves."""
        return [session for session in sessions if not self.refuses(session, now)]

    def wants_touch(self, session: Session, now: float) -> bool:
        """Whether "last seen" is due. A value in the future is: the clock was set back, and it would never idle."""
        interval = min(_TOUCH_INTERVAL, self.idle_timeout / 4) if self.idle_timeout else _TOUCH_INTERVAL
        return abs(now - session.last_seen_at) >= interval

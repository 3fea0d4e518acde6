"""Accounts and roles, as values."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Account(NamedTuple):
    """An account as it is now, with its role. Times are epoch seconds."""

    id: int
    name: str
    phone: str | None
    avatar: str | None
    role_id: int
    role_code: str
    role_name: str
    permissions: tuple[str, ...]
    """The codes that the role grants, sorted."""
    permission: int
    """The bit mask of `/api/auth`, kept on the account."""
    disabled: bool
    otp: bool
    """Whether two-step verification is on."""
    created_by: int | None
    created_at: float
    login_at: float | None
    login_address: str | None
    login_count: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is checked against."""

    account_id: int
    password_hash: str = field(repr=False)
    otp_seed: str | None = field(repr=False)
    """Encrypted; None where two-step verification is off."""
    known_address: bool
    """Whether the account opened a session from the caller's network lately."""


@dataclass(frozen=True, slots=True)
class Guesses:
    """The wrong guesses that are counted against an account now."""

    recent_failures: int
    """Within the window of its own counter."""
    locked_until: float | None
    """When the last of its counters that refuse tries is over, in epoch seconds; None where none does."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role and the permission codes that it grants, sorted."""

    id: int
    code: str
    name: str
    permissions: tuple[str, ...]

"""What happens to accounts and roles, by the names under which the log and the trail tell it, and who does it."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Event(StrEnum):
    """One kind of event. A refusal's name ends with `.refused`, and the log tells it as a warning."""

    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_REFUSED = "login.refused"
    LOGOUT = "logout"
    SESSIONS_ENDED = "session.ended"
    """Sessions ended otherwise than by their own logout; `cause` is the event that ended them."""
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - a name
    PASSWORD_REFUSED = "password.refused"  # noqa: S105 - a name
    REAUTHENTICATION_REFUSED = "reauthentication.refused"
    """A logged-in account did not prove itself anew for something else than its password."""
    PERMISSION_REFUSED = "permission.refused"
    ACCOUNT_ADDED = "account.added"
    ACCOUNT_CHANGED = "account.changed"
    ACCOUNT_DELETED = "account.deleted"
    ACCOUNT_DISABLED = "account.disabled"
    ACCOUNT_ENABLED = "account.enabled"
    ACCOUNT_UNLOCKED = "account.unlocked"
    ACCOUNT_LOGGED_OUT = "account.logged_out"
    OTP_ENABLED = "otp.enabled"
    OTP_DISABLED = "otp.disabled"
    RECOVERY_CODES_RENEWED = "otp.recovery_codes_renewed"
    RECOVERY_CODE_USED = "otp.recovery_code_used"
    OTP_STOPPED = "otp.stopped"
    """So many wrong one-time codes in a row that none is taken any more: somebody knows the password."""
    ROLE_ADDED = "role.added"
    ROLE_CHANGED = "role.changed"
    ROLE_DELETED = "role.deleted"
    ROLE_GRANTED = "role.granted"
    ROLE_REVOKED = "role.revoked"
    APPCFG_CHANGED = "appcfg.changed"
    DATA_IMPORTED = "data.imported"
    DATA_REENCRYPTED = "data.reencrypted"

    @property
    def is_refusal(self) -> bool:
        """Whether something was asked for and not given."""
        return self.endswith(".refused")


class Actor(NamedTuple):
    """Who does something: `service` by itself, `self` (whose account it is), or a user of the operating system."""

    name: str = "service"
    address: str | None = None
    """The client's, where there is one."""


SERVICE = Actor()
"""The service by itself."""

acting: ContextVar[Actor] = ContextVar("acting", default=SERVICE)
"""On whose behalf this thread works."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One row of the trail. `at` is in epoch seconds."""

    at: float
    event: str
    account_id: int | None
    by: str
    address: str | None
    detail: dict[str, Any]

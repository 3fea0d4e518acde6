"""What happens to accounts and roles, by the names under which the log tells it."""

from enum import StrEnum


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
    ROLE_GRANTED = "role.granted"
    ROLE_REVOKED = "role.revoked"
    APPCFG_CHANGED = "appcfg.changed"

    @property
    def is_refusal(self) -> bool:
        """Whether something was asked for and not given."""
        return self.endswith(".refused")

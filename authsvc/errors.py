"""The refusals, by name. Each carries data, none carries wire text: a dialect's table turns them into answers.

`cause` is the stable word for logs. It may say more than the caller is told: `WrongCredentials` is one answer
on the wire, whether the account is unknown or the password is wrong.
"""

from typing import Literal


class Refusal(Exception):
    """Something that was asked for and is not given. `account_id` is whom it concerned, where that is known.

    Where there is more to say than its name, its text says so.
    """

    cause: str = "refused"
    retry_after: int | None = None
    """Seconds after which trying again makes sense, if it does."""

    def __init__(self, text: str = "", *, account_id: int | None = None) -> None:
        super().__init__(text or self.cause)
        self.account_id = account_id


class BadParameter(Refusal):
    """A parameter that cannot be used; `problem` says why, as the end of a sentence that starts with its name."""

    cause = "bad_parameter"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


class RefusedPassword(BadParameter):
    """A new password that may not be one; `kind` says in a word which rule it breaks."""

    cause = "refused_password"

    def __init__(self, name: str, kind: Literal["length", "characters", "common", "context"], problem: str) -> None:
        super().__init__(name, problem)
        self.kind = kind


class AbsentParameter(BadParameter):
    """A parameter that is missing or empty."""

    cause = "absent_parameter"


class Verdict(Refusal):
    """What a caller is told of an account: only after it is charged and noted in one transaction."""


class WrongCredentials(Verdict):
    """No such account, or not its password. The caller is never told which."""

    cause = "wrong_password"


class UnknownAccount(WrongCredentials):
    """No account answers to this name, id or phone."""

    cause = "unknown_account"


class CodeRequired(Verdict):
    """The right password for an account with two-step verification, and no one-time code."""

    cause = "code_required"


class WrongCode(Verdict):
    """The right password and a one-time code that is wrong, used, or out of time."""

    cause = "wrong_code"


class Throttled(Refusal):
    """Too many wrong guesses; `seconds` until the next one is looked at."""

    cause = "throttled"

    def __init__(self, seconds: int, *, account_id: int | None = None) -> None:
        super().__init__(account_id=account_id)
        self.retry_after = seconds


class AccountDisabled(Verdict):
    """The right password (and code) for an account that is switched off."""

    cause = "account_disabled"


class OtpIsOn(Refusal):
    """Two-step verification is on already."""

    cause = "otp_is_on"


class OtpIsOff(Refusal):
    """Two-step verification is off."""

    cause = "otp_is_off"


class OtpNotBegun(Refusal):
    """Two-step verification was not begun, or so long ago that it has lapsed."""

    cause = "otp_not_begun"


class TokenRefused(Refusal):
    """The request does not come with a live session."""

    cause = "token_refused"


class TokenMissing(TokenRefused):
    """No token came with the request."""

    cause = "token_missing"


class TokenInvalid(TokenRefused):
    """Not a token of ours: its form or its signature is wrong, or it is dated in the future."""

    cause = "token_invalid"


class TokenExpired(TokenRefused):
    """The session is past its absolute lifetime or was idle for too long."""

    cause = "token_expired"


class TokenRevoked(TokenRefused):
    """The session was ended on purpose."""

    cause = "token_revoked"


class PermissionMissing(Refusal):
    """A live session whose role does not grant what was asked for."""

    cause = "permission_missing"


class Conflict(Refusal):
    """A name, phone or code that must be unique and is already in use; its text says which."""

    cause = "conflict"


class UnknownRole(Refusal):
    """No role has this code."""

    cause = "unknown_role"


class RoleInUse(Refusal):
    """A role that cannot go while accounts have it."""

    cause = "role_in_use"


class UnusableLines(Refusal):
    """An import with lines that cannot be used, so many of them; each was told. Nothing was imported."""

    cause = "unusable_lines"

    def __init__(self, count: int) -> None:
        super().__init__(str(count))


class ChangedMeanwhile(Refusal):
    """What was looked at before a transaction is no longer so; nothing was done."""

    cause = "changed_meanwhile"


class Busy(Refusal):
    """More logins are waiting for their password to be hashed than can be served in time."""

    cause = "busy"
    retry_after = 10


class Unavailable(Refusal):
    """The database does not answer, or its schema is not the one this code needs.

    Its text is one of a few fixed phrases (`store.causes`), without any value.
    """

    cause = "unavailable"
    retry_after = 5

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.cause = f"unavailable: {why}"

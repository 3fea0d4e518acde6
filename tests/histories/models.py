"""What the service promises, as objects that are asked one thing at a time. Each is a value: a state of its own."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tests.doors import CODE_REQUIRED, DISABLED, THROTTLED, WRONG, WRONG_CODE
from tests.histories.judge import Act, Call

DONE, LIVE, DEAD, UNKNOWN = "done", "live", "dead", "unknown"
Answered = tuple[object, "Account"]


@dataclass(frozen=True, slots=True)
class Account:
    """Password, role, count of logins and sessions of one account: what a login needs and what ends a session.

    They are one object, since what is promised binds them: no session outlives the password that opened it.
    """

    changes: ClassVar[frozenset[object]] = frozenset({DONE})
    password: str | None = None
    """None before the account was made."""
    disabled: bool = False
    role: str = "user"
    logins: int = 0
    live: frozenset[int] = frozenset()
    """The sessions, each by the call that opened it."""

    def apply(self, call: Call) -> Answered:
        """See Model."""
        act = call.act
        found = self._administered(act) or self._seen(act) or self._logged_in(call) or self._in_session(call)
        if not found:
            raise ValueError(act)
        return found

    def _administered(self, act: Act) -> Answered | None:
        match act:
            case "set password" | "disable" | "give role" | "end all", *_ if self.password is None:
                return UNKNOWN, self
            case "add" | "set password", str(password):
                return DONE, replace(self, password=password, live=frozenset())
            case "disable", bool(disabled):
                return DONE, replace(self, disabled=disabled, live=frozenset())
            case "give role", str(role):
                return DONE, replace(self, role=role)
            case ("end all",):
                return (DONE, len(self.live)), replace(self, live=frozenset())
        return None

    def _seen(self, act: Act) -> Answered | None:
        match act:
            case "password is", password:
                return password == self.password, self
            case ("is disabled",):
                return self.disabled, self
            case ("count sessions",):
                return len(self.live), self
        return None

    def _logged_in(self, call: Call) -> Answered | None:
        match call.act:
            case "log in" | "log in and tell", password, *_ if password != self.password:
                return WRONG, self
            case "log in" | "log in and tell", *_ if self.disabled:
                return DISABLED, self
            case "log in" | "log in and tell" as verb, _, *ended:
                logins, live = self.logins + 1, self.live.difference(ended) | {call.number}
                return DONE if verb == "log in" else (DONE, logins), replace(self, logins=logins, live=live)
        return None

    def _in_session(self, call: Call) -> Answered | None:
        told = {"is live": LIVE, "check": (LIVE, self.role), "check and tell": (LIVE, self.role, self.logins)}
        match call.act:
            case verb, session, *_ if session not in self.live:
                return DONE if verb == "exit" else DEAD, self
            case str(verb), _ if verb in told:
                return told[verb], self
            case "exit" | "log out", session:
                return DONE, replace(self, live=self.live - {session})
            case _, int(session), password, *new:
                return self._with_password(call, session, password, new)
        return None

    def _with_password(self, call: Call, session: int, password: object, new: list[Any]) -> Answered:
        if password != self.password:
            return WRONG, self
        if not new:
            return (DONE, len(self.live) - 1), replace(self, live=frozenset({session}))
        kept = call.number if call.act[0] == "change password" else session
        return DONE, replace(self, password=new[0], live=frozenset({kept}))


@dataclass(frozen=True, slots=True)
class Guesses:
    """The counter of wrong guesses at one account from one address."""

    changes: ClassVar[frozenset[object]] = frozenset({DONE, WRONG})
    limit: int
    count: int = 0

    def apply(self, call: Call) -> tuple[str, "Guesses"]:
        """See Model."""
        if self.count == self.limit:
            return THROTTLED, self
        if call.act[0] == "log in":
            return DONE, replace(self, count=0)
        return WRONG, replace(self, count=self.count + 1)


@dataclass(frozen=True, slots=True)
class Codes:
    """What was used of an account's one-time and recovery codes."""

    changes: ClassVar[frozenset[object]] = frozenset({DONE})
    step: int = 0
    """The newest time step."""
    recovery: frozenset[str] = frozenset()

    def apply(self, call: Call) -> tuple[str, "Codes"]:
        """See Model."""
        match call.act:
            case "one-time code", int(step) if step > self.step:
                return DONE, replace(self, step=step)
            case "recovery code", str(code) if code not in self.recovery:
                return DONE, replace(self, recovery=self.recovery | {code})
            case ("no code",):
                return CODE_REQUIRED, self
        return WRONG_CODE, self

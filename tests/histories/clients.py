"""The clients, and what they do: each decides by a chance of its own, which the seed began."""

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, ClassVar

import pyotp
from werkzeug.http import parse_cookie

from authsvc.administration import Administration
from authsvc.errors import Unavailable, UnknownAccount, WrongCredentials
from authsvc.identifiers import by_name
from authsvc.web import acc_admin
from tests import refusals
from tests.dialects import Answer, Auth, Console, Dialect, Send
from tests.doors import CODE_REQUIRED, DISABLED, THROTTLED, WRONG, WRONG_CODE
from tests.histories.judge import Act, Call, Model
from tests.histories.models import DEAD, DONE, LIVE, UNKNOWN, Account, Codes, Guesses

_GUESS = "a wrong guess"
LIMIT = 5
"""Wrong guesses at an account from an address."""
SETTINGS = {
    "AUTHSVC_TRUSTED_PROXIES": "1",
    "AUTHSVC_LIMIT_ACCOUNT_ADDRESS": f"{LIMIT}/300",
    "AUTHSVC_LIMIT_OTP": "1000/300",
}
"""Each call may name the address that it is from; no limit is in the way but the one that is judged."""
_AT_ONCE = 10
"""So many accounts are used at a time: few enough for the clients to meet."""
_MOST_UNANSWERED = 12
"""After which a history is long enough: the time that it takes to judge it may double with each."""
_STEP = 30  # seconds
_SAID: dict[refusals.Refused | tuple[refusals.Verdict, refusals.Verdict], str] = {
    refusals.GRANTED: DONE,
    refusals.WRONG_CREDENTIALS: WRONG,
    refusals.CODE_REQUIRED: CODE_REQUIRED,
    refusals.WRONG_CODE: WRONG_CODE,
    refusals.ACCOUNT_DISABLED: DISABLED,
    refusals.TOKEN_REVOKED: DEAD,
}
_WORDS = {dialect: {both[at]: word for both, word in _SAID.items()} for at, dialect in enumerate((Auth, Console))}
_WORDS[Auth][401, refusals.TOKEN_REVOKED.reason] = DEAD


class PasswordPage(Console):
    """The console's own password page."""

    prefix = "/AdminPassword"


_WORDS[PasswordPage] = {
    **_WORDS[Console],
    (500, acc_admin._ON_PASSWORD_PAGE[WrongCredentials]): WRONG,
}


@dataclass(frozen=True)
class Reply:
    """What a client was told."""

    word: object
    """The model's word for it."""
    answer: Answer | None = None
    number: int = 0
    """That of the call."""


Looks = dict[object, list[tuple[Act, object]]]


class NotAsked(Exception):
    """Nobody accepted the connection: the call was never made."""


_ADDRESSES = itertools.count(1)


def new_address() -> str:
    """An address that nobody else has."""
    number = next(_ADDRESSES)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class Client:
    """One of many. It goes on to the next call when it has the answer, or gets none."""

    def __init__(self, number: int, seed: str, sends: Sequence[Send], administration: Administration) -> None:
        self.number = number
        self.chance = Random(f"{seed}, client {number}")
        self.administration = administration
        self._sends = sends

    def run(self, subjects: "Sequence[Subject]", is_over: threading.Event) -> None:
        """Do one thing after the other to one of the first few of `subjects` that are not done."""
        open_ones = list(subjects)
        while open_ones and not is_over.is_set():
            subject = self.chance.choice(open_ones[:_AT_ONCE])
            if subject.is_done:
                open_ones.remove(subject)
            elif subject.act(self) is None:
                is_over.wait(self.chance.uniform(0.05, 0.3))  # as it was told by "Retry-After", only sooner

    def dialect(self) -> type[Auth] | type[Console]:
        """One of the two."""
        return self.chance.choice((Auth, Console))

    def call(
        self,
        dialect: type[Dialect],
        path: str,
        *,
        token: str | None = None,
        at: str = "",
        tell: Callable[[Any], object] = lambda _: DONE,
        **form: str,
    ) -> Reply | None:
        """Call one of the replicas, from a new address where none is given; None where no answer came.

        `tell` makes the word of what comes with a call that is granted.
        """
        speak = dialect(self.chance.choice(self._sends))
        headers = {"X-Forwarded-For": at or new_address()}
        try:
            answer = speak.call("POST" if form else "GET", path, form=form or None, token=token, headers=headers)
        except ConnectionRefusedError:
            raise NotAsked from None
        except (OSError, http.client.HTTPException):
            return None
        if answer.status == 503:
            return None
        status, text = dialect.verdict(answer)
        if answer.status == 429 or str(text).startswith(refusals.THROTTLED.message.partition("{}")[0]):
            return Reply(THROTTLED, answer)
        # Where there should not be such an answer, a word that no model knows.
        word = _WORDS[dialect].get((status, text), f"{status} {text}")
        return Reply(tell(answer.json.get("data")) if word == DONE else word, answer)

    def log_in(self, name: str, password: str, dialect: type[Dialect], **how: Any) -> Reply | None:
        """Try to log in."""
        how |= {dialect.name_parameter: name, "password": password}
        return self.call(dialect, dialect.login_path, **how)


class Subject:
    """An account, and what was asked of it."""

    start: ClassVar[Model]
    most_calls: ClassVar[int] = 80

    def __init__(self, name: str, _: Client) -> None:
        """Prepare it with the help of a client, while nothing fails."""
        self.name, self.key = name, by_name(name)
        self.passwords = [f"passphrase of {name} no. 0"]
        self.calls: list[Call] = []
        self._numbers = itertools.count()

    @property
    def is_done(self) -> bool:
        """Whether enough was asked of it."""
        unanswered = sum(call.answer is None for call in self.calls)
        return len(self.calls) >= self.most_calls or unanswered >= _MOST_UNANSWERED

    def act(self, client: Client) -> object:
        """Do one thing, by chance; return None where no answer came."""
        raise NotImplementedError

    def settle(self, client: Client) -> None:
        """Ask what came of it all, when the faults are over."""

    def _ask(
        self, client: Client, act: Act, ask: Callable[[], Reply | None], looks: Looks | None = None
    ) -> Reply | None:
        """Make a call and write it down.

        `looks`: for what the service looks at twice, one after the other, the words that tell of that. Such an answer
        is written down as two calls; each saw what it tells some time during this one.
        """
        number, begin = next(self._numbers), time.monotonic()
        try:
            reply = ask()
        except NotAsked:
            return None
        end = time.monotonic()
        if reply is None:
            self.calls.append(Call(number, act, begin, client=client.number))
            return None
        for looked, found in (looks or {}).get(reply.word, [(act, reply.word)]):
            self.calls.append(Call(number, looked, begin, end, found, client.number))
        return replace(reply, number=number)


class InUse(Subject):
    """Logins, logouts, checks, changed passwords, an administrator: all that concerns sessions."""

    start = Account()

    def __init__(self, name: str, client: Client) -> None:
        super().__init__(name, client)
        self._sessions: list[tuple[int, str]] = []
        """Each with the call that opened it."""
        self._is_new = threading.Lock()

    def act(self, client: Client) -> object:
        """See Subject."""
        if self._is_new.acquire(blocking=False):
            return self._administer(client, "add", self.passwords[0])
        if not self._sessions:
            return self._log_in(client)
        acts: list[Callable[[Client], object]]
        acts = [self._log_in, self._check, self._log_out, self._change, self._end_others, self._count, self._intervene]
        (act,) = client.chance.choices(acts, [5, 9, 2, 1, 1, 1, 1])
        return act(client)

    def settle(self, client: Client) -> None:
        """See Subject."""
        for session in self._sessions:
            self._check(client, session)
        for password in self.passwords[-3:]:
            self._log_in(client, password)
        if self._sessions:
            self._count(client)

    def _log_in(self, client: Client, password: str = "") -> object:
        dialect, password = client.dialect(), password or self._password(client)
        ended = [self._session(client)] if self._sessions and client.chance.random() < 0.1 else []
        numbers, token = [number for number, _ in ended], ended[0][1] if ended else None
        ask, verb = partial(client.log_in, self.name, password, dialect, token=token), "log in"
        if dialect is Console:
            ask, verb = partial(ask, tell=lambda data: (DONE, data["admin"]["loginCount"])), "log in and tell"
        looks: Looks = {DISABLED: [(("password is", password), True), (("is disabled",), True)]}
        return self._keep_session(self._ask(client, (verb, password, *numbers), ask, looks))

    def _keep_session(self, reply: Reply | None) -> Reply | None:
        """Where a call opened one."""
        cookies = reply.answer.headers.getlist("Set-Cookie") if reply and reply.answer else []
        tokens = [token for cookie in cookies if (token := parse_cookie(cookie).get("satoken"))]
        self._sessions += [(reply.number, token) for token in tokens if reply]
        return reply

    def _check(self, client: Client, session: tuple[int, str] | None = None) -> object:
        number, token = session or self._session(client)
        ask, verb = partial(client.call, Console, "/getLoginInfo", tell=_told_by_console), "check and tell"
        if client.dialect() is Auth:
            path = client.chance.choice(("/verify", "/login"))
            ask, verb = partial(client.call, Auth, path, tell=lambda data: (LIVE, data["role"])), "check"
        return self._ask(client, (verb, number), partial(ask, token=token))

    def _log_out(self, client: Client) -> object:
        (number, token), dialect = self._session(client), client.dialect()
        verb = "log out" if dialect is Auth else "exit"
        return self._ask(client, (verb, number), lambda: client.call(dialect, dialect.logout_path, token=token))

    def _change(self, client: Client) -> object:
        (number, token), old, new = self._session(client), self._password(client), self._new_password()
        ask, verb = partial(client.call, Auth, "/password", password=old, new_password=new), "change password"
        if client.dialect() is Console:
            ask, verb = partial(client.call, PasswordPage, "/update", oldPwd=old, newPwd=new), f"{verb} and stay"
        ask = partial(ask, token=token)
        return self._keep_session(self._ask(client, (verb, number, old, new), ask, _refused(number, old)))

    def _end_others(self, client: Client) -> object:
        (number, token), password = self._session(client), self._password(client)
        ask = partial(client.call, Auth, "/sessions/end", token=token, password=password, session="others")
        ask = partial(ask, tell=lambda data: (DONE, data["ended"]))
        return self._ask(client, ("end others", number, password), ask, _refused(number, password))

    def _count(self, client: Client) -> object:
        number, token = self._session(client)
        ask = partial(client.call, Auth, "/sessions", token=token, tell=lambda data: len(data["sessions"]))
        return self._ask(client, ("count sessions",), ask, {DEAD: [(("is live", number), DEAD)]})

    def _intervene(self, client: Client) -> object:
        details: dict[str, list[Any]] = {
            "set password": [self._new_password()],
            "disable": [client.chance.random() < 0.4],
            "give role": [client.chance.choice(("admin", "user"))],
            "end all": [],
        }
        verb = client.chance.choice(list(details))
        return self._administer(client, verb, *details[verb])

    def _administer(self, client: Client, verb: str, *details: Any) -> object:
        administration = client.administration
        verbs: dict[str, Callable[..., object]] = {
            "add": lambda password: administration.add_account(self.name, password=password),
            "set password": partial(administration.set_password, self.key),
            "disable": partial(administration.set_disabled, self.key),
            "give role": lambda role: administration.change_account(self.key, role=role),
            "end all": partial(administration.end_sessions, self.key),
        }

        def ask() -> Reply | None:
            try:
                told = verbs[verb](*details)
            except Unavailable:
                return None
            except UnknownAccount:
                return Reply(UNKNOWN)
            return Reply((DONE, told) if verb == "end all" else DONE)

        return self._ask(client, (verb, *details), ask)

    def _session(self, client: Client) -> tuple[int, str]:
        """Mostly a young one."""
        return client.chance.choice(self._sessions[-4:] if client.chance.random() < 0.8 else self._sessions)

    def _password(self, client: Client) -> str:
        """Mostly the newest."""
        is_newest = client.chance.random() < 0.6
        return self.passwords[-1] if is_newest else client.chance.choice([*self.passwords[-4:], _GUESS])

    def _new_password(self) -> str:
        self.passwords.append(f"passphrase of {self.name} no. {len(self.passwords)}")
        return self.passwords[-1]


def _refused(session: int, password: str) -> Looks:
    """The session is looked at before the password."""
    return {WRONG: [(("is live", session), LIVE), (("password is", password), False)]}


def _told_by_console(data: Any) -> object:
    return LIVE, "admin" if data["admin"]["roleId"] == 1 else "user", data["admin"]["loginCount"]


class Guessed(Subject):
    """Right and wrong logins from one address, and wrong passwords given by whoever has a session there."""

    start = Guesses(LIMIT)
    most_calls = 25

    def __init__(self, name: str, client: Client) -> None:
        super().__init__(name, client)
        client.administration.add_account(name, password=self.passwords[0])
        self._address = new_address()
        self._guesses = client.chance.choice((0.4, 0.7, 0.9))
        reply = client.log_in(name, self.passwords[0], Auth)
        assert reply
        assert reply.answer
        self._token = reply.answer.headers["satoken"]

    def act(self, client: Client) -> object:
        """See Subject."""
        is_guess = client.chance.random() < self._guesses
        if is_guess and client.chance.random() < 0.3:
            ask = partial(client.call, Auth, "/password", token=self._token, password=_GUESS, new_password=_GUESS)
        else:
            ask = partial(client.log_in, self.name, _GUESS if is_guess else self.passwords[0], client.dialect())
        return self._ask(client, ("guess" if is_guess else "log in",), partial(ask, at=self._address))


class TwoStep(Subject):
    """Logins with one-time codes and recovery codes."""

    start = Codes()

    def __init__(self, name: str, client: Client) -> None:
        super().__init__(name, client)
        client.administration.add_account(name, password=self.passwords[0])
        enrolment = client.administration.enable_otp(self.key)
        self._totp, self._recovery = pyotp.TOTP(enrolment.seed), enrolment.recovery_codes
        near = {self._totp.at(int(time.time()) + _STEP * steps) for steps in range(-20, 40)}
        self._wrong = next(code for code in map(str, range(100_000, 200_000)) if code not in near)

    def act(self, client: Client) -> object:
        """See Subject."""
        chance = client.chance
        # Of this step or the next: both are good for thirty seconds at the least, longer than any call takes.
        step = int(time.time()) // _STEP + chance.randrange(2)
        act, code = chance.choice(
            [
                *[(("one-time code", step), self._totp.at(step * _STEP))] * 4,
                *[(("recovery code", code), code) for code in chance.sample(self._recovery, 2)],
                (("wrong code",), self._wrong),
                (("no code",), ""),
            ]
        )
        log_in, password = partial(client.log_in, self.name, dialect=client.dialect()), self.passwords[0]
        appended = code and chance.random() < 0.5
        ask = partial(log_in, f"{password},{code}") if appended else partial(log_in, password, otp_code=code)
        return self._ask(client, act, ask)

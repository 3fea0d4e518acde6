"""Both dialects as one door, where the same verdict is the same word.

It speaks them by turns: guessing is promised to be one and the same, whichever is spoken.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Barrier
from typing import TypeVar

from flask import Flask

from tests import refusals
from tests.dialects import Auth, Console, Send, in_process
from tests.refusals import Verdict

IN, WRONG, CODE_REQUIRED, WRONG_CODE = "in", "wrong", "code required", "wrong code"
DISABLED, THROTTLED, BUSY = "disabled", "throttled", "busy"

HOME = "192.0.2.1"
"""Where requests come from, unless told otherwise."""

_SAID: dict[tuple[Verdict, Verdict], str] = {
    refusals.GRANTED: IN,
    refusals.WRONG_CREDENTIALS: WRONG,
    refusals.CODE_REQUIRED: CODE_REQUIRED,
    refusals.WRONG_CODE: WRONG_CODE,
    refusals.ACCOUNT_DISABLED: DISABLED,
    refusals.THROTTLED: THROTTLED,
    refusals.BUSY: BUSY,
}
_WORDS = {
    dialect: {verdicts[column]: word for verdicts, word in _SAID.items()}
    for column, dialect in enumerate((Auth, Console))
}
_T = TypeVar("_T")


def throttled(seconds: int) -> str:
    """The word for "try again in so many seconds"."""
    return f"{THROTTLED} {seconds}"


class Door:
    """Where to try a password: `door("a guess", "user")` says what came of it."""

    def __init__(self, send_from: Callable[[str], Send], *dialects: type[Auth | Console]) -> None:
        self._send_from = send_from
        self._dialects = cycle(dialects or (Auth, Console))

    def __call__(
        self, password: str, key: str = "user", *, code: str | None = None, at: str = HOME, forwarded: str | None = None
    ) -> str:
        """Try to log in, from the address `at`; return the verdict's word."""
        dialect = next(self._dialects)
        form = {dialect.name_parameter: key, "password": password, **({} if code is None else {"otp_code": code})}
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        answer = dialect(self._send_from(at)).call("POST", dialect.login_path, form=form, headers=headers)
        status, text = dialect.verdict(answer)
        word = _WORDS[dialect][status, text and re.sub(r"\d+", "{}", text)]
        if word == BUSY:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        if word != THROTTLED:
            return word
        (seconds,) = re.findall(r"\d+", str(text))
        assert answer.headers["Retry-After"] == seconds
        return throttled(int(seconds))


def door_of(app: Flask, *dialects: type[Auth | Console]) -> Door:
    """The door of an application in this process."""
    return Door(lambda address: in_process(app, address), *dialects)


def at_once(*acts: Callable[[], _T]) -> list[_T]:
    """Do all of them at the same moment, each in a thread; return what came of each."""
    barrier = Barrier(len(acts))

    def wait_and(act: Callable[[], _T]) -> _T:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(wait_and, acts))

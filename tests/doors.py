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

from tests.dialects import Auth, Console, Send, Verdict, in_process

IN, WRONG, CODE_REQUIRED, WRONG_CODE = "in", "wrong", "code required", "wrong code"
DISABLED, THROTTLED, BUSY = "disabled", "throttled", "busy"

HOME = "192.0.2.1"
"""Where requests come from, unless told otherwise."""

_WORDS: dict[type[Auth | Console], dict[Verdict, str]] = {
    Auth: {
        (200, None): IN,
        (403, "Wrong username or password."): WRONG,
        (403, "One-time code is required."): CODE_REQUIRED,
        (403, "Wrong one-time code."): WRONG_CODE,
        (403, "Account is disabled."): DISABLED,
        (429, "Too many failed logins. Try again in N seconds."): THROTTLED,
        (503, "Service is busy."): BUSY,
    },
    Console: {
        (200, "ok"): IN,
        (500, "账号或密码错误"): WRONG,
        (500, "请提供二步验证码"): CODE_REQUIRED,
        (500, "二步验证码错误"): WRONG_CODE,
        (500, "此账号已被禁用，如有疑问，请联系管理员"): DISABLED,
        (500, "登录失败次数过多，请 N 秒后再试"): THROTTLED,
        (500, "系统繁忙，请稍后再试"): BUSY,
    },
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
        word = _WORDS[dialect][status, text and re.sub(r"\d+", "N", text)]
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

"""Both dialects as one door, where the same verdict is the same word: what is promised of guessing is asked of each."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from tests.dialects import Answer, Auth, Console, Send, Verdict

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

    def __init__(self, dialect: type[Auth | Console], send_from: Callable[[str], Send]) -> None:
        self._dialect = dialect
        self._send_from = send_from

    def ask(
        self, password: str, key: str = "user", *, code: str | None = None, at: str = HOME, forwarded: str | None = None
    ) -> Answer:
        """Try to log in, from the address `at`."""
        dialect = self._dialect(self._send_from(at))
        form = {dialect.name_parameter: key, "password": password, **({} if code is None else {"otp_code": code})}
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        return dialect.call("POST", dialect.login_path, form=form, headers=headers)

    def __call__(
        self, password: str, key: str = "user", *, code: str | None = None, at: str = HOME, forwarded: str | None = None
    ) -> str:
        """Try to log in; return the verdict's word."""
        answer = self.ask(password, key, code=code, at=at, forwarded=forwarded)
        status, text = self._dialect.verdict(answer)
        word = _WORDS[self._dialect][status, text and re.sub(r"\d+", "N", text)]
        if word != THROTTLED:
            return word
        (seconds,) = re.findall(r"\d+", str(text))
        assert answer.headers["Retry-After"] == seconds
        return throttled(int(seconds))


def at_once(*acts: Callable[[], _T]) -> list[_T]:
    """Do all of them at the same moment, each in a thread; return what came of each."""
    barrier = Barrier(len(acts))

    def wait_and(act: Callable[[], _T]) -> _T:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(wait_and, acts))
